//! What a site keeps: rows in transactions, behind one API.
//!
//! A [`Store`] is a handle of the site, a tool or an app on tables of its own ([`Schema`]). It opens
//! nothing before its first use. [`Store::read`] runs a closure on one snapshot, [`Store::write`] one that makes a
//! change, all of it or nothing:
//!
//! ```
//! use storage::{Migration, Schema, Store, Trust, params};
//!
//! const SCHEMA: Schema = Schema {
//!     name: "visits",
//!     migrations: &[Migration::expand("CREATE TABLE visits (page TEXT PRIMARY KEY, count BIGINT NOT NULL)")],
//! };
//!
//! # event_loop::run(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("data/site.db");
//! let store = Store::in_file(file, Trust::OwnAccount, SCHEMA);
//! let page = "/";
//! let count: i64 = store
//!     .write(async |store| {
//!         store
//!             .query_one(
//!                 "INSERT INTO visits (page, count) VALUES ($1, 1)
//!                      ON CONFLICT (page) DO UPDATE SET count = visits.count + 1 RETURNING count",
//!                 params![page],
//!             )
//!             .await
//!     })
//!     .await?;
//! assert_eq!(count, 1);
//! # Ok::<(), storage::StoreError>(()) }).unwrap().unwrap();
//! ```
//!
//! A closure may run more than once: when another process has changed the same rows meanwhile, what it did is undone,
//! and it starts over. So it does nothing but read and change the store, and awaits nothing but its statements.
//!
//! `sqlite.rs` is the engine; `transaction.rs` what closures work with, on a connection of the engine (`session.rs`);
//! `value.rs` and `row.rs` what goes into statements and comes out; `migrations.rs` the tables; `statistics.rs` how much
//! there is; `obstacles.rs` why it would not work; `moving.rs` how it gets to another engine; `error.rs` what can go wrong; `files.rs` who may read and create
//! files in the data folder; `time.rs` the clock; `id.rs` ids; `wake_ups.rs` wakes other processes.

#![forbid(unsafe_code)]
// docs.rs says which items need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod database_url;
mod error;
#[cfg(feature = "faults")]
pub mod faults;
mod files;
mod id;
mod migrations;
mod moving;
mod obstacles;
mod pauses;
mod postgres;
mod row;
mod session;
mod sqlite;
mod statistics;
mod tables;
#[cfg(test)]
mod testing;
mod time;
mod transaction;
mod value;
mod wake_ups;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use send_wrapper::SendWrapper;

pub use database_url::DatabaseUrl;
pub use error::{SqlError, StoreError};
pub use files::{Trust, close_folder_of, private_folder_of};
pub use id::new_id;
pub use migrations::{Migration, Schema};
pub use moving::{Moved, Progress};
use postgres::Postgres;
pub use row::{FromRow, Row};
pub use sqlite::REPLACED as REPLACED_SUFFIX;
use sqlite::Sqlite;
pub use sqlite::copy::Unfinished;
pub use sqlite::moving::MOVED_SUFFIX;
pub use statistics::{Rows, SchemaStatistics, Statistics, TableStatistics};
pub use time::now;
pub use transaction::{MAX_RESULT_BYTES, Snapshot, Transaction};
pub use value::{FromValue, Json, ToValue, Value};
pub use wake_ups::WakeUps;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// How long a transaction waits for other processes: 10 s. A write takes some milliseconds, on a slow
/// network disk a hundred; a web server gives up after 40 s.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A handle on a store and the tables of one schema in it; clones share one connection.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    schema: Schema,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.engine {
            Engine::Sqlite(engine) => formatter.debug_tuple("Store").field(&engine.file()).finish(),
            // The URL has a password in it.
            Engine::Postgres(_) => formatter.write_str("Store(PostgreSQL)"),
        }
    }
}

impl Store {
    /// Makes a handle on the store in this file of SQLite's, in a folder of which `trust` says whose it may be. Neither
    /// the file nor its folder has to exist: the first use creates them, private to this account.
    pub fn in_file(file: impl Into<PathBuf>, trust: Trust, schema: Schema) -> Store {
        Store { engine: Arc::new(Engine::Sqlite(Sqlite::new(file.into(), trust))), schema }
    }

