//! PostgreSQL: a server that the processes of several machines share.
//!
//! - A read is a transaction `REPEATABLE READ, READ ONLY`, a write one that is `SERIALIZABLE`: as if all came one after
//!   the other. When two are in conflict, PostgreSQL ends one of them, and its closure starts over.
//! - `BEGIN` travels with the first statement, and nobody waits for the `COMMIT` of a read: a read with one statement
//!   takes one round trip.
//! - When the connection breaks before `COMMIT`, nothing has happened, and the closure starts over. When it breaks
//!   during `COMMIT`, it is found out whether that transaction was committed ([`Postgres::is_committed`]).
//! - A future that is dropped (the visitor has left) closes its connection; the pool cancels the statement.

pub(crate) mod rights;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_loop::time::{sleep, timeout};
use futures_util::future::join;
use postgres_pool::{Listener, Pool, PooledConnection};

use crate::PATIENCE;
use crate::error::{SqlError, StoreError};
use crate::migrations::{self, KnownSchemas, Migration, Schema};
use crate::params;
use crate::pauses::Pauses;
use crate::session::{Session, next_statement, quoted};
use crate::tables::tables_of;
use crate::time::now;
use crate::transaction::{Snapshot, Transaction};

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

/// Every statement sees what was committed before it: what a process that waits for the lock needs.
const MIGRATE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// For a move: one snapshot, taken after the locks.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const LONG: &str =
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// The lock of those who migrate: "shed".
const MIGRATION_LOCK: i64 = 0x7368_6564;

/// The lock of those who move; its second part is the schema.
const MOVE_LOCK: i32 = 0x7368_6564;

/// What the engine itself keeps. A write inserts a number of its own into `commits`.
const COMMITS: Schema = Schema {
    name: migrations::ENGINE_SCHEMA,
    migrations: &[Migration::expand(
        "CREATE TABLE commits (id BIGINT PRIMARY KEY, at BIGINT NOT NULL, is_fence BOOLEAN NOT NULL)",
    )],
};

/// After how many seconds a number is forgotten: more than any transaction takes.
const REMEMBERED: i64 = 300;

/// After how many writes of this process the numbers of all are looked through.
const WRITES_BETWEEN_SWEEPS: u32 = 1000;

/// How long it is tried to find out whether a transaction was committed, and how often.
const PATIENCE_WITH_COMMIT: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How often a closure starts over because its connection broke. After the server was restarted, all idle ones have.
const MAX_LOST: usize = 5;

/// A database.
pub(crate) struct Postgres {
    pool: Pool,
    /// Whose tables are known to be there.
    schemas: Mutex<KnownSchemas>,
    writes: AtomicU32,
}

impl Postgres {
    pub(crate) fn new(pool: Pool) -> Self {
        Postgres { pool, schemas: Mutex::default(), writes: AtomicU32::new(0) }
    }

    /// Runs a closure on one snapshot. The tables of the schema are there first.
    pub(crate) async fn read<T>(
        &self,
        schema: Schema,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = async || {
            let connection = self.connection().await?;
            let snapshot = Snapshot::new(Session::Postgres(&connection));
            let look = self.on_its_tables(schema, &snapshot, look(&snapshot));
            let found = snapshot.outcome(begin(&connection, READ, look).await);
            end_read(connection, found.is_ok()).await;
            found
        };
        self.attempts(Some(schema), attempt).await
    }

