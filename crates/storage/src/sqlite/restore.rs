//! Puts a copy in the place of a store that other processes use.
//!
//! The order makes it safe to be killed at any moment: the copy is complete, checked and on disk; the store is locked as
//! SQLite locks it to write, so that nobody reads or writes and its journal is empty (or SQLite would roll it back into
//! the copy); the store gets a second name; the copy gets the store's.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_file::{FileIdentity, folder_of, foreign_owner};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;

use super::copy::Copy;
use super::migrate;
use crate::error::StoreError;
use crate::migrations::Expected;
use crate::session::next_statement;
use crate::session::refusal::{Refusal, broken};

/// How long the replaced file stays locked: a process that found the old file before it was replaced gets no lock on it,
/// and looks again. Nobody waits for that.
pub(super) const SETTLES: Duration = Duration::from_millis(500);

/// How often the lock is tried. On a busy site it is free only for moments.
pub(super) const TRIES_EVERY: Duration = Duration::from_millis(1);

/// What SQLite keeps beside a file.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Refuses what cannot be a backup by looking at it from outside.
pub(super) fn refuse_unsuitable(backup: &Path, store: &Path) -> Result<(), StoreError> {
    let refused = |why: String| Err(StoreError::NotRestorable { file: backup.to_owned(), why });
    let found = match fs::metadata(backup) {
        Ok(found) => found,
        Err(error) => return refused(error.to_string()),
    };
    if !found.is_file() {
        return refused("it is not a regular file".to_owned());
    }
    if FileIdentity::of(store) == Some(FileIdentity::from(&found)) {
        return refused("it is the store itself".to_owned());
    }
    match foreign_owner(backup, &found) {
        Ok(None) => {}
        Ok(Some(owner)) => return refused(owner.to_string()),
        Err(error) => return refused(error.to_string()),
    }
    if has_journal(backup) {
        let why = "it is in use or was left incomplete (there is a journal beside it); make the backup with \
                   the command `backup`";
        return refused(why.to_owned());
    }
    Ok(())
}

/// Returns whether there are changes beside a file that are not in it yet, or have to be rolled back.
pub(super) fn has_journal(file: &Path) -> bool {
    let journals = [BESIDE[0], BESIDE[1]].map(|suffix| with_suffix(file, suffix));
    journals.iter().any(|journal| fs::metadata(journal).is_ok_and(|found| found.len() > 0))
}

/// Copies the backup, private to the account of the store.
pub(super) fn fill(copy: &Copy, backup: &Path, store: &Path) -> Result<(), StoreError> {
    next_statement()?;
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(backup);
    let mut opened = opened.map_err(|error| StoreError::NotRestorable {
        file: backup.to_owned(),
        why: error.to_string(),
    })?;
    let path = copy.path();
    let filled = File::create_new(&path).and_then(|mut file| io::copy(&mut opened, &mut file));
    filled.map_err(|error| StoreError::file(&path, error))?;
    copy.complete(store)
}

/// Refuses what is not a store, not intact or of a newer program.
pub(super) fn examine(copy: &Copy, backup: &Path, known: &[Expected]) -> Result<(), StoreError> {
    let refused =
        |why: &str| Err(StoreError::NotRestorable { file: backup.to_owned(), why: why.to_owned() });
    match copy.check() {
        Err(StoreError::Damaged(found)) => return refused(&format!("it is damaged ({found})")),
        checked => checked?,
    }
    match is_store(copy, known) {
        Ok(true) if has_code(copy)? => {
            refused("it has triggers or views, which no migration has made")
        }
        Ok(true) => Ok(()),
        Ok(false) => refused("it is not a copy of a store"),
        Err(StoreError::Busy) => Err(StoreError::Busy),
        Err(error) => refused(&error.to_string()),
    }
}

/// Returns whether there is something in a copy that runs statements of its own when its tables are used.
fn has_code(copy: &Copy) -> Result<bool, StoreError> {
    let connection = Connection::open(copy.path()).map_err(broken)?;
    let look = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('trigger', 'view'))";
    connection.query_row(look, [], |row| row.get(0)).map_err(broken)
}

/// Returns whether a copy is one of a store, and of one in use; an error says why it is not.
pub(super) fn is_store(copy: &Copy, known: &[Expected]) -> Result<bool, StoreError> {
    let connection = Connection::open(copy.path()).map_err(broken)?;
    let is_store =
        migrate::refuse_unknown(&connection, known).map_err(|refusal| match refusal {
            Refusal::Busy => StoreError::Busy,
            Refusal::Failed(error) => error,
        })?;
    // So that its pages are all there is to it: a foreign program may have switched to WAL.
    next_statement()?;
    connection.execute_batch("PRAGMA journal_mode = DELETE").map_err(broken)?;
    Ok(is_store)
}

/// Gives a copy its name where nothing is.
pub(super) fn put_new(copy: &Copy, store: &Path) -> Result<(), StoreError> {
    let put = || {
        // What is left of a store that was removed does not belong to this one.
        for suffix in BESIDE {
            remove(&with_suffix(store, suffix))?;
        }
        next_step()?;
        fs::rename(copy.path(), store)?;
        sync(folder_of(store));
        Ok(())
    };
    put().map_err(|error| StoreError::file(store, error))
}

/// The lock of a process that writes: nobody else reads or writes.
pub(super) struct Lock {
    pub(super) file: File,
    path: PathBuf,
}

impl Lock {
    /// Locks a store; `None` while another process has a lock. There must be no connection to it in this process.
    pub(super) fn on(path: &Path) -> Result<Option<Lock>, StoreError> {
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path);
        let file = opened.map_err(|error| StoreError::file(path, error))?;
        // All bytes, so also those that SQLite locks.
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => return Ok(None),
            Err(_) => return Err(StoreError::NoLocks(folder_of(path).to_owned())),
        }
        let found = file.metadata().map_err(|error| StoreError::file(path, error))?;
        let is_current = FileIdentity::of(path) == Some(FileIdentity::from(&found));
        Ok(is_current.then(|| Lock { file, path: path.to_owned() }))
    }

    /// Lets a copy take the place of the locked file, which is kept under another name. Opens no other descriptor of the
    /// file: closing it would release the lock.
    pub(super) fn replace(&self, copy: &Copy, kept: &Path) -> Result<(), StoreError> {
        let replace = || {
            for suffix in BESIDE {
                remove(&with_suffix(kept, suffix))?;
            }
            let second = copy.path().with_extension("kept");
            next_step()?;
            if fs::hard_link(&self.path, &second).is_err() {
                // A file system without second names.
                io::copy(&mut &self.file, &mut File::create_new(&second)?)?;
                fs::set_permissions(&second, Permissions::from_mode(0o600))?;
            }
            next_step()?;
            fs::rename(&second, kept)?;
            for suffix in BESIDE {
                // Only if the store is damaged, and SQLite could not roll it back.
                let beside = with_suffix(&self.path, suffix);
                if fs::metadata(&beside).is_ok_and(|found| found.len() > 0) {
                    fs::rename(beside, with_suffix(kept, suffix))?;
                }
            }
            next_step()?;
            fs::rename(copy.path(), &self.path)?;
            sync(folder_of(&self.path));
            Ok(())
        };
        replace().map_err(|error| StoreError::file(&self.path, error))
    }
}

pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(suffix);
    path.into()
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Says whether a test wants the next step to fail.
fn next_step() -> io::Result<()> {
    next_statement().map_err(io::Error::other)
}

fn sync(folder: &Path) {
    // Some file systems cannot sync a folder; the content is safe anyway.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
