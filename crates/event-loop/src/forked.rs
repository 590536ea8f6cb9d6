//! The loop in the child of a fork, which has a copy of it: forgotten, or made the child's own.
//!
//! A fork copies memory and descriptors, but a poll set and a self-pipe stay shared: what one of the two takes out
//! is gone for the other. Who forks, and what else the child has to do, is the business of the crate `process`.

use std::io;

use crate::loop_state::{self, Loop, no_loop, with_current};
use crate::signal_inbox;

/// Forgets this thread's loop without ending it: none of its futures goes on or is dropped, and its descriptors are
/// closed by whoever calls this. Nobody listens to signals any more. A new loop may be run.
pub fn forget() {
    signal_inbox::forget();
    loop_state::forget();
}

/// Says whether [`take_over`] can work, before a fork.
///
/// # Errors
///
/// `Unsupported` when the loop lives inside tokio, whose own poll set would stay shared; another error when no
/// loop runs on this thread.
pub fn can_be_taken_over() -> io::Result<()> {
    match with_current(|state| state.hosted.get()).ok_or_else(no_loop)? {
        false => Ok(()),
        true => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "a loop inside tokio cannot be copied"))
        }
    }
}

/// Makes everything the child's own: what the loop watches is watched in a new poll set, and signals come by a new
/// pipe. Tasks, timers and sockets go on as they were.
///
/// # Errors
///
/// When descriptors are short, or no loop runs on this thread. The parent's loop may be disturbed then: the child
/// has to end.
pub fn take_over() -> io::Result<()> {
    with_current(remake).unwrap_or_else(|| Err(no_loop()))
}

fn remake(state: &Loop) -> io::Result<()> {
    state.reactor.remake()?;
    if let Some(bell) = state.reactor.take_bell(true)? {
        state.ready.hang_bell(bell);
    }
    state.ready.take_arrivals();
    state.signals.remake(&state.reactor)
}
