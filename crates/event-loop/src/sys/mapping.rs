//! Memory outside the heap, for what must survive code that destroys the heap.

use std::ffi::c_void;
use std::io;
use std::ptr;

/// Maps fresh, zeroed memory of `size` bytes, aligned to a page.
pub(super) fn map(size: usize) -> io::Result<*mut c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
    let memory = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory) }
}
