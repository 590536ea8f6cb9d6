//! Which other accounts on the machine can affect a file or its folder.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::folder_of;

/// Write permission for the group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// In a sticky folder, such as `/tmp`, everyone may create files but only remove their own.
const STICKY: u32 = 0o1000;

/// What [`close_to_others`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No other account except root can write there.
    Private,
    /// Others could write there, but no longer can.
    Tightened,
    /// The folder belongs to this other account, the only other one that can write there.
    Foreign(u32),
    /// Others still can write there, because the folder belongs to another account, is sticky (shared on purpose), or
    /// is on a file system without modes. Contains its mode.
    Open(u32),
}

/// Removes the write permission of the group and others from a folder of this account.
///
/// # Errors
///
/// If the folder does not exist or cannot be checked.
pub fn close_to_others(folder: &Path) -> io::Result<Access> {
    let found = fs::metadata(folder)?;
    if found.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(match is_foreign(&found) {
            true => Access::Foreign(found.uid()),
            false => Access::Private,
        });
    }
    let is_ours = found.uid() == own_account() && found.mode() & STICKY == 0;
    let closed = Permissions::from_mode(found.mode() & 0o7777 & !WRITABLE_BY_OTHERS);
    // Some file systems (CIFS) accept the change without making it.
    let is_closed = || fs::metadata(folder).is_ok_and(|it| it.mode() & WRITABLE_BY_OTHERS == 0);
    match is_ours && fs::set_permissions(folder, closed).is_ok() && is_closed() {
        true => Ok(Access::Tightened),
        false => Ok(Access::Open(found.mode() & 0o7777)),
    }
}

/// Returns whether another account, except root, created or can change what is at `path`: a file, a folder, or a link
/// itself. `false` if nothing is there.
pub fn is_in_other_hands(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        is_foreign(&found) || !found.is_symlink() && found.mode() & WRITABLE_BY_OTHERS != 0
    })
}

/// Returns whether a file belongs to another account than this one, except root.
pub fn is_foreign(found: &Metadata) -> bool {
    ![own_account(), 0].contains(&found.uid())
}

/// The account of a file that may have been put there against the owner's will. Displays as the end of a sentence about
/// the file, with what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignOwner(u32);

impl fmt::Display for ForeignOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "it belongs to another account (uid {}), and others can create files in its folder; if you trust it, make \
             this account its owner",
            self.0
        )
    }
}

/// Returns the account that a file, or the link in its place, belongs to, if it may have put it there against the
/// owner's will: where others can create files (`/tmp`), anybody can choose what is found under a name. Such an account
/// is neither this one, nor root, nor the owner of the folder or of the running program.
///
/// `found` is of the file after it was opened, so that it cannot be replaced in between.
///
/// # Errors
///
/// If the file or its folder is missing or cannot be examined.
pub fn foreign_owner(path: &Path, found: &Metadata) -> io::Result<Option<ForeignOwner>> {
    let folder = fs::metadata(folder_of(path))?;
    if folder.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(None);
    }
    // Without /proc, the running program's owner is nobody special.
    let program = fs::metadata("/proc/self/exe").map_or(0, |program| program.uid());
    let trusted = [own_account(), 0, folder.uid(), program];
    let owners = [fs::symlink_metadata(path)?.uid(), found.uid()];
    Ok(owners.into_iter().find(|owner| !trusted.contains(owner)).map(ForeignOwner))
}

/// Returns the mode of a folder in which another account can replace this account's files: others may write to it and
/// it is not sticky, or it belongs to another account (except root; and for root, any owner is fine). `None` otherwise,
/// and for a folder that cannot be checked. Does not check the folders above it.
pub fn lets_others_replace(folder: &Path) -> Option<u32> {
    let found = fs::metadata(folder).ok()?;
    let is_foreign = is_foreign(&found) && own_account() != 0;
    let is_open = found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0;
    (is_foreign || is_open).then_some(found.mode() & 0o7777)
}

