//! The store: one SQLite file that all processes of a site share.
//!
//! [`Store`] is a handle that opens nothing before its first use, so that a site that stores nothing pays nothing. It
//! offers [`Store::read`] and [`Store::write`], each one transaction without an await in it, and [`Store::back_up`].
//! The tables are in `store/migrations.rs`, opening in `store/open.rs`, copies in `store/copy.rs`, who may read and
//! create files there in `store/files.rs`, what can go wrong in `store/error.rs`, and how SQLite's errors map to that
//! in `store/refusal.rs`.
//!
//! How it works with one thread and many processes:
//!
//! - A rollback journal, because WAL needs shared memory, which network file systems lack.
//! - SQLite never waits (`busy_timeout` 0): its sleep would block the loop. While another process holds the lock, the
//!   loop's timer retries, for at most [`PATIENCE`].
//! - A write takes the exclusive lock first: once started, it cannot meet "busy".
//! - What [`Store::write`] has acknowledged is on disk (`synchronous` FULL): killing any process at any moment loses
//!   none of it.
//! - A write waits for the disk, and the loop with it: there is one write per turn of the loop.
//! - The connection belongs to one process. After a fork it is leaked, not closed, and opened again.
//! - A file that replaced ours (a restored backup) is noticed and opened.

mod copy;
mod error;
mod files;
mod migrations;
mod open;
mod refusal;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atomic_file::FileIdentity;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Transaction};

pub use copy::Unfinished;
pub use error::StoreError;
pub use files::Trust;
use files::refuse_replaceable;
pub(crate) use files::{close_folder_of, private_folder_of};
use refusal::{Refusal, refusal};

use crate::pause::pause;

/// How long a statement waits for other processes: 10 s. A write takes some milliseconds, on a slow
/// network disk a hundred; a web server gives up after 40 s.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The first wait for a lock. It doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest wait between two attempts to get a lock.
const MAX_PAUSE: Duration = Duration::from_millis(40);

/// After how many refusals to check whether the file system has locks at all.
const REFUSALS_BEFORE_DOUBT: u32 = 6;

/// A handle on the site's store; clones share one connection.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
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
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Store").field(&self.inner.file).finish()
    }
}

impl Store {
    /// Makes a handle on the store in this file. Neither the file nor its folder has to exist: the first use creates
    /// them, private to this account.
    pub fn at(file: impl Into<PathBuf>) -> Store {
        Store::trusting(Trust::default(), file)
    }

    /// Like [`Store::at`], in a folder of which this says whose it may be.
    pub fn trusting(trust: Trust, file: impl Into<PathBuf>) -> Store {
        let (file, open) = (file.into(), Mutex::default());
        Store { inner: Arc::new(Inner { file, trust, open, written_in: AtomicU64::new(u64::MAX) }) }
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// Runs a query. All that `look` reads is one snapshot.
    ///
    /// # Errors
    ///
    /// If another process holds the file for longer than [`PATIENCE`], or the store cannot be used; the error says what
    /// its owner can do.
    pub async fn read<T>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut look = Some(look);
        let attempt = move |connection: &mut Connection| {
            let transaction = connection.unchecked_transaction().map_err(refusal)?;
            // The first statement that reads takes the lock; from then on nothing is busy.
            transaction
                .query_row("SELECT count(*) FROM sqlite_schema WHERE 0", [], |_| Ok(()))
                .map_err(refusal)?;
            let Some(look) = look.take() else { return Err(Refusal::Busy) };
            let found = look(&transaction).map_err(Refusal::broken)?;
            transaction.commit().map_err(Refusal::broken)?;
            Ok(found)
        };
        self.attempts(attempt).await
    }

