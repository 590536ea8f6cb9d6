//! The pool: what callers hold.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::connection::PooledConnection;
use crate::connector::Connector;
use crate::error::PoolError;
use crate::listener::Listener;
use crate::settings::Settings;
use crate::shared::Shared;

/// Connections to one database, opened as needed, and closed when nobody needs them. Cheap to clone.
///
/// The connections belong to the loop that runs when they are opened. In a forked child that continues the loop
/// (`process::draining_child`), they continue. In one that does not (`process::fork`, `process::compute`), the pool
/// forgets them and opens its own.
#[derive(Clone, Debug)]
pub struct Pool {
    connector: Arc<Connector>,
    /// Of the loop that used it last.
    shared: Arc<Mutex<Option<Arc<Shared>>>>,
}

impl Pool {
    /// Creates a pool. Nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        Pool { connector: Arc::new(Connector::new(settings)), shared: Arc::default() }
    }

    /// Returns a connection: an idle one, or a new one if there are fewer than [`Settings::max`]; otherwise waits,
    /// behind those who wait already. Opening one takes at most [`Settings::connect_timeout`] for each host's name and
    /// for each address.
    ///
    /// What the server has closed is noticed, and replaced. (A connection can still be lost at any time; then a
    /// statement fails with an error that [`is_closed`](tokio_postgres::Error::is_closed), or with 57P01.) While the
    /// server cannot be reached, this fails at once with the last error, and tries again from time to time: after 100 ms
    /// at first, once a second later.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    ///
    /// # Panics
    ///
    /// If no event loop runs on this thread.
    pub async fn connection(&self) -> Result<PooledConnection, PoolError> {
        let shared = self.shared();
        let permit = shared.permit().await?;
        let open = shared.connection().await?;
        Ok(PooledConnection::new(shared, open, permit))
    }

    /// Opens a connection that waits for notifications of a channel. It does not count among those of the pool.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub async fn listen(&self, channel: &str) -> Result<Listener, PoolError> {
        Listener::new(Arc::clone(&self.connector), channel).await
    }

    /// Returns whether the server has to accept writes (`target_session_attrs=read-write`).
    pub fn has_to_write(&self) -> bool {
        self.connector.settings.target.read_write
    }

    fn shared(&self) -> Arc<Shared> {
        let owner = event_loop::loop_id().expect(NO_LOOP);
        let mut current = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = current.as_ref().filter(|shared| shared.owner == owner) {
            return Arc::clone(shared);
        }
        let shared = Shared::new(owner, Arc::clone(&self.connector));
        // After a fork, the connections are the parent's: their drop would wake its tasks. If the loop has ended, little
        // is left of them.
        mem::forget(current.replace(Arc::clone(&shared)));
        // And the generator of the nonces of logins (SCRAM) is a copy of the parent's: two children would draw the same
        // ones. It fails only without a source of randomness; then so does the login.
        let _ = rand::rng().reseed();
        shared
    }
}

const NO_LOOP: &str = "no event loop runs on this thread; call this inside event_loop::run";