    /// Runs a closure that makes one change. The tables of the schema are there first.
    pub(crate) async fn write<T>(
        &self,
        schema: Schema,
        change: impl AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = async || {
            let connection = self.connection().await?;
            let id = new_id()?;
            let changed = {
                let transaction = Transaction::new(Session::Postgres(&connection));
                let work = async {
                    // With the first statement, so that it takes no time of its own.
                    let noted = async { transaction.execute(NOTE, params![id]).await };
                    let change = self.on_its_tables(schema, &transaction, change(&transaction));
                    let (changed, noted) = join(change, noted).await;
                    match (changed, noted) {
                        (Ok(changed), Ok(_)) => Ok(changed),
                        // Only because the other one failed.
                        (Err(error), Err(cause)) if error.is_consequence() => Err(cause),
                        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                    }
                };
                match transaction.outcome(begin(&connection, WRITE, work).await) {
                    Ok(done) => done,
                    Err(error) => return Err(self.give_up(connection, error).await),
                }
            };
            self.commit(connection, id).await?;
            Ok(changed)
        };
        let changed = self.attempts(Some(schema), attempt).await?;
        self.sweep().await;
        Ok(changed)
    }

    /// Waits for notifications, on a connection of its own.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Listener, StoreError> {
        Ok(self.pool.listen(channel).await?)
    }

    /// Asks the server for a sign of life.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let attempt = async || {
            let connection = self.pool.connection().await?;
            Session::Postgres(&connection).run("SELECT 1").await?;
            connection.release();
            Ok(())
        };
        self.attempts(None, attempt).await
    }

    /// Reads whatever is there, without making tables.
    pub(crate) async fn look<T>(
        &self,
        look: impl AsyncFn(&Snapshot<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let attempt = async || {
            let connection = self.pool.connection().await?;
            let snapshot = Snapshot::new(Session::Postgres(&connection));
            let found = snapshot.outcome(begin(&connection, READ, look(&snapshot)).await);
            end_read(connection, found.is_ok()).await;
            found
        };
        self.attempts(None, attempt).await
    }

    /// Changes whatever is there, without making tables.
    pub(crate) async fn change<T>(
        &self,
        change: impl AsyncFn(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.pool.connection().await?;
        let transaction = Transaction::new(Session::Postgres(&connection));
        let changed = begin(&connection, WRITE, change(&transaction)).await?;
        commit(connection).await?;
        Ok(changed)
    }

    /// Returns whether both are the same schema of the same database, however their URLs are written: a lock of one
    /// is then held for the other, too.
    pub(crate) async fn is_same(&self, other: &Postgres) -> Result<bool, StoreError> {
        let (own, id) = (self.pool.connection().await?, new_id()?);
        let schema = "SELECT coalesce(CAST(current_schema() AS TEXT), '')";
        let held = async {
            let transaction = Transaction::new(Session::Postgres(&own));
            transaction.execute("SELECT pg_advisory_xact_lock($1)", params![id]).await?;
            transaction.query_one::<String>(schema, &[]).await
        };
        let held = begin(&own, READ, held).await?;
        let found = other
            .look(async |store| {
                let lock = "SELECT pg_try_advisory_xact_lock($1)";
                let is_free: bool = store.query_one(lock, params![id]).await?;
                Ok(!is_free && store.query_one::<String>(schema, &[]).await? == held)
            })
            .await;
        end_read(own, found.is_ok()).await;
        found
    }

    /// Lets nobody else move this schema of the database, or something to it, until the connection is closed. `None` while
    /// somebody else does.
    pub(crate) async fn hold_moves(&self) -> Result<Option<PooledConnection>, StoreError> {
        let connection = self.pool.connection().await?;
        let hold = format!(
            "SELECT pg_try_advisory_lock({MOVE_LOCK}, hashtext(coalesce(CAST(current_schema() AS TEXT), '')))"
        );
        let snapshot = Snapshot::new(Session::Postgres(&connection));
        match snapshot.query_one(&hold, &[]).await? {
            true => Ok(Some(connection)),
            false => {
                connection.release();
                Ok(None)
            }
        }
    }

    /// Lets nobody write to these tables until the connection's transaction ends, in which everything is one snapshot.
    pub(crate) async fn lock(&self, tables: &[String]) -> Result<PooledConnection, StoreError> {
        let present = async |store: &Snapshot<'_>| store.query(store.dialect().tables(), &[]).await;
        let present: Vec<String> = self.look(present).await?;
        self.look(rights::examine_retirement).await?;
        let is_ours = |table: &&String| {
            tables.contains(table) || migrations::ENGINE_TABLES.contains(&table.as_str())
        };
        let tables: Vec<_> = present.iter().filter(is_ours).map(|table| quoted(table)).collect();
        let lock = format!("LOCK TABLE {} IN SHARE MODE", tables.join(", "));
        let connection = self.pool.connection().await?;
        for statement in [SNAPSHOT, LONG, &lock] {
            Session::Postgres(&connection).run(statement).await?;
        }
        Ok(connection)
    }

    /// Makes the tables of the schemas in a transaction. Those of a store that was moved, or whose move was not finished,
    /// are removed first.
    pub(crate) async fn draft(
        &self,
        schemas: &[Schema],
        known: &[Schema],
    ) -> Result<PooledConnection, StoreError> {
        let connection = self.pool.connection().await?;
        for statement in [MIGRATE, LONG] {
            Session::Postgres(&connection).run(statement).await?;
        }
        let transaction = Transaction::new(Session::Postgres(&connection));
        // Who uses the target already, waits.
        let lock = "SELECT pg_advisory_xact_lock($1)";
        transaction.execute(lock, params![MIGRATION_LOCK]).await?;
        if transaction.has_table(migrations::TABLE_NAME).await? {
            // Somebody else may have used it meanwhile.
            match migrations::refuse_moved(&transaction).await {
                Err(StoreError::Moved | StoreError::Unfinished) => {}
                Ok(()) => return Err(StoreError::NotEmpty),
                Err(error) => return Err(error),
            }
            let mut old = migrations::ENGINE_TABLES.map(str::to_owned).to_vec();
            for &schema in known {
                old.extend(tables_of(schema)?);
            }
            let old: Vec<_> = old.iter().map(|table| quoted(table)).collect();
            transaction.run(&format!("DROP TABLE IF EXISTS {}", old.join(", "))).await?;
        }
        let present: Vec<String> = transaction.query(transaction.dialect().tables(), &[]).await?;
        for &schema in schemas {
            if let Some(taken) = tables_of(schema)?.into_iter().find(|name| present.contains(name))
            {
                return Err(StoreError::ForeignTable(taken));
            }
            schema.apply(&transaction, 0, now()).await?;
        }
        Ok(connection)
    }

    /// Repeats an attempt that was in conflict with another process, or whose connection broke or was to a server that no
    /// longer writes, or that has found other tables than those of the schema; these are brought up to date first.
    async fn attempts<T>(
        &self,
        schema: Option<Schema>,
        attempt: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let (mut pauses, mut lost, mut suspected) = (Pauses::new(), 0, false);
        loop {
            let mut error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // A statement that is prepared for the first time fails before its transaction knows what the tables are.
            let may_fit_others = error.is_about_names() && !suspected;
            if let Some(schema) = schema
                && (error.is_about_tables() || may_fit_others)
                && lost < MAX_LOST
            {
                suspected = true;
                lost += 1;
                self.schemas().clear();
                match self.bring_up_to_date(schema).await {
                    Ok(()) => continue,
                    Err(failed) => error = failed,
                }
            }
            if error.is_conflict() && started.elapsed() < PATIENCE {
                pauses.pause().await;
            } else if self.is_of_the_connection(&error) && lost < MAX_LOST {
                lost += 1;
                // The server may have been restored from a backup.
                self.schemas().clear();
            } else {
                return Err(error);
            }
        }
    }

    /// Does the work of a transaction, unless the database has other tables than those of the schema: this process has
    /// not used it yet, or another version of the program has changed them. Asking takes no time of its own.
    async fn on_its_tables<T>(
        &self,
        schema: Schema,
        snapshot: &Snapshot<'_>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let known = self.schemas().version_of(schema);
        // First: the work may fail because of them.
        let are_there = async {
            match known {
                Some(rows) => Ok((schema.rows(snapshot).await? == rows).then_some(rows)),
                None => schema.are_applied(snapshot).await,
            }
        };
        let (are_there, done) = join(are_there, work).await;
        let rows = match (are_there, &done) {
            // It was prepared meanwhile, and the work came first.
            (Err(error), Err(_)) if error.is_consequence() => return done,
            (are_there, _) => are_there?.ok_or(StoreError::SchemaChanged)?,
        };
        if known.is_none() {
            self.schemas().add(schema, rows);
        }
        done
    }

    async fn bring_up_to_date(&self, schema: Schema) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        for schema in [COMMITS, schema] {
            if let Err(error) = migrate(&connection, schema).await {
                return Err(self.give_up(connection, error).await);
            }
        }
        connection.release();
        Ok(())
    }

    /// Ends a transaction that has failed. A server that refused to write and has to is left: it was demoted, and another
    /// one writes.
    async fn give_up(&self, connection: PooledConnection, error: StoreError) -> StoreError {
        if error.is_refused_write() && self.pool.has_to_write() {
            connection.avoid_server();
            return StoreError::ReadOnly;
        }
        roll_back(connection).await;
        error
    }

    /// Returns whether another connection may be better.
    fn is_of_the_connection(&self, error: &StoreError) -> bool {
        error.is_disconnection()
            || matches!(error, StoreError::ReadOnly) && self.pool.has_to_write()
    }

    async fn connection(&self) -> Result<PooledConnection, StoreError> {
        if !event_loop::is_running() {
            let what = "PostgreSQL was used where no event loop runs";
            return Err(SqlError::mistake(what).into());
        }
        Ok(self.pool.connection().await?)
    }

    async fn commit(&self, connection: PooledConnection, id: i64) -> Result<(), StoreError> {
        if let Err(error) = next_statement() {
            roll_back(connection).await;
            return Err(error);
        }
        match connection.batch_execute("COMMIT").await.map_err(StoreError::postgres) {
            Err(error) if error.is_disconnection() => {
                drop(connection);
                if self.is_committed(id).await? { Ok(()) } else { Err(error) }
            }
            result => {
                connection.release();
                result
            }
        }
    }

    /// Finds out whether a transaction was committed whose connection broke meanwhile: inserts its number as a fence,
    /// unless it is there. If the transaction is still in progress, PostgreSQL waits for its end. If it was not
    /// committed, it can no longer be: its number is taken.
    ///
    /// If the number is there, it is written once more: then this, too, waits for the standbys of a synchronous
    /// replication, which have everything before it when they have it. Otherwise what nobody but the primary knows would be
    /// acknowledged, and a failover would lose it.
    ///
    /// `txid_status` cannot tell: after a crash, PostgreSQL gives the ids of lost transactions to others.
    async fn is_committed(&self, id: i64) -> Result<bool, StoreError> {
        let started = Instant::now();
        while let Some(left) = PATIENCE_WITH_COMMIT.checked_sub(started.elapsed()) {
            match timeout(left, self.is_fenced(id)).await {
                Ok(Ok(is_fenced)) => return Ok(!is_fenced),
                // Also a fence may be there although nobody heard of it.
                Ok(Err(_)) => sleep(ASK_EVERY).await,
                Err(_) => break,
            }
        }
        Err(StoreError::Uncertain)
    }

    async fn is_fenced(&self, id: i64) -> Result<bool, StoreError> {
        let connection = self.pool.connection().await?;
        connection.batch_execute(&fence(id)).await.map_err(StoreError::postgres)?;
        let snapshot = Snapshot::new(Session::Postgres(&connection));
        let find = "SELECT is_fence FROM commits WHERE id = $1";
        let is_fenced = snapshot.query_one(find, params![id]).await?;
        connection.release();
        Ok(is_fenced)
    }

    /// Forgets the numbers of transactions that ended long ago, now and then.
    async fn sweep(&self) {
        if !self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(WRITES_BETWEEN_SWEEPS) {
            return;
        }
        let sweep = async {
            let connection = self.pool.connection().await?;
            let session = Session::Postgres(&connection);
            let swept = session.execute(SWEEP, params![REMEMBERED]).await;
            connection.release();
            swept
        };
        if let Err(error) = sweep.await {
            tracing::warn!("Cannot forget old transactions: {error}.");
        }
    }

    fn schemas(&self) -> MutexGuard<'_, KnownSchemas> {
        // Every change is complete before anything can panic.
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the server's clock, which is the same for all processes.
const NOTE: &str = "INSERT INTO commits (id, at, is_fence)
                        VALUES ($1, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT), FALSE)";

