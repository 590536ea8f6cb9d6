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
//! Opening is in `sqlite/open.rs`, migrating in `migrate.rs`, copies in `copy.rs`, putting one in place in `restore.rs`;
//! how statements are run and what SQLite's errors mean is in `session/`.

pub(crate) mod copy;
pub(crate) mod migrate;
pub(crate) mod moving;
mod open;
mod restore;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use atomic_file::FileIdentity;
use event_loop::time::pause;
use rusqlite::{Connection, TransactionBehavior};

use crate::PATIENCE;
use crate::error::{SqlError, StoreError};
use crate::files::{Trust, private_folder_of, refuse_replaceable, refuse_unwritable};
use crate::migrations::{Expected, KnownSchemas, Schema};
use crate::pauses::Pauses;
use crate::session::refusal::{Refusal, refusal};
use crate::session::{Session, next_statement};
use crate::transaction::{Snapshot, Transaction};

/// After how many refusals to check whether the file system has locks at all.
const REFUSALS_BEFORE_DOUBT: u32 = 6;

/// The suffix of the file that was replaced last.
pub const REPLACED: &str = "-replaced";

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
    schemas: KnownSchemas,
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
        let attempt = |open: &mut Open| {
            next_statement()?;
            let (transaction, version) = begin_read(&open.connection)?;
            if open.schemas.have_changed(schema, version) {
                return Err(Refusal::Busy);
            }
            let snapshot = Snapshot::new(Session::Sqlite(&transaction));
            let found = snapshot.outcome(at_once(look(&snapshot)))?;
            next_statement()?;
            transaction.commit().map_err(Refusal::broken)?;
            Ok(found)
        };
        self.attempts(schema, attempt).await
    }

    /// Runs a closure that makes one change. The tables of the schema are there first.
    pub(crate) async fn write<T>(
        &self,
        schema: Option<Schema>,
        change: impl AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = |open: &mut Open| {
            next_statement()?;
            tracing::trace!(sql = "BEGIN EXCLUSIVE", "Statement.");
            let exclusive = TransactionBehavior::Exclusive;
            let started = open.connection.transaction_with_behavior(exclusive);
            let transaction = started.map_err(refusal)?;
            // Replaced before the lock was had: what is written to the old file would be lost.
            if open.file != FileIdentity::of(&self.file) {
                return Err(Refusal::Busy);
            }
            if open.schemas.have_changed(schema, schema_version(&transaction)?) {
                return Err(Refusal::Busy);
            }
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
        self.attempts(schema, attempt).await
    }

    /// Reads the file without changing it or the folder: `None` if there is none. Waits for locks.
    pub(crate) fn look<T>(
        &self,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.look_at(|connection| {
            at_once(look(&Snapshot::new(Session::Sqlite(connection)))).map_err(Refusal::Failed)
        })
    }

    /// Fails as the first transaction of a program with these schemas would, as far as what is in the file is the reason.
    pub(crate) fn find_obstacle(&self, known: &[Expected]) -> Result<(), StoreError> {
        self.look_at(|connection| migrate::refuse_unknown(connection, known)).map(drop)
    }

    fn look_at<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, Refusal>,
    ) -> Result<Option<T>, StoreError> {
        match std::fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file(&self.file, error)),
            Ok(_) => {}
        }
        // A link to nothing, a pipe, which would block, or a file of another account.
        std::fs::metadata(&self.file).map_err(|error| StoreError::file(&self.file, error))?;
        open::refuse_unusable(&self.file)?;
        let opened = open::look(&self.file).map_err(refusal);
        opened.and_then(|connection| look(&connection)).map(Some).map_err(|refusal| match refusal {
            Refusal::Busy => StoreError::Busy,
            Refusal::Failed(error) => error.at(&self.file),
        })
    }

    /// Reads every page and every index of the file; [`StoreError::Damaged`] if something is wrong with it.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.copy().await.map(drop)
    }

    /// Writes one consistent copy of the file to `target`.
    pub(crate) async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        refuse_unwritable(target)?;
        refuse_replaceable(target)?;
        copy::refuse_other_files(target)?;
        self.copy().await?.put(target)
    }

    /// Puts what [`back_up`](Self::back_up) has written in the place of the file, and returns where that is now.
    pub(crate) async fn restore(
        &self,
        backup: &Path,
        known: &[Expected],
        schema: Schema,
        change: impl AsyncFn(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<Option<PathBuf>, StoreError> {
        restore::refuse_unsuitable(backup, &self.file)?;
        private_folder_of(&self.file, self.trust)?;
        let before = FileIdentity::of(&self.file);
        copy::remove_unfinished(&self.file);
        let copy = copy::Copy::beside(&self.file)?;
        restore::fill(&copy, backup, &self.file)?;
        restore::examine(&copy, backup, known)?;
        Sqlite::new(copy.path(), self.trust).write(Some(schema), change).await?;
        // Of two at once, the second would keep the first's store, and nobody the one before.
        let is_expected = |file: &File| {
            before.is_none() || file.metadata().is_ok_and(|found| before == Some((&found).into()))
        };
        self.replace(copy, REPLACED, is_expected).await.map_err(|error| match error {
            StoreError::ChangedMeanwhile => StoreError::NotRestorable {
                file: backup.to_owned(),
                why: "another one was restored at the same moment".to_owned(),
            },
            error => error,
        })
    }

    /// Puts a complete copy in the place of the file, which gets a name with this suffix, if it `is_expected`. Processes
    /// that use the file notice. At every moment, one of the two is there.
    async fn replace(
        &self,
        copy: copy::Copy,
        suffix: &str,
        is_expected: impl Fn(&File) -> bool,
    ) -> Result<Option<PathBuf>, StoreError> {
        let started = Instant::now();
        let mut can_roll_back = true;
        while self.file.exists() {
            // Or its end would release the lock on the file.
            self.close();
            if let Some(lock) = restore::Lock::on(&self.file)? {
                if !is_expected(&lock.file) {
                    return Err(StoreError::ChangedMeanwhile);
                }
                if !can_roll_back || !restore::has_journal(&self.file) {
                    let kept = restore::with_suffix(&self.file, suffix);
                    lock.replace(&copy, &kept)?;
                    pause(restore::SETTLES).await;
                    return Ok(Some(kept));
                }
                // A killed process has left it. It belongs to this file.
                drop(lock);
                let rolled_back = self.read(None, async |_| Ok(())).await;
                can_roll_back = matches!(rolled_back, Ok(()) | Err(StoreError::Busy));
            }
            if started.elapsed() >= PATIENCE {
                return Err(StoreError::Busy);
            }
            pause(restore::TRIES_EVERY).await;
        }
        restore::put_new(&copy, &self.file)?;
        Ok(None)
    }

    /// Makes a copy of the file as it is at one moment, and checks it: that takes longer than to make it, and nobody has
    /// to wait for it.
    async fn copy(&self) -> Result<copy::Copy, StoreError> {
        // Opening the store creates the folder.
        self.attempts(None, |_| Ok(())).await?;
        copy::remove_unfinished(&self.file);
        let copy = copy::Copy::beside(&self.file)?;
        let failed = |error| StoreError::file(&self.file, error);
        // From disk to disk while others go on writing; so that what is left to do with the lock, which readers have
        // and writers wait for, is to compare in memory. SQLite's own means hold it longer: a copy page by page starts
        // over whenever somebody writes, and VACUUM takes ten times as long.
        let store = File::open(&self.file).map_err(failed)?;
        next_statement()?;
        copy.follow(&store).map_err(failed)?;
        drop(store);
        let attempt = |open: &mut Open| {
            // Closing it releases all locks of this process, so it is closed after the transaction.
            let store = File::open(&self.file).map_err(failed)?;
            let is_same = store.metadata().is_ok_and(|it| open.file == Some((&it).into()));
            next_statement()?;
            let (transaction, _) = begin_read(&open.connection)?;
            let journal = "PRAGMA journal_mode";
            let journal: String =
                transaction.query_row(journal, [], |row| row.get(0)).map_err(refusal)?;
            // In WAL mode, which another program may have switched to and keep, not all is in the file.
            if !is_same || journal == "wal" {
                return Err(Refusal::Busy);
            }
            next_statement()?;
            copy.follow(&store).map_err(failed)?;
            next_statement()?;
            transaction.commit().map_err(Refusal::broken)
        };
        self.attempts(None, attempt).await?;
        copy.check()?;
        // It would replace an older one that can be restored.
        match restore::is_store(&copy, &[])? {
            true => Ok(copy),
            false => Err(StoreError::Damaged("it is empty".to_owned())),
        }
    }

    /// Repeats an attempt until it gets the lock. The tables of the schema are there first.
    async fn attempts<T>(
        &self,
        schema: Option<Schema>,
        attempt: impl Fn(&mut Open) -> Result<T, Refusal>,
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

    /// Closes this process's connection.
    fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        forget_parents(&mut open);
        *open = None;
    }

    /// Runs `work` on this process's connection, which is opened if there is none.
    fn with_connection<T>(
        &self,
        schema: Option<Schema>,
        work: impl FnOnce(&mut Open) -> Result<T, Refusal>,
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
        forget_parents(&mut open);
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
                let pid = std::process::id();
                closed.insert(Open { pid, file, connection, schemas: KnownSchemas::default() })
            }
        };
        let done = current.prepare(schema).and_then(|()| work(current));
        if matches!(&done, Err(Refusal::Failed(error)) if !error.is_constraint()) {
            // A file that SQLite cannot open for writing at that moment stays read-only.
            *open = None;
        }
        done
    }
}

