//! C code that crashes on purpose: for the tool *diagnostics*, which shows an owner what the host and the server
//! do with it, and for the tests that prove it. It is in a program only when its feature `culprits` is on; the
//! program as it ships has none of it.
//!
//! The C code is in `culprits.c`; calling it takes unsafe code.

#![allow(unsafe_code)]

unsafe extern "C" {
    fn culprit_segv();
    fn culprit_double_free();
    fn culprit_overrun();
    fn culprit_malloc();
}

/// Writes to an address that is not mapped: SIGSEGV.
pub fn segv() {
    // SAFETY: none. The process is ended by the kernel, which is what the caller wants to see.
    unsafe { culprit_segv() }
}

/// Frees the same block twice: the allocator aborts the process.
pub fn double_free() {
    // SAFETY: none. The allocator notices and aborts the process, which the caller wants to see.
    unsafe { culprit_double_free() }
}

/// Writes past the end of a block: the allocator notices when the next one is freed.
pub fn overrun() {
    // SAFETY: none. As above.
    unsafe { culprit_overrun() }
}

/// Writes past the end of the heap: the allocator notices inside `malloc`, with its lock held.
pub fn malloc() {
    // SAFETY: none. As above.
    unsafe { culprit_malloc() }
}