/// As one message, which is executed or not.
fn fence(id: i64) -> String {
    format!(
        "INSERT INTO commits (id, at, is_fence)
             VALUES ({id}, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT), TRUE) ON CONFLICT (id)
             DO UPDATE SET is_fence = commits.is_fence"
    )
}

const SWEEP: &str = "DELETE FROM commits WHERE at < CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1";

/// Returns a number that no other transaction has.
fn new_id() -> Result<i64, StoreError> {
    getrandom::u64().map(u64::cast_signed).map_err(|_| StoreError::NoRandomness)
}

/// Commits the transaction of a move.
pub(crate) async fn commit(connection: PooledConnection) -> Result<(), StoreError> {
    Session::Postgres(&connection).run("COMMIT").await?;
    connection.release();
    Ok(())
}

/// Commits a transaction with which a store is retired. Without its table of commits, nobody can write.
pub(crate) async fn retire(connection: PooledConnection) -> Result<(), StoreError> {
    let retire = format!(
        "DROP TABLE IF EXISTS commits; DELETE FROM migrations WHERE schema = 'commits';
         INSERT INTO migrations (schema, number, checksum, oldest, applied_at)
             VALUES ('{}', 1, '', 0, 0)",
        migrations::MOVED
    );
    Session::Postgres(&connection).run(&retire).await?;
    commit(connection).await
}

