//! An alternate stack for the handlers of fatal signals, which have to run even when the thread's stack has
//! overflowed.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MprotectFlags, mprotect};

use crate::errno::check;
use crate::mapping::{map, page_size};

/// The stack that handlers need, in bytes, beside the frame in which the kernel saves the registers: 1 to 12 KiB,
/// depending on the width of the processor's vectors.
const STACK_BYTES: usize = 128 * 1024;

static MADE: AtomicBool = AtomicBool::new(false);

/// Installs the stack, once per process, with a guard page below it.
///
/// # Errors
///
/// If there is no memory for it.
pub fn make() -> io::Result<()> {
    if MADE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: getauxval takes a number; 0 means that the kernel does not say.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let page = page_size() as usize;
    let size = (frame.max(libc::MINSIGSTKSZ) + STACK_BYTES).next_multiple_of(page);
    let memory = map(size + page)?;
    // SAFETY: the page is the first of the mapping made above; nothing uses it.
    unsafe { mprotect(memory, page, MprotectFlags::empty()) }?;
    let stack = libc::stack_t { ss_sp: memory.wrapping_byte_add(page), ss_flags: 0, ss_size: size };
    // SAFETY: the stack is a mapping of that size that is never unmapped.
    check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })?;
    MADE.store(true, Ordering::Relaxed);
    Ok(())
}
