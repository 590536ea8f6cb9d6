//! One side of a move: a connection with a lock on the source, or one to a target that nobody else sees yet.

use postgres_pool::PooledConnection;

use crate::Engine;
use crate::error::StoreError;
use crate::migrations::Schema;
use crate::postgres;
use crate::session::Session;
use crate::sqlite::moving::{Draft, Locked};

pub(super) enum Side {
    LockedFile(Locked),
    NewFile(Draft),
    Server(PooledConnection),
}

impl Side {
    /// Locks a store against writes.
    pub(super) async fn locked(engine: &Engine) -> Result<Side, StoreError> {
        match engine {
            Engine::Sqlite(engine) => engine.lock().await.map(Side::LockedFile),
            Engine::Postgres(engine) => engine.lock().await.map(Side::Server),
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
