//! An allocator that remembers that it failed, so that the crash that follows can be told as such; and the last
//! line of a process that has no memory while it holds the lock of std's backtraces.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::turn;
use crate::unblocked::write_within;

/// The system's allocator. When it has no memory to give, the crash that follows is told as such
/// in the log: `#[global_allocator] static ALLOCATOR: Allocator = Allocator;`. Costs a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// Bytes that were asked for in vain last; 0: never.
static FAILED: AtomicUsize = AtomicUsize::new(0);
/// The turn of the loop in which that was.
static FAILED_IN_TURN: AtomicU32 = AtomicU32::new(0);

// SAFETY: all is left to the system's allocator; noting a failure allocates nothing.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of alloc.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of alloc_zeroed.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from one of the others here, and so from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the pointer is from one of the others here, and so from System.
        noted(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

#[inline]
fn noted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        FAILED.store(size, Ordering::Relaxed);
        FAILED_IN_TURN.store(turn::current(), Ordering::Relaxed);
        if ENDS.load(Ordering::Relaxed) {
            end(size);
        }
    }
    pointer
}

/// Whether the process exits here when it has no memory.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Runs code that holds the lock of std's backtraces, as formatting one does. If memory runs out in it, the
/// process exits, as it would have anyway: std would first report it, and wait for that lock forever.
pub fn naming_a_backtrace<T>(code: impl FnOnce() -> T) -> T {
    let _naming = Naming::begin();
    code()
}

/// Ends with the text, also when making it panics.
struct Naming;

impl Naming {
    fn begin() -> Naming {
        ENDS.store(true, Ordering::Relaxed);
        Naming
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        ENDS.store(false, Ordering::Relaxed);
    }
}

/// How long a last line waits for room on standard error.
const PATIENCE_MILLISECONDS: i64 = 250;

/// Ends the process in std's words, by which others know why.
#[cold]
fn end(size: usize) -> ! {
    // Nothing of this allocates. One write: it may be a log that others write to, or a pipe that nobody reads.
    let mut line = [0; 64];
    let mut rest = &mut line[..];
    let _ = writeln!(rest, "memory allocation of {size} bytes failed");
    let left = rest.len();
    let written = line.len() - left;
    // When it cannot be written there is nobody to tell.
    let _ = write_within(libc::STDERR_FILENO, &line[..written], PATIENCE_MILLISECONDS);
    std::process::abort();
}

/// Bytes that were asked for in vain in this turn of the loop; 0: there was memory. Async-signal-safe.
pub fn failed_in_this_turn() -> usize {
    let in_this_turn = FAILED_IN_TURN.load(Ordering::Relaxed) == turn::current();
    if in_this_turn { FAILED.load(Ordering::Relaxed) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_backtrace_is_named_ends_that() {
        let named = std::panic::catch_unwind(|| {
            naming_a_backtrace(|| {
                assert!(ENDS.load(Ordering::Relaxed));
                panic!("a Display that panics");
            })
        });
        assert!(named.is_err() && !ENDS.load(Ordering::Relaxed));
    }
}
