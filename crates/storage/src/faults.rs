//! For tests: lets one statement of this thread fail, as if the disk were full or the server out of memory.

use std::cell::Cell;

use crate::error::StoreError;

thread_local! {
    /// How many statements are left until one fails; 0 for never.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Lets the `number`-th statement from now on fail, the first being 1. Beginning and committing count, too.
pub fn fail_statement(number: u32) {
    LEFT.set(number);
}

/// Cancels the failure; returns whether it was still to come.
pub fn take_back() -> bool {
    LEFT.replace(0) > 0
}

pub(crate) fn next_statement() -> Result<(), StoreError> {
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    if left == 1 { Err(StoreError::Full) } else { Ok(()) }
}
