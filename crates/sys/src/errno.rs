//! errno: checked once after each call, and preserved by signal handlers.

use std::ffi::c_int;
use std::io;

/// Turns a system call's -1 into the error in errno.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Returns errno. Async-signal-safe.
fn errno() -> c_int {
    // SAFETY: errno's address is always valid for the running thread.
    unsafe { *libc::__errno_location() }
}

/// Restores errno when dropped, for the code that a signal handler interrupts. Async-signal-safe.
pub(crate) struct SavedErrno(c_int);

impl SavedErrno {
    pub(crate) fn save() -> Self {
        SavedErrno(errno())
    }
}

impl Drop for SavedErrno {
    fn drop(&mut self) {
        // SAFETY: errno's address is always valid for the running thread.
        unsafe { *libc::__errno_location() = self.0 };
    }
}
