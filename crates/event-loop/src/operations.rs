//! How many reads and writes a task does before others run: a task that finds its sockets always ready must not
//! keep the loop.

use std::cell::Cell;
use std::task::{Context, Poll};

/// How many reads and writes a task may do in one poll. With buffers of 64 KiB that is 2 MiB, or about a
/// millisecond; a task that serves a request needs two or three. tokio's budget is 128 operations.
const OPERATIONS_A_POLL: u32 = 32;

thread_local! {
    static OPERATIONS_LEFT: Cell<u32> = const { Cell::new(OPERATIONS_A_POLL) };
}

/// Grants the operations of a poll that begins.
pub(crate) fn grant_operations() {
    OPERATIONS_LEFT.set(OPERATIONS_A_POLL);
}

/// Takes one of the operations of this poll. When they are used up, the task waits for its next turn; one
/// that is no task of ours, and gets no new grant when polled, gets it here.
pub(crate) fn poll_operation(cx: &Context<'_>) -> Poll<()> {
    match OPERATIONS_LEFT.get().checked_sub(1) {
        Some(left) => {
            OPERATIONS_LEFT.set(left);
            Poll::Ready(())
        }
        None => {
            grant_operations();
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}
