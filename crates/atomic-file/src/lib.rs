//! Files that are written completely or not at all, even in a folder that others can write to.
//!
//! The content goes to a temporary file beside the target, which is then renamed to the target. The temporary
//! file has a name that cannot be guessed, is created with `O_EXCL` (so it is never a file or link that
//! another account put there) and mode 600, and gets its final mode once it is complete. The target is replaced,
//! not written to: if it is a link, the link is replaced and what it points to is untouched. On any failure the
//! target is unchanged and the temporary file is removed.
//!
//! Anyone who may write to the folder can replace a finished file, unless the folder is sticky. Callers for
//! whom that matters ask [`lets_others_replace`] first.
//!
//! [`replace`] and [`create`] write the content in one call; a [`Draft`] takes it as it arrives.
//!
//! `access.rs` says which other accounts can affect a file, and reads files that any account may have put there;
//! `draft.rs` has the temporary file; `identity.rs` says whether two paths name the same file.
//!
//! *Absent on purpose*: locks (the later of two writers wins), owner and group.

#![forbid(unsafe_code)]

mod access;
mod draft;
mod identity;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempPath;

pub use access::{
    Access, ForeignOwner, close_to_others, foreign_owner, is_foreign, is_in_other_hands,
    lets_others_replace, read_small,
};
pub use draft::Draft;
pub use identity::FileIdentity;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Whether the content must be on disk before the file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After a power cut the file is either the old or the new one. Waits for the disk.
    Synced,
    /// After a power cut the file may also be empty or truncated: for content that can be recreated.
    Cached,
}

/// Replaces or creates the file at `path`, with mode `mode` (as for chmod, regardless of the umask).
///
/// # Errors
///
/// Any from `write` or the file system; `InvalidInput` if `path` does not name a file, or names something that
/// is neither a file nor a link, such as a folder or `/dev/null`. The target is then unchanged.
pub fn replace(
    path: &Path,
    mode: u32,
    durability: Durability,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    if let Ok(found) = fs::symlink_metadata(path)
        && !found.is_file()
        && !found.is_symlink()
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let written = write_beside(path, mode, durability, write)?;
    written.persist(path)?;
    sync_folder(path, durability);
    Ok(())
}

/// Creates the file at `path` like [`replace`], unless one exists, which is then kept.
///
/// If the file system has neither `renameat2(2)` nor links, two simultaneous calls may both succeed, and the
/// later file is kept.
///
/// # Errors
///
/// `AlreadyExists`; otherwise as for [`replace`].
pub fn create(
    path: &Path,
    mode: u32,
    durability: Durability,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let written = write_beside(path, mode, durability, write)?;
    match written.persist_noclobber(path) {
        Ok(()) => {}
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(failed.error);
        }
        Err(failed) if fs::symlink_metadata(path).is_err() => failed.path.persist(path)?,
        Err(failed) => return Err(failed.error),
    }
    sync_folder(path, durability);
    Ok(())
}

/// Writes the temporary file and closes it: a program that is open for writing cannot be executed.
fn write_beside(
    path: &Path,
    mode: u32,
    durability: Durability,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<TempPath> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
    };
    let mut draft = Draft::create_in(folder_of(path), name)?;
    write(draft.file())?;
    draft.complete(mode, durability)?;
    Ok(draft.close())
}

/// Syncs the new name to disk, too. Some file systems cannot sync a folder; the content is safe anyway.
fn sync_folder(path: &Path, durability: Durability) {
    if durability == Durability::Synced {
        let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    }
}

/// Returns the folder that a file is in: `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn text(text: &'static str) -> impl FnOnce(&mut File) -> io::Result<()> {
        move |file| file.write_all(text.as_bytes())
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_written_completely_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, 0o640, Durability::Synced, text("first")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        let full = |file: &mut File| {
            file.write_all(b"sec")?;
            Err(io::Error::other("the disk is full"))
        };
        assert!(replace(&path, 0o600, Durability::Synced, full).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        replace(&path, 0o755, Durability::Cached, text("#!/bin/sh\n")).unwrap();
        assert!(std::process::Command::new(&path).status().unwrap().success(), "it can be run");
        assert_eq!(names(folder.path()), ["file"], "nothing is left over");
    }

    #[test]
    fn create_keeps_an_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, 0o600, Durability::Synced, text("first")).unwrap();
        let again = create(&path, 0o600, Durability::Synced, text("second")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        // A link counts as existing, even a dangling one.
        let link = folder.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert!(create(&link, 0o600, Durability::Synced, text("x")).is_err());
        assert!(!folder.path().join("nowhere").exists());
        fs::remove_file(link).unwrap();
        assert_eq!(names(folder.path()), ["file"], "nothing is left over");
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("file"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        replace(&path, 0o600, Durability::Synced, text("new")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn only_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&inner, &socket, Path::new("/"), Path::new("..")] {
            let refused = replace(path, 0o600, Durability::Cached, text("x")).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
        let long = folder.path().join("x".repeat(250));
        replace(&long, 0o600, Durability::Cached, text("x")).unwrap();
        assert!(replace(Path::new("/nowhere/file"), 0o600, Durability::Cached, text("x")).is_err());
        assert_eq!(names(folder.path()).len(), 3, "nothing is left over");
    }

    /// Watches a folder as fast as it can; a file that others may read must have all of its content.
    #[test]
    fn others_cannot_read_an_incomplete_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut incomplete, mut open_to_others) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    for entry in fs::read_dir(folder.path()).unwrap().flatten() {
                        let Ok(found) = entry.metadata() else { continue };
                        if entry.file_name() != "file" {
                            incomplete += 1;
                            if found.mode() & 0o077 != 0 && found.len() < 4 {
                                open_to_others.push(entry.file_name());
                            }
                        }
                    }
                }
                (incomplete, open_to_others)
            });
            for _ in 0..300 {
                let slowly = |file: &mut File| {
                    for piece in [b"a", b"b", b"c", b"d"] {
                        file.write_all(piece)?;
                        file.sync_all()?;
                    }
                    Ok(())
                };
                replace(&path, 0o644, Durability::Cached, slowly).unwrap();
            }
            over.store(true, Ordering::Relaxed);
            let (seen, open_to_others) = watcher.join().unwrap();
            assert!(seen > 0, "the watcher saw nothing");
            assert!(open_to_others.is_empty(), "{open_to_others:?}");
        });
    }

    #[test]
    fn temporary_names_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let path = folder.path().join("file");
            replace(&path, 0o600, Durability::Cached, |_| {
                let names = names(folder.path()).into_iter().filter(|name| name != "file");
                seen.extend(names);
                Ok(())
            })
            .unwrap();
        }
        assert!(seen.iter().all(|name| name.starts_with(".file.") && name.len() == 28), "{seen:?}");
        // The characters at the end are not from the system's randomness and can be predicted.
        let random: BTreeSet<_> = seen.iter().map(|name| &name[..22]).collect();
        assert_eq!(random.len(), 50, "{seen:?}");
    }
}
