//! An allocator that records failures, so that the crash that follows can be reported as out of memory; and the last
//! line of a process that runs out of memory while it holds std's backtrace lock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::turn;
use crate::unblocked::write_within;

/// The system's allocator, which also records failures, so that the log can name the cause of the crash that follows:
/// `#[global_allocator] static ALLOCATOR: Allocator = Allocator;`. Costs one comparison per allocation.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// The size in bytes of the last allocation that failed; 0 if none has.
static FAILED: AtomicUsize = AtomicUsize::new(0);
/// The turn of the event loop in which it failed.
static FAILED_IN_TURN: AtomicU32 = AtomicU32::new(0);

// SAFETY: everything is forwarded to the system's allocator; recording a failure allocates nothing.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of alloc.
        recorded(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of alloc_zeroed.
        recorded(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from one of the other methods here, and so from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the pointer is from one of the other methods here, and so from System.
        recorded(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

#[inline]
fn recorded(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        FAILED.store(size, Ordering::Relaxed);
        FAILED_IN_TURN.store(turn::current(), Ordering::Relaxed);
        if ABORTS.load(Ordering::Relaxed) {
            abort(size);
        }
    }
    pointer
}

/// Whether the process aborts right in the allocator when an allocation fails.
static ABORTS: AtomicBool = AtomicBool::new(false);

/// Runs code that holds std's backtrace lock, as formatting a backtrace does. If an allocation fails in it, the
/// process aborts right away. It would have aborted anyway, but std would first report the failure, and wait for
/// that lock forever.
pub fn with_backtrace_lock<T>(code: impl FnOnce() -> T) -> T {
    let _abort = AbortOnFailure::begin();
    code()
}

/// In force until it is dropped, also by a panic.
struct AbortOnFailure;

impl AbortOnFailure {
    fn begin() -> AbortOnFailure {
        ABORTS.store(true, Ordering::Relaxed);
        AbortOnFailure
    }
}

impl Drop for AbortOnFailure {
    fn drop(&mut self) {
        ABORTS.store(false, Ordering::Relaxed);
    }
}

/// How long the last line waits for room on standard error.
const PATIENCE_MILLISECONDS: i64 = 250;

/// Aborts with std's message, from which the parent process recognizes the cause.
#[cold]
fn abort(size: usize) -> ! {
    // None of this allocates. A single write, because others may write to the same log.
    let mut line = [0; 64];
    let mut rest = &mut line[..];
    let _ = writeln!(rest, "memory allocation of {size} bytes failed");
    let left = rest.len();
    let written = line.len() - left;
    // If this cannot be written, there is nowhere to report it.
    let _ = write_within(libc::STDERR_FILENO, &line[..written], PATIENCE_MILLISECONDS);
    std::process::abort();
}

/// Returns the size in bytes of the last allocation that failed in this turn of the event loop; 0 if none did.
/// Async-signal-safe.
pub fn failed_in_this_turn() -> usize {
    let in_this_turn = FAILED_IN_TURN.load(Ordering::Relaxed) == turn::current();
    if in_this_turn { FAILED.load(Ordering::Relaxed) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_under_the_backtrace_lock_restores_the_default() {
        let outcome = std::panic::catch_unwind(|| {
            with_backtrace_lock(|| {
                assert!(ABORTS.load(Ordering::Relaxed));
                panic!("a Display that panics");
            })
        });
        assert!(outcome.is_err() && !ABORTS.load(Ordering::Relaxed));
    }
}
