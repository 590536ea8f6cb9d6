//! What a store does, on every engine: each test runs on SQLite and on a real PostgreSQL server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod concurrency;
mod failover;
mod faults;
mod moving;
mod obstacles;
mod outages;
mod proxy;
mod schemas;
mod statements;
mod statistics;
mod wake_ups;

use std::path::Path;

use postgres_fixture::Server;
use storage::{Schema, Store, StoreError, Trust, params};

/// Where a test's stores are.
#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Path),
    Server(&'a Server),
}

impl Place<'_> {
    /// Returns a handle with connections of its own, as another process would have.
    fn store(self, schema: Schema) -> Store {
        match self {
            Place::File(file) => Store::in_file(file, Trust::default(), schema),
            Place::Server(server) => in_postgres(&server.url(), schema),
        }
    }
}

fn in_postgres(url: &str, schema: Schema) -> Store {
    Store::in_postgres(&url.parse().unwrap(), schema)
}

/// Runs a test on every engine.
fn on_every_engine(test: impl AsyncFn(Place<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    event_loop::run(test(Place::File(&folder.path().join("data/store.db")))).unwrap();
    let server = Server::start();
    event_loop::run(test(Place::Server(&server))).unwrap();
}

fn said<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().to_string()
}

async fn put(store: &Store, name: &str, value: &str) -> Result<u64, StoreError> {
    let put = "INSERT INTO facts (name, value) VALUES ($1, $2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    store.write(async |store| store.execute(put, params![name, value]).await).await
}

async fn names(store: &Store) -> Result<Vec<String>, StoreError> {
    let names = "SELECT name FROM facts ORDER BY name";
    store.read(async |store| store.query(names, &[]).await).await
}
