//! The log file: limited in size by rotation to a second one, shared by several processes, and never a reason
//! to exit.
//!
//! * A line is appended by one `write(2)`, so several processes can share the file.
//! * A file that is too large is renamed to `….1`, replacing the one before. All writers first check which file
//!   is there now, so they follow, even if something else renames it (logrotate).
//! * Standard output and error go there, too, if requested. Rust's `println!` panics when it cannot write, so
//!   while the file cannot be written they lead to `/dev/null`.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::ErrorKind::{Interrupted, PermissionDenied, StorageFull};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atomic_file::{Access, FileIdentity, close_to_others, is_in_other_hands, lets_others_replace};
use process::descriptors;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::installation::{LOG, LOG_BEFORE, LOGS};

/// Where lines go, and the one file before it.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes after which a new file is started.
    limit: u64,
    output: Output,
    /// The last line was not written completely.
    is_broken: bool,
    /// What other accounts could do in the folder.
    exposed: Option<Exposed>,
}

/// A folder that other accounts can write to, or could.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    /// Its permissions were tightened, since only this site uses it.
    Tightened(PathBuf),
    /// The owner chose it, so it keeps its mode, which is this.
    Left(PathBuf, u32),
}

impl Exposed {
    pub(super) fn log(&self) {
        match self {
            Exposed::Tightened(folder) => tracing::warn!(
                folder = %folder.display(),
                "Log folder was writable by other accounts; permissions tightened."
            ),
            Exposed::Left(folder, mode) => tracing::warn!(
                folder = %folder.display(),
                mode = %format_args!("{mode:o}"),
                "Log folder is writable by other accounts, which can replace the log. If you don't trust them, \
                 set log to a file in another folder; if only this site uses the folder, run `chmod go-w` on it."
            ),
        }
    }
}

/// How standard output and error relate to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// They are unrelated.
    Apart,
    /// They lead into the file.
    Redirected,
    /// They would, if the file could be written.
    Silenced,
}

impl LogFile {
    /// Opens the file for appending, with its folder if that is missing. `usual`: the default log
    /// file; its folder is closed to other accounts, every other folder keeps its mode.
    ///
    /// # Errors
    ///
    /// Any from the file system.
    pub(super) fn open(path: &Path, usual: Option<&Path>, limit: u64) -> io::Result<LogFile> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let exposed = match folder {
            Some(folder) => make(folder, usual.and_then(Path::parent) == Some(folder))?,
            None => None,
        };
        let (file, is_broken) = open(path)?;
        let path = path.to_owned();
        Ok(LogFile { path, file, limit, output: Output::Apart, is_broken, exposed })
    }

    /// Returns what other accounts could do in the folder; once.
    pub(super) fn take_exposed(&mut self) -> Option<Exposed> {
        self.exposed.take()
    }

    /// Redirects standard output and error into the file, too.
    ///
    /// # Errors
    ///
    /// Any from `dup2(2)`.
    pub(super) fn redirect_output(&mut self) -> io::Result<()> {
        descriptors::redirect_output(self.file.as_fd())?;
        self.output = Output::Redirected;
        Ok(())
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// Any from `write(2)`; part of the line may have been written.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.look(line.len() as u64);
        let appended = self.write(line);
        match (&appended, self.output) {
            (Err(_), Output::Redirected) => self.silence(),
            (Ok(()), Output::Silenced) => self.follow(),
            _ => {}
        }
        appended
    }

    /// Checks whether another file is there by now, and starts one if this is too large for `more` bytes. What
    /// was printed counts, too.
    pub(super) fn look(&mut self, more: u64) {
        let Ok(own) = self.file.metadata() else { return };
        let is_there = FileIdentity::of(&self.path) == Some(FileIdentity::from(&own));
        if is_there && (own.len() == 0 || own.len().saturating_add(more) <= self.limit) {
            return;
        }
        if is_there && !self.put_aside(&own) {
            return;
        }
        // If that fails, the old file has to do; the next line tries again.
        if let Ok((file, is_broken)) = open(&self.path) {
            self.file = file;
            self.is_broken = is_broken;
            self.follow();
        }
    }

    /// Renames the file that is too large; one of several processes does. Returns whether to start or follow
    /// another file.
    fn put_aside(&self, own: &Metadata) -> bool {
        let Ok(lock) = File::open(&self.path) else { return false };
        // Without locks, two processes might rename it at once, and the previous log would be lost.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return false;
        }
        // Another process may have done it while it held the lock.
        let is_still_there = FileIdentity::of(&self.path) == Some(FileIdentity::from(own));
        !is_still_there || fs::rename(&self.path, before(&self.path)).is_ok()
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() > self.limit.saturating_mul(2) {
            return Err(io::Error::other("too large, and cannot be rotated"));
        }
        let mended;
        let line = match self.is_broken {
            true => {
                mended = [b"\n", line].concat();
                &mended
            }
            false => line,
        };
        let written = loop {
            match self.file.write(line) {
                Err(error) if error.kind() == Interrupted => {}
                written => break written?,
            }
        };
        self.is_broken = written < line.len() && written > 0;
        match written == line.len() {
            true => Ok(()),
            // Only a full disk or a quota cuts a write to a file short.
            false => Err(StorageFull.into()),
        }
    }

    /// Lets standard output and error follow to the current file.
    fn follow(&mut self) {
        if self.output != Output::Apart && self.redirect_output().is_err() {
            self.output = Output::Silenced;
        }
    }

    fn silence(&mut self) {
        let null = OpenOptions::new().write(true).open("/dev/null");
        if null.and_then(|null| descriptors::redirect_output(null.as_fd())).is_ok() {
            self.output = Output::Silenced;
        }
    }
}

