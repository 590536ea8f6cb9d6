//! The flags of a descriptor (`fcntl(2)`): non-blocking and close-on-exec.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};

/// Sets O_NONBLOCK on the open file that `fd` refers to; all its duplicates share the flag.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    if !flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Sets FD_CLOEXEC on `fd`.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfd(fd, FdFlags::CLOEXEC)?)
}

/// Returns whether `fd` is close-on-exec and whether it is non-blocking.
#[cfg(test)]
pub(crate) fn flags(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let close_on_exec = rustix::io::fcntl_getfd(fd)?.contains(FdFlags::CLOEXEC);
    Ok((close_on_exec, fcntl_getfl(fd)?.contains(OFlags::NONBLOCK)))
}
