//! How many reads and writes a task may do before others run, so that a task whose sockets are always ready does not
//! monopolize the loop.

use std::cell::Cell;
use std::task::{Context, Poll};

/// How many reads and writes a task may do in one poll. With buffers of 64 KiB that is 2 MiB, or about a
/// millisecond; a task that serves a request needs two or three. tokio's budget is 128 operations.
const OPERATIONS_A_POLL: u32 = 32;

thread_local! {
    static OPERATIONS_LEFT: Cell<u32> = const { Cell::new(OPERATIONS_A_POLL) };
}

/// Renews the budget at the start of a poll.
pub(crate) fn grant_operations() {
    OPERATIONS_LEFT.set(OPERATIONS_A_POLL);
}

/// Takes one operation from the budget of this poll. If it is used up, the task has to wait for its next turn; the
/// budget is renewed here for futures that are not polled as tasks of this loop.
pub(crate) fn poll_operation(context: &Context<'_>) -> Poll<()> {
    match OPERATIONS_LEFT.get().checked_sub(1) {
        Some(left) => {
            OPERATIONS_LEFT.set(left);
            Poll::Ready(())
        }
        None => {
            grant_operations();
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
}
