//! The descriptors every process begins with: 0, 1 and 2. The only place that touches them.
//!
//! Everything else the crate opens is close-on-exec from the first moment and may be used by anybody; these
//! three belong to the process. When they are moved is decided in `app-server`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, Standard};

/// Says whether a descriptor is a listening socket (`SO_ACCEPTCONN`).
///
/// This is sharper than FastCGI 1.0 §2.2, which asks `getpeername(2)` for ENOTCONN: a socket that is
/// neither connected nor listening answers that too. `false` for everything that is no socket.
pub fn is_listening_socket(fd: BorrowedFd<'_>) -> bool {
    sys::accepts_connections(fd).unwrap_or(false)
}

/// Moves the listening socket from descriptor 0 to a close-on-exec descriptor of at least 10, and puts
/// `/dev/null` on 0: tools and children that read their standard input find its end.
///
/// # Errors
///
/// `InvalidInput` when descriptor 0 is no listening socket; it is left alone then. Else what the system
/// answers, when descriptors are short or `/dev/null` is missing; descriptor 0 is as it was.
pub fn take_listener_from_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if !is_listening_socket(stdin.as_fd()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptor 0 is no listening socket",
        ));
    }
    // Above the low numbers, which libraries and shells use by number.
    let listener = sys::duplicate_high(stdin.as_fd(), 10)?;
    replace_stdin_with_null()?;
    Ok(listener)
}

/// Puts `/dev/null` on descriptor 0.
///
/// # Errors
///
/// When `/dev/null` cannot be opened; descriptor 0 is as it was.
pub fn replace_stdin_with_null() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    sys::replace_standard(Standard::Input, null.as_fd())
}

/// Puts a descriptor (a listening socket, before the program is renewed) on 0, to be inherited.
///
/// # Errors
///
/// What `dup2(2)` answers.
pub fn put_on_stdin(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::replace_standard(Standard::Input, fd)
}

/// Lets everything that is written to standard output and standard error go to `to`: the log, say.
///
/// Rust's own buffer of standard output is not flushed; do that before.
///
/// # Errors
///
/// What `dup2(2)` answers.
pub fn redirect_output(to: BorrowedFd<'_>) -> io::Result<()> {
    sys::replace_standard(Standard::Output, to)?;
    sys::replace_standard(Standard::Error, to)
}

/// Tries to get the exclusive lock of an open file or folder (`flock(2)`); it is given back when all
/// descriptors of that open file are closed. Whoever holds it hinders nobody but those who ask for it.
///
/// # Errors
///
/// `WouldBlock` when somebody else has it; others where the file system has no locks.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::try_lock(fd)
}

/// Returns how many threads this process has: the entries of `/proc/self/task`.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn task_count() -> io::Result<usize> {
    fs::read_dir("/proc/self/task")?.try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// Returns how many descriptors this process has open.
///
/// # Errors
///
/// When `/proc` is not mounted, or no descriptor is left to look with.
pub fn open_count() -> io::Result<usize> {
    // Less the one that the look itself takes.
    let seen = fs::read_dir("/proc/self/fd")?.try_fold(0, |count, entry| entry.map(|_| count + 1));
    seen.map(|count: usize| count.saturating_sub(1))
}
