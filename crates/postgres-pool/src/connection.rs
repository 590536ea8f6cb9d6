//! A connection in the hands of a caller.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio_postgres::{Client, Error, Statement};

use crate::open::Open;
use crate::shared::{Permit, Shared};

/// A connection of a [`Pool`](crate::Pool), for as long as it is held.
///
/// * [`release`](Self::release) gives it back for the next caller. **Its drop closes it**: a handler whose visitor has
///   gone, or that returned early by `?`, is dropped in the middle of whatever it did. If a statement is in flight then,
///   it is cancelled on the server; an open transaction is rolled back.
/// * It is a [`Client`], and everything that can be awaited on it is `Send`.
/// * In a forked child that does not continue the loop, nothing can be done with it, not even close it.
#[must_use = "a connection that is dropped is closed"]
pub struct PooledConnection {
    shared: Arc<Shared>,
    /// `None` only while it is released or dropped.
    held: Option<(Open, Permit)>,
}

impl PooledConnection {
    pub(crate) fn new(shared: Arc<Shared>, open: Open, permit: Permit) -> Self {
        PooledConnection { shared, held: Some((open, permit)) }
    }

    /// Gives the connection back to the pool, for the next caller.
    ///
    /// To be called when every statement has been responded to in full, also those whose futures were dropped, and
    /// outside of a transaction. What a session keeps (`SET`, temporary tables, advisory locks) is kept for the next
    /// caller.
    pub fn release(mut self) {
        if self.is_of_this_loop()
            && let Some((open, permit)) = self.held.take_if(|(open, _)| !open.client.is_closed())
        {
            self.shared.give_back(open, permit);
        }
    }

    /// Closes the connection because its server does not do what it is needed for, as a write that was refused by one that
    /// has become read-only. So are those to the same server that are idle, and the next attempt to connect begins with
    /// another host or address, if there are several.
    pub fn avoid_server(self) {
        if self.is_of_this_loop() {
            self.shared.avoid(&self.open().endpoint);
        }
    }

    /// Prepares a statement, or returns the one that this connection has prepared for the same SQL before. It keeps
    /// the 100 that were used last.
    ///
    /// After a change of the tables, PostgreSQL may refuse a statement that was prepared before (0A000, "cached plan
    /// must not change result type"); on another connection it is prepared anew.
    ///
    /// # Errors
    ///
    /// As [`Client::prepare`].
    pub async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        self.open().prepare_cached(sql).await
    }

    fn open(&self) -> &Open {
        &self.held.as_ref().expect(HELD).0
    }

    /// Returns whether the connection belongs to the loop that runs now. It does not in a forked child with a loop of
    /// its own.
    fn is_of_this_loop(&self) -> bool {
        event_loop::loop_id() == Some(self.shared.owner)
    }
}

const HELD: &str = "only release and drop, which consume the connection, take this out";

impl Deref for PooledConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.open().client
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.held.as_mut().expect(HELD).0.client
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some((open, permit)) = self.held.take() else { return };
        if self.is_of_this_loop() {
            self.shared.close(open, permit);
        } else {
            // The socket is the parent's, and its tasks must not be woken. If the loop has ended, so has the task.
            mem::forget((open, permit, Arc::clone(&self.shared)));
        }
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PooledConnection").field(&self.held).finish()
    }
}