    /// Reads the file without changing it or the folder: `None` if there is none. The tables may be those of
    /// any version. Waits for locks, so only use it where no loop runs.
    ///
    /// # Errors
    ///
    /// If it cannot be read; also while it holds an incomplete change, which the next start rolls back.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        match std::fs::metadata(&self.inner.file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file(&self.inner.file, error)),
            Ok(_) => {}
        }
        let looked = open::look(&self.inner.file).and_then(|connection| look(&connection));
        looked.map(Some).map_err(|error| match refusal(error) {
            Refusal::Busy => StoreError::Busy,
            Refusal::Failed(error) => error.at(&self.inner.file),
        })
    }

    /// Makes a change: all that `change` does or, if it fails, nothing. When this returns, the change is on disk.
    /// Concurrent changes are made in as many turns of the loop.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], and if the disk is full; then nothing has been changed.
    pub async fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut change = Some(change);
        let attempt = move |connection: &mut Connection| {
            let exclusive = rusqlite::TransactionBehavior::Exclusive;
            let transaction = connection.transaction_with_behavior(exclusive).map_err(refusal)?;
            let Some(change) = change.take() else { return Err(Refusal::Busy) };
            let changed = change(&transaction).map_err(Refusal::broken)?;
            transaction.commit().map_err(Refusal::broken)?;
            Ok(changed)
        };
        // A write waits for the disk several times, and all visitors with it.
        let written_in = &self.inner.written_in;
        let turn = || event_loop::counters().turns;
        while event_loop::is_running() && written_in.load(Ordering::Relaxed) == turn() {
            event_loop::yield_now().await;
        }
        written_in.store(turn(), Ordering::Relaxed);
        self.attempts(attempt).await
    }

    /// Reads every page and every index of the file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] with what SQLite found; and as [`Store::read`].
    pub async fn check(&self) -> Result<(), StoreError> {
        let found: String = self
            .read(|store| store.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))
            .await?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
    }

    /// Writes one consistent copy of the store to `target`, private to this account. What was at that path (if it is
    /// a link, the link, not what it points to) is replaced atomically once the copy is complete and on disk.
    /// Meanwhile there is a second copy in a folder of its own beside the store, so that `target` may be in a sticky
    /// folder that others can write to (`/tmp`).
    ///
    /// # Errors
    ///
    /// As [`Store::read`]; [`StoreError::Replaceable`] where others could replace the finished copy;
    /// [`StoreError::NotACopy`] if `target` is some other file; and if the copy cannot be written. What was at that
    /// path is still there then.
    pub async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        refuse_replaceable(target)?;
        copy::refuse_other_files(target)?;
        // Opening the store creates the folder.
        self.read(|_| Ok(())).await?;
        copy::remove_unfinished(&self.inner.file);
        let copy = copy::Copy::beside(&self.inner.file)?;
        let path = copy.path();
        let attempt = |connection: &mut Connection| {
            copy.remove().map_err(Refusal::Failed)?;
            // As bytes: a path need not be UTF-8.
            let path = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
            connection.execute("VACUUM INTO ?1", [path]).map_err(refusal).map(drop)
        };
        self.attempts(attempt).await?;
        copy.put(target)
    }

    /// Returns what killed backups have left behind. The next backup removes it.
    pub fn unfinished_copies(&self) -> Vec<Unfinished> {
        copy::unfinished(&self.inner.file)
    }

    /// Repeats an attempt until it gets the lock.
    async fn attempts<T>(
        &self,
        mut attempt: impl FnMut(&mut Connection) -> Result<T, Refusal>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let (mut refusals, mut length) = (0, FIRST_PAUSE);
        loop {
            match self.with_connection(&mut attempt) {
                Ok(done) => return Ok(done),
                Err(Refusal::Failed(error)) => return Err(error.at(&self.inner.file)),
                Err(Refusal::Busy) => refusals += 1,
            }
            // SQLite also says "busy" where locks do not work at all.
            if refusals == REFUSALS_BEFORE_DOUBT {
                open::has_locks(&self.inner.file)?;
            }
            if started.elapsed() >= PATIENCE {
                return Err(StoreError::Busy);
            }
            pause(length + jitter(length)).await;
            length = (length * 2).min(MAX_PAUSE);
        }
    }

    /// Runs `work` on this process's connection, which is opened if there is none.
    fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut open = self.open();
        let pid = std::process::id();
        if open.as_ref().is_some_and(|open| open.pid != pid) {
            // The parent's. Closing it here would release the parent's locks.
            std::mem::forget(open.take());
        }
        let is_there = |file: Option<FileIdentity>| {
            file == FileIdentity::of(&self.inner.file) && file.is_some()
        };
        if open.as_ref().is_some_and(|open| !is_there(open.file)) {
            tracing::info!("The store's file was replaced; opening the new one.");
            *open = None;
        }
        let connection = match &mut *open {
            Some(open) => &mut open.connection,
            closed => {
                let connection = open::open(&self.inner.file, self.inner.trust)?;
                let file = FileIdentity::of(&self.inner.file);
                &mut closed.insert(Open { pid, file, connection }).connection
            }
        };
        let done = work(connection);
        if matches!(done, Err(Refusal::Failed(_))) {
            // A file that SQLite cannot open for writing at that moment stays read-only.
            *open = None;
        }
        done
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        // A panic in a closure has rolled back its transaction; the connection is intact.
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns up to as much again, so that processes that were refused together do not retry together.
fn jitter(length: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let noise = now.map_or(0, |now| now.subsec_nanos()).wrapping_mul(std::process::id() | 1);
    length.mul_f64(f64::from(noise % 1024) / 1024.0)
}

#[cfg(test)]
mod tests;

/// The statements that this thread has executed, for tests that compare them.
#[cfg(test)]
pub(crate) mod statements {
    use std::cell::RefCell;

    use rusqlite::Connection;
    use rusqlite::trace::{TraceEvent, TraceEventCodes};

    thread_local! {
        static ASKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn record(connection: &Connection) {
        connection.trace_v2(
            TraceEventCodes::SQLITE_TRACE_STMT,
            Some(|event| {
                if let TraceEvent::Stmt(_, statement) = event {
                    ASKED.with_borrow_mut(|asked| asked.push(statement.to_owned()));
                }
            }),
        );
    }

    /// Returns the statements since the last call, in order.
    pub(crate) fn take() -> Vec<String> {
        ASKED.take()
    }
}
