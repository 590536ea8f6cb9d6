//! The loop in a forked child, which has a copy of it: forgetting it, or taking it over.
//!
//! A fork copies memory and descriptors, but the poll set and the self-pipe stay shared: what one process removes is
//! gone for the other. The crate `process` decides who forks and what else the child has to do.

use std::io;

use crate::loop_state::{self, Loop, no_loop, with_current};
use crate::signal_inbox;

/// Forgets this thread's loop without ending it: none of its futures continues or is dropped, and the caller has to
/// close its descriptors. Signals are no longer listened for. A new loop may be run.
pub fn forget() {
    signal_inbox::forget();
    loop_state::forget();
}

/// Returns whether [`take_over`] can work, before a fork.
///
/// # Errors
///
/// `Unsupported` if the loop runs inside tokio, whose poll set would stay shared; any other if no loop runs on this
/// thread.
pub fn can_be_taken_over() -> io::Result<()> {
    match with_current(|state| state.hosted.get()).ok_or_else(no_loop)? {
        false => Ok(()),
        true => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "a loop inside tokio cannot be forked"))
        }
    }
}

/// Continues the loop in the child: everything it watches is added to a new poll set, and signals use a new
/// self-pipe. Tasks, timers and sockets continue as they were.
///
/// # Errors
///
/// If descriptors are short, or no loop runs on this thread. The parent's poll set may still be shared then, so the
/// child has to exit.
pub fn take_over() -> io::Result<()> {
    with_current(recreate).unwrap_or_else(|| Err(no_loop()))
}

fn recreate(state: &Loop) -> io::Result<()> {
    state.reactor.recreate()?;
    if let Some(waker) = state.reactor.take_loop_waker(true)? {
        state.ready.set_loop_waker(waker);
    }
    state.ready.take_remote_wakes();
    state.signals.recreate(&state.reactor)
}