    /// Makes a handle on the store in a database of PostgreSQL's (10 or newer), by the connections of the URL. Nothing is
    /// connected yet; the tables are made when they are first used.
    pub fn in_postgres(url: &DatabaseUrl, schema: Schema) -> Store {
        let engine = Postgres::new(url.pool.clone());
        Store { engine: Arc::new(Engine::Postgres(engine)), schema }
    }

    /// Makes a handle on the same store, for the tables of another schema.
    pub fn with_schema(&self, schema: Schema) -> Store {
        Store { engine: self.engine.clone(), schema }
    }

    /// Returns the schema that this handle is for.
    pub fn schema(&self) -> Schema {
        self.schema
    }

    /// Returns the file, if the store is one.
    pub fn file(&self) -> Option<&Path> {
        match &*self.engine {
            Engine::Sqlite(engine) => Some(engine.file()),
            Engine::Postgres(_) => None,
        }
    }

    /// Waits for wake-ups of a topic, by [`Transaction::wake`] in any process.
    pub fn wake_ups(&self, topic: &str) -> WakeUps {
        WakeUps::new(self.clone(), topic)
    }

    /// Returns whether there is a store yet. The first use makes one.
    pub fn exists(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.file().exists(),
            Engine::Postgres(_) => true,
        }
    }

    /// Runs a closure that reads. All that it reads is one snapshot.
    ///
    /// # Errors
    ///
    /// The closure's; if another process holds the store for longer than [`PATIENCE`]; if the store cannot be used.
    /// The error says what its owner can do.
    pub fn read<T, F>(
        &self,
        look: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<'_, T, F>
    where
        F: AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    {
        on_this_thread(async move {
            match &*self.engine {
                Engine::Sqlite(engine) => engine.read(Some(self.schema), look).await,
                Engine::Postgres(engine) => Box::pin(engine.read(self.schema, look)).await,
            }
        })
    }

    /// Runs a closure that makes a change: all that it does or, if it fails, nothing. When this returns, the change is
    /// on disk.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], and if the disk is full; then nothing has been changed.
    pub fn write<T, F>(
        &self,
        change: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<'_, T, F>
    where
        F: AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    {
        on_this_thread(async move {
            match &*self.engine {
                Engine::Sqlite(engine) => engine.write(Some(self.schema), change).await,
                Engine::Postgres(engine) => Box::pin(engine.write(self.schema, change)).await,
            }
        })
    }

    /// Reads without changing anything: `None` if there is no store. The tables may be those of any version. Waits for
    /// locks, so only use it where no loop runs.
    ///
    /// # Errors
    ///
    /// If it cannot be read; also while it holds an incomplete change, which the next start rolls back.
    pub fn look<T>(
        &self,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.look(look),
            Engine::Postgres(engine) => {
                let looked = event_loop::run(engine.look(look));
                looked.map_err(StoreError::no_loop)?.map(Some)
            }
        }
    }

    /// Finds out why transactions of a program with these schemas would fail, without changing anything: the store has moved
    /// or is a newer program's; on a database server, a right is missing. Waits for locks, so only use it where no loop runs.
    ///
    /// # Errors
    ///
    /// The reason. What only shows when it is used (a full disk, damage to some page) is not found.
    pub fn find_obstacle(&self, known: &[Schema]) -> Result<(), StoreError> {
        let known = tables::expected(known)?;
        match &*self.engine {
            Engine::Sqlite(engine) => engine.find_obstacle(&known),
            Engine::Postgres(engine) => {
                let looked = engine.look(async |store| obstacles::look(store, &known).await);
                event_loop::run(looked).map_err(StoreError::no_loop)?
            }
        }
    }

    /// Fails if programs with these schemas cannot use the store because another version of the program has changed the
    /// tables, or the store has moved. Makes and changes nothing; tables that are not there yet are no reason.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`], [`StoreError::Altered`], [`StoreError::Moved`], [`StoreError::Unfinished`]; and as
    /// [`Store::read`].
    pub fn check_versions<'a>(
        &'a self,
        known: &'a [Schema],
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<'a> {
        let look = async |store: &Snapshot<'_>| {
            if store.has_table(migrations::TABLE_NAME).await? {
                for schema in known.iter().filter(|schema| !schema.migrations.is_empty()) {
                    schema.are_applied(store).await?;
                }
            }
            Ok(())
        };
        on_this_thread(async move { self.read_any(look).await })
    }

    /// Returns how large the store is and what is in it, sorted by the schemas that are `known`. Changes nothing, except
    /// that a store in a file that does not exist yet is created. Takes a bounded time: rows are counted up to
    /// [`MAX_COUNTED`](Rows::MAX_COUNTED) per table.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn statistics(
        &self,
        known: &[Schema],
    ) -> impl Future<Output = Result<Statistics, StoreError>> + Send {
        on_this_thread(async move {
            self.read_any(async |store| statistics::look(store, known).await).await
        })
    }

    /// Reads whatever is there, whichever tables these are.
    pub(crate) async fn read_any<T>(
        &self,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read(None, look).await,
            Engine::Postgres(engine) => engine.look(look).await,
        }
    }

    /// Changes what is there, whichever tables these are.
    pub(crate) async fn write_any<T>(
        &self,
        change: impl AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.write(None, change).await,
            Engine::Postgres(engine) => engine.change(change).await,
        }
    }

    /// Moves everything to another place, where there is nothing yet, and retires this store: programs that use it refuse
    /// from then on. `known`: the schemas of the program. `None` if that had been done before, except for its end.
    ///
    /// Everybody can read meanwhile, and nobody write. What has arrived is read back and compared. Killed at any moment
    /// and started again, it starts over or does what is left; until it is finished, programs refuse the target.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`]; if there is something that these schemas do not have, or that cannot be moved. The store
    /// is unchanged then.
    pub async fn move_to(
        &self,
        target: &Store,
        known: &[Schema],
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Option<Moved>, StoreError> {
        moving::move_store(self, target, known, &mut progress).await
    }

    /// Checks that the store is intact, by reading all of it. A file is copied for that, so that others can go on writing
    /// meanwhile: it needs room for a second one beside it. PostgreSQL is only asked for a sign of life.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] with what was found; and as [`Store::read`].
    pub async fn check(&self) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.check().await,
            Engine::Postgres(engine) => engine.check().await,
        }
    }

    /// Writes one consistent copy of the store to `target`, private to this account. What was at that path (if it is
    /// a link, the link, not what it points to) is replaced atomically once the copy is complete and on disk.
    /// Meanwhile there is a second copy in a folder of its own beside the store, so that `target` may be in a sticky
    /// folder that others can write to (`/tmp`).
    ///
    /// It reads and writes the whole file without a pause. A process that serves others does it in a child.
    ///
    /// # Errors
    ///
    /// As [`Store::read`]; [`StoreError::Replaceable`] where others could replace the finished copy;
    /// [`StoreError::NotACopy`] if `target` is some other file; and if the copy cannot be written. What was at that
    /// path is still there then.
    pub async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.back_up(target).await,
            Engine::Postgres(_) => Err(StoreError::NotAFile),
        }
    }

    /// Puts a copy of a file that [`back_up`](Store::back_up) has written in the place of the store, atomically; other
    /// processes that use it notice. Before, `change` is made in the copy: whatever must not come back. Returns where
    /// the store that was replaced is kept, until the next time.
    ///
    /// It reads and writes the whole file without a pause. A process that serves others does it in a child.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotRestorable`] if the file is not a store, damaged, or of a newer program than one with these
    /// schemas (`known`); as [`Store::write`]. The store is unchanged then.
    pub async fn restore(
        &self,
        backup: &Path,
        known: &[Schema],
        change: impl AsyncFn(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<Option<PathBuf>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(engine) => {
                let known = tables::expected(known)?;
                engine.restore(backup, &known, self.schema, change).await
            }
            Engine::Postgres(_) => Err(StoreError::NotAFile),
        }
    }

    /// Returns what killed backups have left behind. The next backup removes it.
    pub fn unfinished_copies(&self) -> Vec<Unfinished> {
        match &*self.engine {
            Engine::Sqlite(engine) => sqlite::copy::unfinished(engine.file()),
            Engine::Postgres(_) => Vec::new(),
        }
    }
}

/// Makes a future `Send` that stays on the thread of the loop; it panics if it is polled on another.
///
/// The futures of async closures with borrowed parameters cannot be shown to be `Send` (rustc 1.95), but a handler of
/// axum's has to be.
fn on_this_thread<F: Future>(future: F) -> SendWrapper<F> {
    SendWrapper::new(future)
}
