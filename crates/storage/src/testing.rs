//! For the tests of this crate.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::{Migration, Schema, Store, Trust};

/// One table.
pub(crate) const FACTS: Schema = Schema {
    name: "site",
    migrations: &[Migration::contract(
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    )],
};

/// A store in this file, with the table [`FACTS`].
pub(crate) fn store_at(file: impl Into<PathBuf>) -> Store {
    Store::in_file(file, Trust::default(), FACTS)
}

/// Runs a future without a loop, where it never waits: the thread sleeps instead.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something else"),
    }
}
