//! Descriptors by number: those that another program left in this process, those that a forked child shares with its
//! parent, and those that a signal handler finds in a table.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat};
use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::errno::check;

/// Takes ownership of the descriptor with this number and makes it close-on-exec; `None` if it is not open.
///
/// Call it at most once per number, and only where another program stated that it left the descriptor here: nothing
/// else may own it.
pub fn take(fd: RawFd) -> Option<OwnedFd> {
    set_close_on_exec(fd, true).ok()?;
    // SAFETY: fcntl succeeded, so it is open; it was left here to be ours, and the caller takes it once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets whether a descriptor is closed by `execve(2)`. Async-signal-safe.
///
/// # Errors
///
/// EBADF if it is not open.
pub fn set_close_on_exec(fd: RawFd, close: bool) -> io::Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // Not rustix, whose descriptors are open: some callers use this to find out whether one is.
    // SAFETY: F_SETFD takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) })?;
    Ok(())
}

/// Makes every descriptor except the three standard ones close-on-exec. Async-signal-safe.
///
/// # Errors
///
/// If `/proc` is not mounted, or descriptors are short.
pub fn close_all_on_exec() -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 {
            let _ = set_close_on_exec(fd, true);
        }
    })
}

/// Closes what connects a process to others: sockets (listeners, connections), pipes, and the kernel's anonymous
/// files (epoll, eventfd), except those in `given` and the three standard ones.
///
/// Files with a path stay open: a log file, a random source that a library keeps.
///
/// Only for a forked child that never drops the values it has copied from its parent: their numbers may be reused.
///
/// # Errors
///
/// If `/proc` is not mounted, or descriptors are short.
pub fn close_connections(given: &[RawFd]) -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 && !given.contains(&fd) && is_connection(fd) {
            // SAFETY: close takes an integer; the value that owns the descriptor belongs to the parent and is never
            // dropped in this process.
            unsafe { libc::close(fd) };
        }
    })
}

fn is_connection(fd: RawFd) -> bool {
    let Ok(status) = fstat(borrow(fd)) else { return false };
    let kind = FileType::from_raw_mode(status.st_mode);
    // Anonymous files have no file type.
    matches!(kind, FileType::Socket | FileType::Fifo | FileType::Unknown)
}

/// Calls `act` with every open descriptor except the one used for listing. `act` may close the descriptor.
/// Async-signal-safe if `act` is.
fn each_descriptor(mut act: impl FnMut(RawFd)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    let own = folder.as_raw_fd();
    let mut entries = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(folder, &mut entries);
    while let Some(entry) = entries.next() {
        if let Some(fd) = number(entry?.file_name().to_bytes()).filter(|fd| *fd != own) {
            act(fd);
        }
    }
    Ok(())
}

/// Parses the number of a descriptor. Async-signal-safe.
pub fn number(digits: &[u8]) -> Option<RawFd> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number >= 0)
}

/// Shuts a connection down, or one direction of it (`shutdown(2)`). Async-signal-safe.
pub fn shutdown(fd: RawFd, how: Shutdown) {
    // Fails if the peer has reset the connection, which then needs no shutdown.
    let _ = rustix::net::shutdown(borrow(fd), how);
}

/// Duplicates `fd` onto descriptor 0, to be inherited. Async-signal-safe.
pub fn put_on_stdin(fd: RawFd) {
    // EBUSY: another thread is opening a file at that number right now (Linux).
    while let Err(Errno::INTR | Errno::BUSY) = rustix::stdio::dup2_stdin(borrow(fd)) {}
}

/// Borrows an open descriptor by its number. Async-signal-safe.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    debug_assert!(fd >= 0, "{fd} is not a descriptor");
    // SAFETY: functions of this crate that take a number are called with that of an open descriptor, and pass the
    // result to one system call.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_descriptors() {
        for (digits, expected) in
            [("0", Some(0)), ("17", Some(17)), ("", None), ("-1", None), ("99999999999", None)]
        {
            assert_eq!(number(digits.as_bytes()), expected, "{digits}");
        }
    }
}