/// Creates the folder if it is missing, and closes the default one to other accounts.
fn make(folder: &Path, is_usual: bool) -> io::Result<Option<Exposed>> {
    DirBuilder::new().recursive(true).mode(LOGS.mode).create(folder)?;
    if is_usual && close_to_others(folder)? == Access::Tightened {
        return Ok(Some(Exposed::Tightened(folder.to_owned())));
    }
    Ok(lets_others_replace(folder).map(|mode| Exposed::Left(folder.to_owned(), mode)))
}

/// The path of the previous log file.
pub(super) fn before(path: &Path) -> PathBuf {
    LOG_BEFORE.beside(path)
}

/// Opens the file for its owner only: messages contain visitors' addresses and paths. Opening a pipe in its place does
/// not wait for a reader, and a file of another account is not written to. Also returns whether the last line is
/// incomplete: on a full disk, its writer may have exited before it could complete it.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|it| it.is_file() || it.is_symlink());
    if is_file && is_in_other_hands(path) {
        return Err(io::Error::new(
            PermissionDenied,
            "it belongs to another account, or others may write to it; remove it",
        ));
    }
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file =
        options.create(true).append(true).mode(LOG.mode).custom_flags(nonblocking).open(path)?;
    let reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    // What cannot be read, such as a terminal, has no incomplete lines of other processes.
    let is_broken = reader.and_then(|file| ends_within_a_line(&file)).unwrap_or(false);
    Ok((file, is_broken))
}

