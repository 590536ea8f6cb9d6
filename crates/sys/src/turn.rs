//! Which turn of the event loop runs: a count that signal handlers and the allocator can read.
//!
//! The loop counts; a watchdog sees that the count stands still, and the allocator tells a failure of this
//! turn from one that was survived long ago. Async-signal-safe.

use std::sync::atomic::{AtomicU32, Ordering};

/// Odd while the loop works, even while it waits.
static TURN: AtomicU32 = AtomicU32::new(0);

/// The loop begins to wait.
#[inline]
pub fn waits() {
    TURN.store(TURN.load(Ordering::Relaxed).wrapping_add(1) & !1, Ordering::Relaxed);
}

/// The loop has waited, and works.
#[inline]
pub fn works() {
    TURN.store(TURN.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
}

/// Tells this turn from others.
#[inline]
pub fn current() -> u32 {
    TURN.load(Ordering::Relaxed)
}

/// Whether a turn is one of work, not of waiting.
pub fn is_work(turn: u32) -> bool {
    turn % 2 == 1
}
