//! A limit of the memory that this process may take, so that asking for too much fails here instead of
//! the host ending the process; and an allocator that remembers that it failed.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::unblocked::write_within;
use super::{check, interval};

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
        FAILED_IN_TURN.store(interval::turn(), Ordering::Relaxed);
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

/// Bytes that were asked for in vain in this turn of the loop; 0: there was memory. Signal-safe.
pub(super) fn failed_in_this_turn() -> usize {
    let in_this_turn = FAILED_IN_TURN.load(Ordering::Relaxed) == interval::turn();
    if in_this_turn { FAILED.load(Ordering::Relaxed) } else { 0 }
}

/// A limit is in force, and this one was before.
static LIMITED: AtomicBool = AtomicBool::new(false);
static LIMIT_BEFORE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Keeps the limit in force.
#[derive(Debug)]
pub struct MemoryLimit(());

/// Lets this process grow by so many bytes and no more: its soft limit of address space (RLIMIT_AS)
/// becomes the present size + `bytes`, unless that is more than it is anyway. `None` when a limit of ours
/// is in force already.
///
/// Child processes inherit it; [`process::Command`](crate::process::Command) gives them the former one.
///
/// # Errors
/// When `/proc` is not mounted, and what `setrlimit(2)` answers.
pub fn limit_memory(bytes: u64) -> io::Result<Option<MemoryLimit>> {
    let before = address_space()?;
    let limit = size_now()?.saturating_add(bytes);
    if limit >= before.rlim_cur || LIMITED.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    LIMIT_BEFORE.store(before.rlim_cur as usize, Ordering::Relaxed);
    let limited = MemoryLimit(());
    set_address_space(libc::rlimit { rlim_cur: limit, ..before })?;
    Ok(Some(limited))
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        lift_limit();
    }
}

/// Puts back the limit that was before. Signal-safe: for a next image, for a child.
pub(crate) fn lift_limit() {
    if LIMITED.swap(false, Ordering::Relaxed)
        && let Ok(limit) = address_space()
    {
        let before = LIMIT_BEFORE.load(Ordering::Relaxed) as libc::rlim_t;
        // To raise a soft limit up to the hard one is always allowed.
        let _ = set_address_space(libc::rlimit { rlim_cur: before, ..limit });
    }
}

/// The limit that was before, for a child that is started meanwhile; ours again when this is dropped.
pub(crate) struct Lifted(Option<libc::rlimit>);

impl Lifted {
    /// Lifts the limit, if one of ours is in force.
    pub(crate) fn for_now() -> Lifted {
        let ours = LIMITED.load(Ordering::Relaxed).then(address_space).and_then(Result::ok);
        if ours.is_some() {
            lift_limit();
        }
        Lifted(ours)
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if let Some(ours) = self.0
            && set_address_space(ours).is_ok()
        {
            LIMITED.store(true, Ordering::Relaxed);
        }
    }
}

fn address_space() -> io::Result<libc::rlimit> {
    let mut limit = MaybeUninit::uninit();
    // SAFETY: `limit` has room for an rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_AS, limit.as_mut_ptr()) })?;
    // SAFETY: getrlimit succeeded and has filled it.
    Ok(unsafe { limit.assume_init() })
}

fn set_address_space(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is a whole rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) })?;
    Ok(())
}

/// Bytes of address space that this process has.
fn size_now() -> io::Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = pages
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm is not understood"))?;
    // SAFETY: sysconf takes a number.
    Ok(pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64)
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