/// Begins a transaction and does its work, without waiting in between.
async fn begin<T>(
    connection: &PooledConnection,
    how: &str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    next_statement()?;
    tracing::trace!(sql = how, "Statement.");
    let (started, done) = join(connection.batch_execute(how), work).await;
    started.map_err(StoreError::postgres)?;
    done
}

/// Brings the tables of a schema up to date.
async fn migrate(connection: &PooledConnection, schema: Schema) -> Result<(), StoreError> {
    let transaction = Transaction::new(Session::Postgres(connection));
    let apply = async {
        // Whoever may not create tables can use those that are there.
        let has_table = transaction.has_table(migrations::TABLE_NAME).await?;
        if has_table && schema.are_applied(&transaction).await?.is_some() {
            return Ok(());
        }
        let lock = "SELECT pg_advisory_xact_lock($1)";
        transaction.execute(lock, params![MIGRATION_LOCK]).await?;
        schema.apply(&transaction, 0, now()).await
    };
    begin(connection, MIGRATE, apply).await?;
    Session::Postgres(connection).run("COMMIT").await
}

/// Ends a read: nobody waits for that unless something went wrong.
async fn end_read(connection: PooledConnection, is_ok: bool) {
    if is_ok {
        event_loop::spawn(async move {
            if connection.batch_execute("COMMIT").await.is_ok() {
                connection.release();
            }
        })
        .detach();
    } else {
        roll_back(connection).await;
    }
}

async fn roll_back(connection: PooledConnection) {
    // Otherwise it is closed, which also rolls back.
    if connection.batch_execute("ROLLBACK").await.is_ok() {
        connection.release();
    }
}
