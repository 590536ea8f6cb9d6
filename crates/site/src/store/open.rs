//! Opening the store: the folder and the file are this account's alone, and SQLite is told how to behave.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::FlockOperation;

use super::error::{Refusal, StoreError, refusal};
use super::migrations::migrate;

/// How SQLite is to behave, for one thread and little memory. TRUNCATE ends a transaction by emptying the
/// journal, which is synced; DELETE would need the folder synced, too.
const BEHAVIOUR: &str = "PRAGMA journal_mode = TRUNCATE;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -512;";

/// Opens the file, and makes it when it is missing.
pub(super) fn open(file: &Path) -> Result<Connection, Refusal> {
    make(file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(refusal)?;
    connection.busy_timeout(std::time::Duration::ZERO).map_err(refusal)?;
    connection.execute_batch(BEHAVIOUR).map_err(refusal)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Makes the folder (0700) and the file (0600) unless they are there; a file that others may read is closed
/// to them. SQLite gives its journal the file's mode.
fn make(file: &Path) -> Result<(), StoreError> {
    let mode = match fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder_of(file)?;
            // Not `create_new`: another process may be making it, too.
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
            made.map_err(|error| StoreError::file(file, error))?;
            return Ok(());
        }
        Err(error) => return Err(StoreError::file(file, error)),
    };
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{} could be read by other accounts; it is closed to them now.",
            file.display()
        );
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .map_err(|error| StoreError::file(file, error))?;
    }
    Ok(())
}

/// Makes the folder of a file, for this account alone.
pub(crate) fn make_folder_of(file: &Path) -> Result<(), StoreError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| StoreError::file(folder, error))
}

/// Asks whether the file system of the store has locks, on a file of its own: closing any descriptor of the
/// store's file would let go of SQLite's.
///
/// # Errors
/// [`StoreError::NoLocks`] when it has none.
pub(super) fn has_locks(file: &Path) -> Result<(), StoreError> {
    let probe = beside(file, "locks");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe);
    let opened = opened.map_err(|error| StoreError::file(&probe, error))?;
    let locked = rustix::fs::fcntl_lock(&opened, FlockOperation::NonBlockingLockExclusive);
    // A leftover is empty and harmless.
    let _ = fs::remove_file(&probe);
    match locked {
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            Err(StoreError::NoLocks(file.parent().unwrap_or(file).to_owned()))
        }
        // Taken by another process that asks the same: so there are locks.
        _ => Ok(()),
    }
}

/// A name beside a file that no other process uses.
fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}-{}", std::process::id()));
    file.with_file_name(name)
}

/// A file in the making, removed unless it is finished.
pub(super) struct Unfinished {
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    /// Makes an empty file beside `target`, for this account alone.
    pub(super) fn beside(target: &Path) -> Result<Self, StoreError> {
        let unfinished = Unfinished { path: beside(target, "unfinished"), finished: false };
        unfinished.empty()?;
        Ok(unfinished)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Empties it: SQLite writes a copy only into an empty file.
    pub(super) fn empty(&self) -> Result<(), StoreError> {
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path);
        opened.map(drop).map_err(|error| StoreError::file(&self.path, error))
    }

    /// Sees to it that it is on the disk and gives it its name.
    pub(super) fn finish(mut self, target: &Path) -> Result<(), StoreError> {
        let synced = File::open(&self.path).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::file(&self.path, error))?;
        fs::rename(&self.path, target).map_err(|error| StoreError::file(target, error))?;
        self.finished = true;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A name that a power cut loses is written again by the next backup.
        let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // It may not have been made.
            let _ = fs::remove_file(&self.path);
        }
    }
}
