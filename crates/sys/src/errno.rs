//! errno: checked once after each call, and kept from what a signal handler interrupts.

use std::ffi::c_int;
use std::io;

/// Turns the -1 of a system call into the error that errno names.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Returns errno. Async-signal-safe.
pub(crate) fn errno() -> c_int {
    // SAFETY: errno's address is always valid for the running thread.
    unsafe { *libc::__errno_location() }
}

/// Puts errno back when dropped: the code that a handler interrupts finds it as it was. Async-signal-safe.
pub(crate) struct KeptErrno(c_int);

impl KeptErrno {
    pub(crate) fn keep() -> Self {
        KeptErrno(errno())
    }
}

impl Drop for KeptErrno {
    fn drop(&mut self) {
        // SAFETY: errno's address is always valid for the running thread.
        unsafe { *libc::__errno_location() = self.0 };
    }
}
