//! For tests: lets one statement of this thread fail.

use std::cell::Cell;

use crate::error::StoreError;

/// How many statements are left until one fails, and with which error.
type Left = (u32, fn() -> StoreError);

thread_local! {
    static LEFT: Cell<Option<Left>> = const { Cell::new(None) };
}

/// Lets the `number`-th statement from now on fail, the first being 1, with an error: [`StoreError::Full`], as if the
/// disk were full, or [`StoreError::Conflict`], which is over when it is tried again. Beginning and committing count, too,
/// and so does each step with the files of a copy.
pub fn fail_statement(number: u32, error: fn() -> StoreError) {
    LEFT.set(Some((number, error)));
}

/// Cancels the failure; returns whether it was still to come.
pub fn take_back() -> bool {
    LEFT.take().is_some()
}

pub(crate) fn next_statement() -> Result<(), StoreError> {
    let Some((left, error)) = LEFT.get() else { return Ok(()) };
    LEFT.set((left > 1).then_some((left - 1, error)));
    if left > 1 { Ok(()) } else { Err(error()) }
}