fn ends_within_a_line(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, found.len() - 1)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn two_files_have_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/log");
        let mut log = LogFile::open(&path, None, 100).unwrap();
        for number in 0..1000 {
            log.append(format!("line {number:>4}\n").as_bytes()).unwrap();
            assert!(read(&path).len() <= 100 && read(&before(&path)).len() <= 100);
        }
        let kept = read(&before(&path)) + &read(&path);
        let expected: String = (0..1000).map(|number| format!("line {number:>4}\n")).collect();
        assert!(kept.len() >= 100 && expected.ends_with(&kept), "{kept}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_larger_than_the_limit_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, None, 10).unwrap();
        log.append(&[b'a'; 15]).unwrap();
        log.append(b"b\n").unwrap();
        assert_eq!((read(&before(&path)).len(), read(&path)), (15, "b\n".to_owned()));
    }

    #[test]
    fn all_writers_follow_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut logs: Vec<_> = (0..3).map(|_| LogFile::open(&path, None, 1000).unwrap()).collect();
        for number in 0..300 {
            logs[number % 3].append(format!("line {number:>4}\n").as_bytes()).unwrap();
        }
        let kept = read(&before(&path)) + &read(&path);
        let expected: String = (0..300).map(|number| format!("line {number:>4}\n")).collect();
        assert!(kept.len() >= 1000 && expected.ends_with(&kept), "{kept}");
        // The same if something else renames or removes it.
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        logs[0].append(b"first\n").unwrap();
        logs[1].append(b"second\n").unwrap();
        assert_eq!(read(&path), "first\nsecond\n");
        fs::remove_file(&path).unwrap();
        logs[2].append(b"third\n").unwrap();
        logs[0].append(b"fourth\n").unwrap();
        assert_eq!(read(&path), "third\nfourth\n");
    }

    /// Such as /var/log, or a folder that a team shares.
    #[test]
    fn a_folder_that_the_owner_chose_keeps_its_mode() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("logs");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("log");
        let mode = || fs::metadata(&folder).unwrap().permissions().mode() & 0o7777;
        for (before, usual, after) in [
            (0o775, None, 0o775),
            (0o2775, None, 0o2775),
            (0o1777, None, 0o1777),
            (0o755, None, 0o755),
            (0o775, Some(&path), 0o755),
            (0o1777, Some(&path), 0o1777),
        ] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(before)).unwrap();
            let mut log = LogFile::open(&path, usual.map(PathBuf::as_path), 100).unwrap();
            assert_eq!(mode(), after, "{before:o} {usual:?}");
            let expected = match (before, usual) {
                (0o1777 | 0o755, _) => None,
                (_, None) => Some(Exposed::Left(folder.clone(), before)),
                (_, Some(_)) => Some(Exposed::Tightened(folder.clone())),
            };
            assert_eq!(log.take_exposed(), expected, "{before:o} {usual:?}");
            assert_eq!(log.take_exposed(), None, "it is said once");
        }
        let made = folder.join("made/log");
        assert_eq!(LogFile::open(&made, None, 100).unwrap().take_exposed(), None);
    }

    /// For example, the disk was full, and the process exited.
    #[test]
    fn an_incomplete_line_of_another_process_is_ended_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (found, expected) in
            [("", "ours\n"), ("whole\n", "whole\nours\n"), ("half a li", "half a li\nours\n")]
        {
            fs::write(&path, found).unwrap();
            LogFile::open(&path, None, 100).unwrap().append(b"ours\n").unwrap();
            assert_eq!(read(&path), expected);
            // The same in a file that it follows to.
            let mut log = LogFile::open(&path, None, 100).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, found).unwrap();
            log.append(b"ours\n").unwrap();
            assert_eq!(read(&path), expected, "followed");
        }
    }

    #[test]
    fn files_of_other_accounts_are_not_written_to() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("logs");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let path = folder.join("log");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let refused = LogFile::open(&path, Some(&path), 100).unwrap_err();
        assert!(refused.to_string().contains("remove it"), "{refused}");
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755, "nobody else puts anything there any more");
        fs::remove_file(&path).unwrap();
        LogFile::open(&path, None, 100).unwrap().append(b"ours\n").unwrap();
    }

    #[test]
    fn without_renaming_the_log_ends_at_twice_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, None, 100).unwrap();
        // A file cannot replace a folder that is not empty.
        fs::create_dir_all(before(&path).join("full")).unwrap();
        let appended = (0..100).filter(|_| log.append(b"a line\n").is_ok()).count();
        assert!(appended < 100 && read(&path).len() <= 220, "{appended}");
        fs::remove_dir_all(before(&path)).unwrap();
        log.append(b"again\n").unwrap();
        assert_eq!(read(&path), "again\n");
    }
}
