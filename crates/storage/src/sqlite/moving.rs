//! A file as the source or the target of a move to another place.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use atomic_file::{FileIdentity, folder_of};
use event_loop::time::pause;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::copy::Copy;
use super::{Sqlite, at_once, migrate, open, restore};
use crate::PATIENCE;
use crate::error::StoreError;
use crate::files::private_folder_of;
use crate::migrations::{self, MOVED, Schema};
use crate::session::refusal::{Refusal, refusal};
use crate::session::{Session, next_statement};

/// The suffix of a file that has moved.
pub const MOVED_SUFFIX: &str = "-moved";

/// Where a file counts its changes (SQLite's file format §1.3).
const CHANGES_AT: u64 = 24;

/// The source: nobody else can write, everybody can read.
pub(crate) struct Locked {
    // Closed before the file, whose end would release its locks.
    connection: Connection,
    file: File,
}

impl Locked {
    pub(crate) fn session(&self) -> Session<'_> {
        Session::Sqlite(&self.connection)
    }
}

/// The target, in a folder of its own.
pub(crate) struct Draft {
    connection: Connection,
    copy: Copy,
}

impl Draft {
    pub(crate) fn session(&self) -> Session<'_> {
        Session::Sqlite(&self.connection)
    }
}

/// Returns how often a file was changed.
fn changes(file: &File) -> std::io::Result<[u8; 4]> {
    let mut changes = [0; 4];
    file.read_exact_at(&mut changes, CHANGES_AT)?;
    Ok(changes)
}

impl Sqlite {
    /// Lets nobody else move this file, or something to its place, until the returned folder is closed; `None` while somebody
    /// else does. Where folders have no locks, nobody is kept from it.
    pub(crate) fn hold_moves(&self) -> Result<Option<File>, StoreError> {
        private_folder_of(&self.file, self.trust)?;
        let path = folder_of(&self.file);
        let folder = File::open(path).map_err(|error| StoreError::file(path, error))?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            _ => Ok(Some(folder)),
        }
    }

    pub(crate) async fn lock(&self) -> Result<Locked, StoreError> {
        let started = Instant::now();
        let file = File::open(&self.file).map_err(|error| StoreError::file(&self.file, error))?;
        let connection = failed(open::open(&self.file, self.trust))?;
        next_statement()?;
        while let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            match refusal(error) {
                Refusal::Failed(error) => return Err(error),
                Refusal::Busy if started.elapsed() >= PATIENCE => return Err(StoreError::Busy),
                Refusal::Busy => pause(restore::TRIES_EVERY).await,
            }
        }
        // Whoever had the lock before may have put another one in its place.
        let found = file.metadata().map_err(|error| StoreError::file(&self.file, error))?;
        if FileIdentity::of(&self.file) != Some(FileIdentity::from(&found)) {
            return Err(StoreError::ChangedMeanwhile);
        }
        Ok(Locked { connection, file })
    }

    pub(crate) fn draft(&self, schemas: &[Schema]) -> Result<Draft, StoreError> {
        private_folder_of(&self.file, self.trust)?;
        super::copy::remove_unfinished(&self.file);
        let copy = Copy::beside(&self.file)?;
        let mut connection = failed(open::open(&copy.path(), self.trust))?;
        run(&connection, "PRAGMA synchronous = OFF")?;
        for &schema in schemas {
            failed(migrate::migrate(&mut connection, schema))?;
        }
        run(&connection, "BEGIN")?;
        Ok(Draft { connection, copy })
    }

    pub(crate) fn publish(&self, draft: Draft) -> Result<(), StoreError> {
        run(&draft.connection, "COMMIT")?;
        drop(draft.connection);
        draft.copy.complete(&self.file)?;
        restore::put_new(&draft.copy, &self.file)
    }

    /// Puts a store in the place of the file that says that it has moved.
    pub(crate) async fn retire(&self, locked: Locked) -> Result<(), StoreError> {
        let copy = Copy::beside(&self.file)?;
        let sign = failed(open::open(&copy.path(), self.trust))?;
        let mark = format!(
            "PRAGMA application_id = {};
             {}; INSERT INTO migrations VALUES ('{MOVED}', 1, '', 0, 0)",
            migrate::APPLICATION_ID,
            migrations::TABLE
        );
        run(&sign, &mark)?;
        drop(sign);
        copy.complete(&self.file)?;
        // Between the end of this lock and the next one, somebody could write.
        let found = changes(&locked.file).map_err(|error| StoreError::file(&self.file, error))?;
        drop(locked);
        let is_expected = |file: &File| changes(file).is_ok_and(|changes| changes == found);
        self.replace(copy, MOVED_SUFFIX, is_expected).await.map(drop)
    }
}

fn run(connection: &Connection, script: &str) -> Result<(), StoreError> {
    at_once(Session::Sqlite(connection).run(script))
}

fn failed<T>(result: Result<T, Refusal>) -> Result<T, StoreError> {
    result.map_err(|refusal| match refusal {
        Refusal::Busy => StoreError::Busy,
        Refusal::Failed(error) => error,
    })
}
