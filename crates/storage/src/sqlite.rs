//! SQLite: one file that all processes of a site share.
//!
//! How it works with one thread and many processes:
//!
//! - A rollback journal, because WAL needs shared memory, which network file systems lack.
//! - SQLite never waits (`busy_timeout` 0): its sleep would block the loop. While another process holds the lock, the
//!   loop's timer retries, for at most [`PATIENCE`].
//! - A closure is polled once, with the lock held: it cannot await anything but its own statements, which are ready at
//!   once.
//! - A write takes the exclusive lock first: once started, it cannot meet "busy", and its closure runs once.
//! - What a write has acknowledged is on disk (`synchronous` FULL): killing any process at any moment loses none of it.
//! - A write waits for the disk, and the loop with it: there is one write per turn of the loop.
//! - The connection belongs to one process. After a fork it is leaked, not closed, and opened again.
//! - A file that replaced ours (a restored backup) is noticed and opened.
//!
//! Opening is in `sqlite/open.rs`, migrating in `migrate.rs`, copies in `copy.rs`; how statements are run and what
//! SQLite's errors mean is in `session/`.

pub(crate) mod copy;
mod migrate;
mod open;

use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use atomic_file::FileIdentity;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, TransactionBehavior};

use crate::PATIENCE;
use crate::error::{SqlError, StoreError};
use crate::files::{Trust, refuse_replaceable};
use crate::migrations::{self, Schema};
use crate::pauses::Pauses;
use crate::session::refusal::{Refusal, broken, refusal};
use crate::session::{Session, next_statement};
use crate::transaction::{Snapshot, Transaction};

/// After how many refusals to check whether the file system has locks at all.
const REFUSALS_BEFORE_DOUBT: u32 = 6;

/// A store in a file. Opened when it is first used.
pub(crate) struct Sqlite {
    file: PathBuf,
    trust: Trust,
    open: Mutex<Option<Open>>,
    /// The turn of the loop with the last write.
    written_in: AtomicU64,
}

/// An open connection, and which process and file it belongs to.
struct Open {
    /// The process that opened it.
    pid: u32,
    file: Option<FileIdentity>,
    connection: Connection,
    /// The schemas whose tables are known to be there.
    schemas: Vec<Schema>,
}

impl Sqlite {
    pub(crate) fn new(file: PathBuf, trust: Trust) -> Self {
        Sqlite { file, trust, open: Mutex::default(), written_in: AtomicU64::new(u64::MAX) }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Runs a closure on one snapshot. The tables of the schema are there first.
    pub(crate) async fn read<T>(
        &self,
        schema: Option<Schema>,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = |connection: &mut Connection| {
            next_statement()?;
            tracing::trace!(sql = "BEGIN", "Statement.");
            let transaction = connection.unchecked_transaction().map_err(refusal)?;
            // The first statement that reads takes the lock; from then on nothing is busy.
            transaction
                .query_row("SELECT count(*) FROM sqlite_schema WHERE 0", [], |_| Ok(()))
                .map_err(refusal)?;
            let snapshot = Snapshot::new(Session::Sqlite(&transaction));
            let found = snapshot.outcome(at_once(look(&snapshot)))?;
            next_statement()?;
            transaction.commit().map_err(Refusal::broken)?;
            Ok(found)
        };
        self.attempts(schema, attempt).await
    }

    /// Runs a closure that makes one change.
    pub(crate) async fn write<T>(
        &self,
        schema: Schema,
        change: impl AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = |connection: &mut Connection| {
            next_statement()?;
            tracing::trace!(sql = "BEGIN EXCLUSIVE", "Statement.");
            let exclusive = TransactionBehavior::Exclusive;
            let transaction = connection.transaction_with_behavior(exclusive).map_err(refusal)?;
            let writing = Transaction::new(Session::Sqlite(&transaction));
            let changed = writing.outcome(at_once(change(&writing)))?;
            next_statement()?;
            transaction.commit().map_err(Refusal::broken)?;
            Ok(changed)
        };
        // A write waits for the disk several times, and all visitors with it.
        let turn = || event_loop::counters().turns;
        while event_loop::is_running() && self.written_in.load(Ordering::Relaxed) == turn() {
            event_loop::yield_now().await;
        }
        self.written_in.store(turn(), Ordering::Relaxed);
        self.attempts(Some(schema), attempt).await
    }

    /// Reads the file without changing it or the folder: `None` if there is none. Waits for locks.
    pub(crate) fn look<T>(
        &self,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match std::fs::metadata(&self.file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file(&self.file, error)),
            Ok(_) => {}
        }
        let looked = open::look(&self.file).map_err(refusal);
        let looked = looked.and_then(|connection| {
            at_once(look(&Snapshot::new(Session::Sqlite(&connection)))).map_err(Refusal::Failed)
        });
        looked.map(Some).map_err(|refusal| match refusal {
            Refusal::Busy => StoreError::Busy,
            Refusal::Failed(error) => error.at(&self.file),
        })
    }

