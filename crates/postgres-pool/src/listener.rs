//! Waiting for PostgreSQL's notifications (`LISTEN`, `NOTIFY`).

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;

use event_loop::LoopId;

use crate::connector::Connector;
use crate::error::PoolError;
use crate::open::Open;

/// A connection of its own, beside those of the pool, that waits for notifications of one channel. From
/// [`Pool::listen`](crate::Pool::listen). Its drop closes the connection.
pub struct Listener {
    connector: Arc<Connector>,
    owner: Option<LoopId>,
    open: Option<Open>,
}

impl Listener {
    pub(crate) async fn new(
        connector: Arc<Connector>,
        channel: &str,
    ) -> Result<Listener, PoolError> {
        let open = connector.connect().await?;
        let listens = open.client.batch_execute(&format!("LISTEN {}", quoted(channel))).await;
        let failure = listens.err().map(|error| connector.failure(&open.endpoint, &error));
        let listener = Listener { connector, owner: event_loop::loop_id(), open: Some(open) };
        failure.map_or(Ok(listener), Err)
    }

    /// Returns `true` once the channel was notified since the last call, and `false` when the connection is lost. Several
    /// notifications in between count as one.
    pub async fn notified(&mut self) -> bool {
        let Some(open) = &self.open else { return false };
        poll_fn(|context| open.inbox.poll(context)).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if self.owner.is_some() && event_loop::loop_id() == self.owner {
            let connector = Arc::clone(&self.connector);
            event_loop::spawn(async move { connector.close(open).await }).detach();
        } else {
            // The socket is the parent's, and its tasks must not be woken.
            mem::forget(open);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Returns a channel's name as an identifier in SQL.
fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}
