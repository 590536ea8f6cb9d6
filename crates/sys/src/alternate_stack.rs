//! A stack of its own for handlers of fatal signals, which have to run when the thread's own is full.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::errno::check;
use crate::mapping::{map, page_size};

/// What handlers need of a stack, beside the frame in which the kernel keeps the registers: that one takes 1
/// to 12 KiB, as the processor's vectors are wide.
const STACK_BYTES: usize = 128 * 1024;

static MADE: AtomicBool = AtomicBool::new(false);

/// Makes the stack, once a process, with a page below it that cannot be touched.
///
/// # Errors
///
/// When there is no memory for it.
pub fn make() -> io::Result<()> {
    if MADE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: getauxval takes a number; 0 means that the kernel does not tell.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let page = page_size() as usize;
    let size = (frame.max(libc::MINSIGSTKSZ) + STACK_BYTES).next_multiple_of(page);
    let memory = map(size + page)?;
    // SAFETY: the page is the first of the mapping that was just made; nobody uses it.
    check(unsafe { libc::mprotect(memory, page, libc::PROT_NONE) })?;
    let stack = libc::stack_t { ss_sp: memory.wrapping_byte_add(page), ss_flags: 0, ss_size: size };
    // SAFETY: the stack is a mapping of that size that is never unmapped.
    check(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })?;
    MADE.store(true, Ordering::Relaxed);
    Ok(())
}
