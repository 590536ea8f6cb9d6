//! What an error of SQLite's means for an attempt: another process has the lock, or a [`StoreError`] for the owner.

use std::io;
use std::path::Path;

use atomic_file::folder_of;
use rusqlite::ErrorCode;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::error::{SqlError, StoreError};

/// How an attempt failed.
pub(crate) enum Refusal {
    /// Another process has the lock: try again.
    Busy,
    /// Trying again is useless.
    Failed(StoreError),
}

impl Refusal {
    /// The failure of a statement that ran with the lock: "busy" is then no reason to wait.
    pub(crate) fn broken(error: rusqlite::Error) -> Refusal {
        Refusal::Failed(broken(error))
    }
}

/// The failure of a statement that ran with the lock.
pub(crate) fn broken(error: rusqlite::Error) -> StoreError {
    match refusal(error) {
        Refusal::Busy => StoreError::Busy,
        Refusal::Failed(error) => error,
    }
}

impl StoreError {
    /// Finds out which file or folder cannot be written, and why, if that is the error. SQLite itself only says
    /// "readonly", and the system's last error is from something that it tried later.
    pub(crate) fn at(self, file: &Path) -> StoreError {
        let concerns_files = match &self {
            StoreError::Disk { .. } => true,
            StoreError::Sql(error) => {
                matches!(error.sqlite_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
            }
            _ => false,
        };
        if !concerns_files {
            return self;
        }
        // The journal is created in the folder.
        let needed = [
            (folder_of(file), Access::WRITE_OK | Access::EXEC_OK),
            (file, Access::READ_OK | Access::WRITE_OK),
        ];
        let refused = needed.into_iter().find_map(|(path, needed)| {
            access(path, needed).err().map(|error| StoreError::file(path, error.into()))
        });
        refused.unwrap_or(self)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Failed(error)
    }
}

/// Distinguishes "not now" from "never". Call it before any other system call.
pub(crate) fn refusal(error: rusqlite::Error) -> Refusal {
    let system = io::Error::last_os_error();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
        ) => Refusal::Busy,
        // SQLite reports an unreadable page as a corrupt one. An owner who then removed the file would lose its
        // contents.
        Some(code) if is_system_error(code, &system) => {
            Refusal::Failed(StoreError::Disk { said: error.to_string(), error: system })
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Refusal::Failed(StoreError::Damaged(error.to_string()))
        }
        Some(ErrorCode::DiskFull) => Refusal::Failed(StoreError::Full),
        _ => Refusal::Failed(SqlError::sqlite(error).into()),
    }
}

/// Returns whether the system's last error is the reason, as far as that can be known.
fn is_system_error(code: ErrorCode, system: &io::Error) -> bool {
    // Errors of read(2) that SQLite reports as corruption.
    const UNREADABLE: [Errno; 3] = [Errno::IO, Errno::NXIO, Errno::RANGE];
    // Errors of what SQLite does afterwards: it looks for files that do not exist, and uses one that it has not opened.
    const LATER: [Errno; 2] = [Errno::NOENT, Errno::BADF];
    let is_one_of = |errors: &[Errno]| {
        Errno::from_io_error(system).is_some_and(|error| errors.contains(&error))
    };
    match code {
        ErrorCode::DatabaseCorrupt => is_one_of(&UNREADABLE),
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure => {
            !is_one_of(&LATER)
        }
        _ => false,
    }
}