    /// Reads every page and every index of the file; [`StoreError::Damaged`] if something is wrong with it.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let attempt = |connection: &mut Connection| {
            let check = "PRAGMA integrity_check(1)";
            connection.query_row(check, [], |row| row.get(0)).map_err(refusal)
        };
        let found: String = self.attempts(None, attempt).await?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
    }

    /// Writes one consistent copy of the file to `target`.
    pub(crate) async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        refuse_replaceable(target)?;
        copy::refuse_other_files(target)?;
        // Opening the store creates the folder.
        self.attempts(None, |_| Ok(())).await?;
        copy::remove_unfinished(&self.file);
        let copy = copy::Copy::beside(&self.file)?;
        let path = copy.path();
        let attempt = |connection: &mut Connection| {
            copy.remove().map_err(Refusal::Failed)?;
            // As bytes: a path need not be UTF-8.
            let path = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
            connection.execute("VACUUM INTO ?1", [path]).map_err(refusal).map(drop)
        };
        self.attempts(None, attempt).await?;
        copy.put(target)
    }

    /// Repeats an attempt until it gets the lock. The tables of the schema are there first.
    async fn attempts<T>(
        &self,
        schema: Option<Schema>,
        attempt: impl Fn(&mut Connection) -> Result<T, Refusal>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let (mut refusals, mut pauses) = (0, Pauses::new());
        loop {
            match self.with_connection(schema, &attempt) {
                Ok(done) => return Ok(done),
                Err(Refusal::Failed(error)) => return Err(error.at(&self.file)),
                Err(Refusal::Busy) => refusals += 1,
            }
            // SQLite also says "busy" where locks do not work at all.
            if refusals == REFUSALS_BEFORE_DOUBT {
                open::has_locks(&self.file)?;
            }
            if started.elapsed() >= PATIENCE {
                return Err(StoreError::Busy);
            }
            pauses.pause().await;
        }
    }

    /// Runs `work` on this process's connection, which is opened if there is none.
    fn with_connection<T>(
        &self,
        schema: Option<Schema>,
        work: impl FnOnce(&mut Connection) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut open = match self.open.try_lock() {
            Ok(open) => open,
            // A panic in a closure has rolled back its transaction; the connection is intact.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let what = "a transaction was started inside another one";
                return Err(StoreError::from(SqlError::mistake(what)).into());
            }
        };
        let pid = std::process::id();
        if open.as_ref().is_some_and(|open| open.pid != pid) {
            // The parent's. Closing it here would release the parent's locks.
            std::mem::forget(open.take());
        }
        let is_there =
            |file: Option<FileIdentity>| file == FileIdentity::of(&self.file) && file.is_some();
        if open.as_ref().is_some_and(|open| !is_there(open.file)) {
            tracing::info!("The store's file was replaced; opening the new one.");
            *open = None;
        }
        let current = match &mut *open {
            Some(open) => open,
            closed => {
                let connection = open::open(&self.file, self.trust)?;
                let file = FileIdentity::of(&self.file);
                closed.insert(Open { pid, file, connection, schemas: Vec::new() })
            }
        };
        let done = current.prepare(schema).and_then(|()| work(&mut current.connection));
        if matches!(&done, Err(Refusal::Failed(error)) if !error.is_constraint()) {
            // A file that SQLite cannot open for writing at that moment stays read-only.
            *open = None;
        }
        done
    }
}

impl Open {
    /// Makes sure that the tables of a schema are there.
    fn prepare(&mut self, schema: Option<Schema>) -> Result<(), Refusal> {
        if let Some(schema) = schema
            && !self.schemas.contains(&schema)
        {
            migrate::migrate(&mut self.connection, schema)?;
            self.schemas.push(schema);
        }
        Ok(())
    }
}

/// Returns the tables that a schema consists of, in the order in which they are created.
pub(crate) fn tables_of(schema: Schema) -> Result<Vec<String>, StoreError> {
    let mut connection = Connection::open_in_memory().map_err(broken)?;
    let made = migrate::migrate(&mut connection, schema);
    made.map_err(|refusal| match refusal {
        Refusal::Busy => StoreError::Busy,
        Refusal::Failed(error) => error,
    })?;
    let session = Session::Sqlite(&connection);
    let tables = at_once(Snapshot::new(session).query(session.dialect().tables(), &[]))?;
    Ok(tables.into_iter().filter(|table| table != migrations::TABLE_NAME).collect())
}

/// Runs a closure's future to its end, which it has to reach at once.
fn at_once<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(SqlError::mistake("a transaction awaited something that is not its own").into())
        }
    }
}

#[cfg(test)]
mod tests;
