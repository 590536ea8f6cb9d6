//! One side of a move: a connection with a lock on the source, or one to a target that nobody else sees yet.

use std::fs::File;
use std::time::{Duration, Instant};

use event_loop::time::pause;
use postgres_pool::PooledConnection;

use crate::error::StoreError;
use crate::migrations::Schema;
use crate::postgres;
use crate::session::Session;
use crate::sqlite::moving::{Draft, Locked};
use crate::{Engine, PATIENCE};

/// How often a lock is asked for.
const ASKS_EVERY: Duration = Duration::from_millis(50);

pub(super) enum Side {
    LockedFile(Locked),
    NewFile(Draft),
    Server(PooledConnection),
}

/// Keeps others from moving a store, or one to its place, until it is dropped.
pub(super) enum Held {
    Folder { _lock: File },
    Server { _lock: PooledConnection },
}

impl Held {
    /// Waits a while for others: a server notices late that a move was killed.
    ///
    /// # Errors
    ///
    /// [`StoreError::BeingMoved`], and if there is no answer.
    pub(super) async fn on(engine: &Engine) -> Result<Held, StoreError> {
        let started = Instant::now();
        loop {
            let held = match engine {
                Engine::Sqlite(engine) => {
                    engine.hold_moves()?.map(|lock| Held::Folder { _lock: lock })
                }
                Engine::Postgres(engine) => {
                    engine.hold_moves().await?.map(|lock| Held::Server { _lock: lock })
                }
            };
            match held {
                Some(held) => return Ok(held),
                None if started.elapsed() >= PATIENCE => return Err(StoreError::BeingMoved),
                None => pause(ASKS_EVERY).await,
            }
        }
    }
}

impl Side {
    /// Locks these tables of a store against writes.
    pub(super) async fn locked(engine: &Engine, tables: &[String]) -> Result<Side, StoreError> {
        match engine {
            Engine::Sqlite(engine) => engine.lock().await.map(Side::LockedFile),
            Engine::Postgres(engine) => engine.lock(tables).await.map(Side::Server),
        }
    }

    /// Makes a store with the tables of the schemas, which nobody sees before it is published.
    /// Of a store that was moved, or whose move was not finished, `known` is removed first.
    pub(super) async fn draft(
        engine: &Engine,
        schemas: &[Schema],
        known: &[Schema],
    ) -> Result<Side, StoreError> {
        match engine {
            Engine::Sqlite(engine) => engine.draft(schemas).map(Side::NewFile),
            Engine::Postgres(engine) => engine.draft(schemas, known).await.map(Side::Server),
        }
    }

    pub(super) fn session(&self) -> Session<'_> {
        match self {
            Side::LockedFile(locked) => locked.session(),
            Side::NewFile(draft) => draft.session(),
            Side::Server(connection) => Session::Postgres(connection),
        }
    }

    /// Puts a target in its place.
    pub(super) async fn publish(self, engine: &Engine) -> Result<(), StoreError> {
        match (self, engine) {
            (Side::NewFile(draft), Engine::Sqlite(engine)) => engine.publish(draft),
            (Side::Server(connection), _) => postgres::commit(connection).await,
            (Side::LockedFile(_), _) | (Side::NewFile(_), _) => unreachable!("sides of one engine"),
        }
    }

    /// Retires a source: whoever uses it learns that it has moved.
    pub(super) async fn retire(self, engine: &Engine) -> Result<(), StoreError> {
        match (self, engine) {
            (Side::LockedFile(locked), Engine::Sqlite(engine)) => engine.retire(locked).await,
            (Side::Server(connection), _) => postgres::retire(connection).await,
            (Side::LockedFile(_), _) | (Side::NewFile(_), _) => unreachable!("sides of one engine"),
        }
    }
}
