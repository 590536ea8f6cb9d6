//! The files of crashes in the state folder: what happened on this machine, and on others.
//!
//! For each crash the signal handler appends a line to [`CRASHES_FILE`], in one write: seconds since 1970, a space, the
//! part. No lock is needed: a lost line costs one more crash. A program that serves one site on several machines may
//! share its crashes ([`recent_crashes`]) and leave those of the others in [`CRASHES_ELSEWHERE_FILE`]
//! ([`set_crashes_elsewhere`]): lines of the same form, with the machine's name before the part. How they get
//! there is the program's business. `quarantine.rs` says what follows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use atomic_file::{Durability, is_in_other_hands, read_small};
use rustix::fs::OFlags;

/// Crashes that are longer ago count for nothing (`quarantine.rs`).
pub(super) const REMEMBERED_SECONDS: u64 = 90;

/// How much of a file's end is read: about 200 crashes.
const TAIL_BYTES: u64 = 8 * 1024;

/// The file of crashes in [`Settings::state_folder`](crate::Settings::state_folder). When it has grown too large it is
/// renamed, with `.old` appended.
pub const CRASHES_FILE: &str = "crashes";

/// The file of crashes before the present one.
pub const OLD_CRASHES_FILE: &str = "crashes.old";

/// The file of crashes on the site's other machines, in the same folder. It is there only if a program writes it.
pub const CRASHES_ELSEWHERE_FILE: &str = "crashes.elsewhere";

/// A crash on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// When it was: seconds since 1970.
    pub second: u64,
    /// The part that crashed.
    pub part: String,
    /// Where its line starts in the file, in bytes: distinguishes it from others of the same second.
    pub position: u64,
}

/// A crash on another machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrashElsewhere {
    /// When it was by this machine's clock: seconds since 1970.
    pub second: u64,
    /// The name of that machine.
    pub node: String,
    /// The part that crashed.
    pub part: String,
}

/// Returns the crashes on this machine that still count for a quarantine, oldest line first. None if the file is missing,
/// or if other accounts can write to it.
///
/// # Errors
///
/// If the file cannot be read.
pub fn recent_crashes(state_folder: &Path) -> io::Result<Vec<Crash>> {
    let file = file_in(state_folder);
    match is_in_other_hands(&file) {
        true => Ok(Vec::new()),
        false => ok_if_missing(here(&file, now())),
    }
}

/// Replaces what is known of crashes on other machines; those that no longer count are left out. All processes of this
/// machine's site read it within a second. The file is changed only if its content is, and removed if there are none.
///
/// # Errors
///
/// If the file cannot be written or removed.
pub fn set_crashes_elsewhere(state_folder: &Path, crashes: &[CrashElsewhere]) -> io::Result<()> {
    let file = elsewhere_in(state_folder);
    let now = now();
    let mut crashes: Vec<_> = crashes.iter().filter(|crash| is_recent(crash.second, now)).collect();
    crashes.sort_unstable();
    let mut text = String::new();
    for CrashElsewhere { second, node, part } in crashes {
        // What would read as something else.
        if !node.is_empty() && !node.contains([' ', '\n']) && !part.contains('\n') {
            text += &format!("{second} {node} {part}\n");
        }
    }
    if text.is_empty() {
        return ok_if_missing(fs::remove_file(file));
    }
    let is_there =
        || read_small(&file, text.len() as u64).is_ok_and(|(_, it)| it == text.as_bytes());
    if !is_in_other_hands(&file) && is_there() {
        return Ok(());
    }
    let write = |file: &mut File| file.write_all(text.as_bytes());
    atomic_file::replace(&file, 0o600, Durability::Cached, write)
}

/// Returns the path of the file of crashes in a state folder.
pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join(CRASHES_FILE)
}

/// Returns the path of the file of crashes on other machines.
pub(super) fn elsewhere_in(folder: &Path) -> PathBuf {
    folder.join(CRASHES_ELSEWHERE_FILE)
}

/// Reads the recent crashes on this machine.
pub(super) fn here(file: &Path, now: u64) -> io::Result<Vec<Crash>> {
    let (mut position, bytes) = tail(file)?;
    let mut crashes = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some((second, part)) = parsed(line, now) {
            crashes.push(Crash { second, part, position });
        }
        position += line.len() as u64;
    }
    Ok(crashes)
}

