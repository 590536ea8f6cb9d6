//! Waiting for PostgreSQL's notifications (`LISTEN`, `NOTIFY`).

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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

/// Whether notifications have come on a connection, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    has_come: bool,
    is_closed: bool,
    waiting: Option<Waker>,
}

impl Inbox {
    /// A notification has come.
    pub(crate) fn put(&self) {
        self.change(|state| state.has_come = true);
    }

    /// The connection is lost.
    pub(crate) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if mem::take(&mut state.has_come) {
            return Poll::Ready(true);
        }
        if state.is_closed {
            return Poll::Ready(false);
        }
        state.waiting = Some(context.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
