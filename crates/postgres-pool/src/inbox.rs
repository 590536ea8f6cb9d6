//! The notifications that have come on a connection.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<bool> {
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
