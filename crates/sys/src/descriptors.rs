//! Descriptors by number: those another process or program left here, those a copy of the process shares, and
//! those that a signal handler finds in a table.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, RawDir};

use crate::errno::{check, errno};

/// Takes the descriptor with this number and makes it close-on-exec; `None` when it is not open.
///
/// To be called once for a number, and where another process or program said that it left the descriptor here:
/// nobody else may own it.
pub fn take(fd: RawFd) -> Option<OwnedFd> {
    set_close_on_exec(fd, true).ok()?;
    // SAFETY: fcntl succeeded, so it is open; it was left here to be ours, and the caller takes it once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets whether a descriptor passes into the next program. Async-signal-safe.
///
/// # Errors
///
/// EBADF when it is not open.
pub fn set_close_on_exec(fd: RawFd, close: bool) -> io::Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) })?;
    Ok(())
}

/// Lets no descriptor but the three standard ones pass into the next program. Async-signal-safe.
pub fn close_all_on_exec() -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 {
            let _ = set_close_on_exec(fd, true);
        }
    })
}

/// Closes what lets a process hold on to others: sockets (listeners, connections), pipes, and the kernel's
/// nameless files (epoll, eventfd). Except those `given` and the three standard ones.
///
/// What has a name stays open: a log file, a random source that a library keeps.
///
/// For a forked child that never drops what it has a copy of: the numbers may become somebody else's.
pub fn close_connections(given: &[RawFd]) -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 && !given.contains(&fd) && is_connection(fd) {
            // SAFETY: close takes an integer; the owner of the descriptor is in the parent's world and is
            // never dropped in this process.
            unsafe { libc::close(fd) };
        }
    })
}

fn is_connection(fd: RawFd) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` has room for the answer.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } == -1 {
        return false;
    }
    // SAFETY: fstat succeeded and has filled it.
    let kind = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
    // Nameless files have no kind at all.
    matches!(kind, libc::S_IFSOCK | libc::S_IFIFO | 0)
}

/// Calls `act` with every open descriptor but the one that this itself needs. It may close the descriptor.
/// Async-signal-safe, if `act` is.
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

/// Reads a decimal number without a sign. Async-signal-safe.
pub fn number(digits: &[u8]) -> Option<RawFd> {
    let mut number: RawFd = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(RawFd::from(digit))?;
    }
    (!digits.is_empty()).then_some(number)
}

/// Which direction of a connection [`shutdown`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nothing more is written: the other side reads an end.
    Write,
    /// Nothing more is read or written.
    Both,
}

/// Ends a connection, or one direction of it (`shutdown(2)`). Async-signal-safe.
pub fn shutdown(fd: RawFd, direction: Direction) {
    let how = match direction {
        Direction::Write => libc::SHUT_WR,
        Direction::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes numbers.
    unsafe { libc::shutdown(fd, how) };
}

/// Puts a duplicate of `fd` on descriptor 0, to be inherited. Async-signal-safe.
pub fn put_on_stdin(fd: RawFd) {
    // SAFETY: takes numbers; 0 belongs to the process, not to an OwnedFd.
    while unsafe { libc::dup2(fd, libc::STDIN_FILENO) } < 0 {
        // EBUSY: another thread is just opening a file at that number (Linux).
        if !matches!(errno(), libc::EINTR | libc::EBUSY) {
            break;
        }
    }
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