/// Reads the recent crashes on other machines.
pub(super) fn elsewhere(file: &Path, now: u64) -> io::Result<Vec<CrashElsewhere>> {
    let (_, bytes) = tail(file)?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let crash = |line| {
        let (second, rest) = parsed(line, now)?;
        let (node, part) = rest.split_once(' ')?;
        Some(CrashElsewhere { second, node: node.to_owned(), part: part.to_owned() })
    };
    Ok(lines.filter_map(crash).collect())
}

/// Reads the end of the file, and where that starts. Opening a pipe without a writer would block.
fn tail(file: &Path) -> io::Result<(u64, Vec<u8>)> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(file)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; remove it"));
    }
    let start = found.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(2 * TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok((start, bytes))
}

/// Returns the second of a line and what follows it, if it is recent. `None` for malformed lines: the first one may be
/// truncated.
fn parsed(line: &[u8], now: u64) -> Option<(u64, String)> {
    let line = String::from_utf8_lossy(line.strip_suffix(b"\n")?);
    let (second, rest) = line.split_once(' ')?;
    let second = second.parse().ok().filter(|second| is_recent(*second, now))?;
    Some((second, rest.to_owned()))
}

/// A clock that was ahead must not disable a part forever.
fn is_recent(second: u64, now: u64) -> bool {
    (now.saturating_sub(REMEMBERED_SECONDS)..=now + 5).contains(&second)
}

fn ok_if_missing<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn recent_crashes_are_told_apart_by_where_they_are_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(recent_crashes(folder.path()).unwrap(), [], "there is no file");
        let now = now();
        let old = now - REMEMBERED_SECONDS - 1;
        let text = format!("{old} a\n{now} a\nnonsense\n\n{} a\n{now} a b\n{now} a", now + 100);
        fs::write(file_in(folder.path()), &text).unwrap();
        let crash = |part: &str, position: &str| Crash {
            second: now,
            part: part.to_owned(),
            position: text.find(position).unwrap() as u64,
        };
        let expected =
            [crash("a", &format!("{now} a\nnonsense")), crash("a b", &format!("{now} a b"))];
        assert_eq!(recent_crashes(folder.path()).unwrap(), expected, "{text}");
        // From the end of a long file.
        fs::write(file_in(folder.path()), "1 x\n".repeat(10_000) + &text).unwrap();
        let found = recent_crashes(folder.path()).unwrap();
        let positions = found.iter().map(|crash| crash.position - 40_000);
        assert!(positions.eq(expected.iter().map(|crash| crash.position)), "{found:?}");
        fs::set_permissions(file_in(folder.path()), fs::Permissions::from_mode(0o622)).unwrap();
        assert_eq!(recent_crashes(folder.path()).unwrap(), [], "others can write to it");
    }

    #[test]
    fn crashes_elsewhere_are_one_private_file_that_changes_only_if_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = elsewhere_in(folder.path());
        let now = now();
        let crash = |second, node: &str, part: &str| {
            let (node, part) = (node.to_owned(), part.to_owned());
            CrashElsewhere { second, node, part }
        };
        let set = |crashes: &[CrashElsewhere]| set_crashes_elsewhere(folder.path(), crashes);
        set(&[]).unwrap();
        let old = now - REMEMBERED_SECONDS - 60;
        set(&[crash(old, "a", "x"), crash(now, "a\n1", "x"), crash(now, "a", "x\n1 a x")]).unwrap();
        assert!(!file.exists());

        let crashes = [crash(now - 1, "a", "x"), crash(now, "b", "x y")];
        set(&crashes).unwrap();
        assert_eq!(elsewhere(&file, now).unwrap(), crashes);
        let found = fs::metadata(&file).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        // Whatever the order is.
        set(&[crashes[1].clone(), crashes[0].clone()]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), found.ino(), "nothing has changed");
        set(&crashes[..1]).unwrap();
        assert_eq!(elsewhere(&file, now).unwrap(), crashes[..1]);

        // What another account may have put there is replaced.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        set(&crashes[..1]).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        set(&[]).unwrap();
        assert!(!file.exists());
        assert!(set_crashes_elsewhere(Path::new("/nowhere"), &crashes).is_err());
    }
}
