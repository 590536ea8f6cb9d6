//! The current turn of the event loop: a count that signal handlers and the allocator can read.
//!
//! The loop counts; a watchdog notices when the count stops changing, and the allocator distinguishes a failure in
//! this turn from an earlier one that was survived. Async-signal-safe.

use std::sync::atomic::{AtomicU32, Ordering};

/// Odd while the loop works, even while it waits.
static TURN: AtomicU32 = AtomicU32::new(0);

/// Records that the loop starts to wait.
#[inline]
pub fn begin_wait() {
    TURN.store(TURN.load(Ordering::Relaxed).wrapping_add(1) & !1, Ordering::Relaxed);
}

/// Records that the loop has waited and works again.
#[inline]
pub fn end_wait() {
    TURN.store(TURN.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
}

/// Returns the number of the current turn, which wraps around.
#[inline]
pub fn current() -> u32 {
    TURN.load(Ordering::Relaxed)
}

/// Returns whether the loop works in this turn, rather than waits.
pub fn is_work(turn: u32) -> bool {
    turn % 2 == 1
}