/// Leaks a connection that is the parent's: closing it would use what belongs to both.
fn forget_parents(open: &mut Option<Open>) {
    if let Some(parents) = open.take_if(|open| open.pid != std::process::id()) {
        std::mem::forget(parents);
    }
}

impl Open {
    /// Makes sure that the tables of a schema are there.
    fn prepare(&mut self, schema: Option<Schema>) -> Result<(), Refusal> {
        if let Some(schema) = schema
            && self.schemas.version_of(schema).is_none()
        {
            let version = migrate::migrate(&mut self.connection, schema)?;
            self.schemas.add(schema, version);
        }
        Ok(())
    }
}

/// Begins a transaction that reads.
fn begin_read(connection: &Connection) -> Result<(rusqlite::Transaction<'_>, i64), Refusal> {
    tracing::trace!(sql = "BEGIN", "Statement.");
    let transaction = connection.unchecked_transaction().map_err(refusal)?;
    // The first statement that reads takes the lock; from then on nothing is busy.
    let version = schema_version(&transaction)?;
    Ok((transaction, version))
}

/// Returns a number that is another one whenever a table was created, changed or dropped.
fn schema_version(transaction: &Connection) -> Result<i64, Refusal> {
    let look = transaction.prepare_cached("PRAGMA schema_version");
    look.and_then(|mut look| look.query_row([], |row| row.get(0))).map_err(refusal)
}

/// Runs a closure's future to its end, which it has to reach at once.
pub(crate) fn at_once<T>(
    future: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(SqlError::mistake("a transaction awaited something that is not its own").into())
        }
    }
}

#[cfg(test)]
mod tests;
