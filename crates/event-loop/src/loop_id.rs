//! The identity of a loop: handles store it, so that they never use another loop's row with the same key.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a loop among all loops of the process, including those that have ended. From
/// [`loop_id`](crate::loop_id()).
///
/// A draining child continues its parent's loop, with the same identity; a loop that a fresh child runs has an identity
/// that no loop of its parent had before the fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopId(u64);

impl LoopId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        LoopId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