/// Reads a small file whole. Safe even if another account can create a file of that name: opening a pipe without a
/// writer would block, and a device may be endless.
///
/// # Errors
///
/// If it cannot be read; `InvalidInput` if it is not a regular file; `FileTooLarge` if it is longer than
/// `limit` bytes.
pub fn read_small(file: &Path, limit: u64) -> io::Result<(File, Vec<u8>)> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(file)?;
    let found = opened.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; remove it"));
    }
    let mut content = Vec::new();
    (&opened).take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    Ok((opened, content))
}

fn own_account() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_ours_is_closed_to_others_and_a_shared_one_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for (mode, found, after) in [
            (0o700, Access::Private, 0o700),
            (0o755, Access::Private, 0o755),
            (0o777, Access::Tightened, 0o755),
            (0o775, Access::Tightened, 0o755),
            (0o757, Access::Tightened, 0o755),
            (0o1777, Access::Open(0o1777), 0o1777),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            assert_eq!(close_to_others(&folder).unwrap(), found, "{mode:o}");
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, after, "{mode:o}");
        }
        assert!(close_to_others(&folder.join("missing")).is_err());
        // Only root can give folders away, and it could still change their mode.
        if own_account() == 0 {
            fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
            std::os::unix::fs::chown(&folder, Some(4242), None).unwrap();
            assert_eq!(close_to_others(&folder).unwrap(), Access::Open(0o777));
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o777);
            fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(close_to_others(&folder).unwrap(), Access::Foreign(4242));
        }
    }

    #[test]
    fn files_of_accounts_that_own_neither_folder_nor_program_are_foreign() {
        use std::os::unix::fs::{chown, lchown, symlink};
        if own_account() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let foreign = |path: &Path| foreign_owner(path, &fs::metadata(&file)?);
        assert!(foreign(&folder.path().join("missing/file")).is_err());
        for (mode, folders, files, links, expected) in [
            (0o1777, 0, 0, 0, None),
            (0o1777, 0, 4242, 0, Some(4242)),
            (0o1777, 0, 0, 4242, Some(4242)),
            (0o1777, 4242, 4242, 4242, None),
            (0o775, 4242, 0, 4243, Some(4243)),
            // Nobody else can create files there.
            (0o755, 0, 4242, 4242, None),
        ] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            chown(folder.path(), Some(folders), None).unwrap();
            chown(&file, Some(files), None).unwrap();
            lchown(&link, Some(links), None).unwrap();
            let found = foreign(&link).unwrap();
            assert_eq!(found, expected.map(ForeignOwner), "{mode:o} {folders} {files} {links}");
        }
    }

    #[test]
    fn files_that_others_created_or_can_change_are_in_other_hands() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(!is_in_other_hands(&file), "it is missing");
        fs::write(&file, "").unwrap();
        for (mode, expected) in [(0o600, false), (0o644, false), (0o666, true), (0o620, true)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_in_other_hands(&file), expected, "{mode:o}");
        }
        assert!(!is_in_other_hands(Path::new("/etc")), "root does not count");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(!is_in_other_hands(&link));
        // Only root can give files away.
        if own_account() == 0 {
            std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
            assert!(is_in_other_hands(&link));
        }
    }

    #[test]
    fn files_can_be_replaced_in_a_folder_that_others_can_write_to_unless_it_is_sticky() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("folder");
        assert_eq!(lets_others_replace(&folder), None, "it is missing");
        fs::create_dir(&folder).unwrap();
        for (mode, expected) in [
            (0o700, None),
            (0o755, None),
            (0o1777, None),
            (0o777, Some(0o777)),
            (0o775, Some(0o775)),
            (0o2757, Some(0o2757)),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            assert_eq!(lets_others_replace(&folder), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_small_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read_small(&file, 5).unwrap().1, b"12345");
        let errors = [read_small(&file, 4), read_small(Path::new("/dev/zero"), 4)];
        assert!(errors.iter().all(Result::is_err));
        let odd = read_small(Path::new("/dev/null"), 4).unwrap_err();
        assert_eq!(odd.kind(), io::ErrorKind::InvalidInput);
    }
}
