//! Opens the file: makes folder (`../files.rs`) and file private to this account, and configures SQLite.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_file::folder_of;
use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use rustix::fs::FlockOperation;

use crate::error::StoreError;
use crate::files::{Trust, private_folder_of, refuse_foreign, refuse_odd};
use crate::session::refusal::{Refusal, refusal};

/// SQLite's configuration, for one thread and little memory. TRUNCATE ends a transaction by emptying the journal, which
/// is synced; DELETE would require syncing the folder as well.
const PRAGMAS: &str = "PRAGMA journal_mode = TRUNCATE;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -512;";

/// How many prepared statements are kept, a few KiB each.
const MAX_STATEMENTS: usize = 64;

/// Opens the file, and creates it if it is missing.
pub(super) fn open(file: &Path, trust: Trust) -> Result<Connection, Refusal> {
    make(file, trust)?;
    refuse_unusable(file)?;
    for name in beside(file) {
        if let Ok(found) = fs::metadata(&name) {
            close(&name, found.permissions().mode())?;
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).map_err(refusal)?;
    if connection.is_readonly(MAIN_DB).map_err(refusal)? {
        // SQLite falls back: for example to read-only, for a file that it cannot write.
        let error = io::Error::last_os_error();
        if !matches!(error.kind(), ReadOnlyFilesystem | PermissionDenied) {
            return Err(StoreError::file(file, error).into());
        }
    }
    connection.busy_timeout(Duration::ZERO).map_err(refusal)?;
    connection.execute_batch(PRAGMAS).map_err(refusal)?;
    connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
    Ok(connection)
}

/// Refuses the file, or one beside it that SQLite would use, if it is no file, which might block, or belongs to another
/// account: SQLite rolls a journal back into the store, no matter who wrote it.
///
/// # Errors
///
/// [`StoreError::File`] and [`StoreError::Foreign`].
pub(super) fn refuse_unusable(file: &Path) -> Result<(), StoreError> {
    let all = beside(file).into_iter().chain([file.to_owned()]);
    all.into_iter().try_for_each(|name| refuse_odd(&name).and_then(|()| refuse_foreign(&name)))
}

/// Returns the files that SQLite uses beside one.
fn beside(file: &Path) -> [PathBuf; 3] {
    ["-journal", "-wal", "-shm"].map(|suffix| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

/// How long reading waits for other processes' locks, which are short. No loop runs yet.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Opens the file read-only: nothing is created or migrated, and its tables may be those of any version. Waits
/// for locks, so not for use in a loop.
pub(super) fn look(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(READ_PATIENCE)?;
    Ok(connection)
}

/// Creates the folder (0700) and the file (0600) unless they exist; a file that others can read is made private. SQLite
/// gives its journal the file's mode.
fn make(file: &Path, trust: Trust) -> Result<(), StoreError> {
    private_folder_of(file, trust)?;
    refuse_odd(file)?;
    let mode = match fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not `create_new`: another process may be creating it as well.
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
            made.map_err(|error| StoreError::file(file, error))?;
            return Ok(());
        }
        Err(error) => return Err(StoreError::file(file, error)),
    };
    close(file, mode)
}

/// Removes the permissions of group and others from a file.
fn close(file: &Path, mode: u32) -> Result<(), StoreError> {
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "Store was readable by other accounts; permissions tightened.");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .map_err(|error| StoreError::file(file, error))?;
    }
    Ok(())
}

/// Checks whether the file system of the store has locks, on a separate file: closing any descriptor of the store's
/// file would release SQLite's.
///
/// # Errors
///
/// [`StoreError::NoLocks`] if it has none.
pub(super) fn has_locks(file: &Path) -> Result<(), StoreError> {
    let folder = folder_of(file);
    // A file without a name; on network file systems it has one that cannot be guessed.
    let probe = tempfile::tempfile_in(folder).map_err(|error| StoreError::file(folder, error))?;
    let locked = rustix::fs::fcntl_lock(&probe, FlockOperation::NonBlockingLockExclusive);
    match locked {
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            Err(StoreError::NoLocks(folder.to_owned()))
        }
        // Held by another process that checks the same: so there are locks.
        _ => Ok(()),
    }
}
