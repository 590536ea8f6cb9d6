//! Which loop: handles remember it, so that they never meet another loop's row under the same key.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the loops of a process apart, those that have ended included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoopId(u64);

impl LoopId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        LoopId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
