//! The descriptors that every process starts with: 0, 1 and 2. Only this file changes them, except in a signal handler
//! (`sys::descriptors`) and between fork and exec. How many descriptors there are and may be is here, too.
//!
//! All other descriptors are opened close-on-exec and have owners; these three belong to the process. `app-server`
//! decides when to move them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use rustix::stdio;

/// Returns whether a descriptor is a listening socket (`SO_ACCEPTCONN`).
///
/// Stricter than FastCGI 1.0 §2.2, which tests whether `getpeername(2)` returns ENOTCONN: that is also true of a
/// socket that is neither connected nor listening. `false` if it is not a socket.
pub fn is_listening_socket(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_acceptconn(fd).unwrap_or(false)
}

/// Moves the listening socket from descriptor 0 to a close-on-exec descriptor of at least 10, and opens `/dev/null`
/// on 0, so that tools and children that read standard input get end-of-file.
///
/// # Errors
///
/// `InvalidInput` if descriptor 0 is not a listening socket. Any other if descriptors are short or `/dev/null` is
/// missing. Descriptor 0 stays as it was.
pub fn take_listener_from_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if !is_listening_socket(stdin.as_fd()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptor 0 is not a listening socket",
        ));
    }
    // Low numbers are used explicitly by libraries and shells.
    let listener = rustix::io::fcntl_dupfd_cloexec(&stdin, 10)?;
    replace_stdin_with_null()?;
    Ok(listener)
}

/// Moves the listening socket that systemd passes at descriptor 3 or above (`LISTEN_PID`, `LISTEN_FDS`:
/// sd_listen_fds(3)) to descriptor 0, where web servers pass it, unless there is already a listening socket
/// (`StandardInput=socket`). If there are several, the first one is used and the others are closed. Removes the
/// variables, so that no child mistakes them for its own.
///
/// Does nothing if the variables are unset or meant for another process. Call it once, before anything else is
/// opened.
///
/// # Errors
///
/// If there is another thread; any from `dup2(2)`.
pub fn take_from_systemd() -> io::Result<()> {
    let variable = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if variable("LISTEN_PID") != Some(std::process::id()) {
        return Ok(());
    }
    let count = variable("LISTEN_FDS").unwrap_or(0);
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        sys::environment::remove(name.as_ref())?;
    }
    let handed_over = take_handed_over(count as usize);
    if is_listening_socket(io::stdin().as_fd()) {
        return Ok(());
    }
    match handed_over.iter().find(|fd| is_listening_socket(fd.as_fd())) {
        Some(listener) => put_on_stdin(listener.as_fd()),
        None => Ok(()),
    }
}

/// Takes `count` descriptors from 3 on, and makes them close-on-exec. Those that are not open are skipped.
fn take_handed_over(count: usize) -> Vec<OwnedFd> {
    /// SD_LISTEN_FDS_START.
    const FIRST: RawFd = 3;
    /// Only one is used; a huge count is a mistake, and not worth a loop over millions.
    const MAX: usize = 64;
    (FIRST..).take(count.min(MAX)).filter_map(sys::descriptors::take).collect()
}

/// Removes a variable from this process's environment, so that no child or library sees it.
///
/// # Errors
///
/// If there is another thread, which may be reading the environment, or `/proc` is not mounted. The variable stays.
pub fn forget_variable(name: impl AsRef<OsStr>) -> io::Result<()> {
    sys::environment::remove(name.as_ref())
}

/// Opens `/dev/null` on descriptor 0.
///
/// # Errors
///
/// If `/dev/null` cannot be opened; descriptor 0 is as it was.
pub fn replace_stdin_with_null() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    put_on_stdin(null.as_fd())
}

/// Duplicates a descriptor (a listening socket before a re-exec) onto 0, to be inherited.
///
/// # Errors
///
/// Any from `dup2(2)`.
pub fn put_on_stdin(fd: BorrowedFd<'_>) -> io::Result<()> {
    replace(|| stdio::dup2_stdin(fd))
}

/// Replaces a standard descriptor. Retries on EBUSY: another thread is opening a file at that number right now
/// (Linux).
fn replace(mut duplicate: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match duplicate() {
            Err(Errno::INTR | Errno::BUSY) => {}
            done => return Ok(done?),
        }
    }
}

/// Redirects standard output and standard error to `to`, such as the log.
///
/// Flush Rust's buffer of standard output first; this does not.
///
/// # Errors
///
/// Any from `dup2(2)`.
pub fn redirect_output(to: BorrowedFd<'_>) -> io::Result<()> {
    replace(|| stdio::dup2_stdout(to))?;
    replace(|| stdio::dup2_stderr(to))
}

/// Writes without waiting for a reader, even if the descriptor is blocking: what does not fit into a full pipe or
/// terminal is lost.
///
/// # Errors
///
/// `WouldBlock` if it is full; otherwise any from `write(2)`.
pub fn write_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    Ok(sys::unblocked::write_within(to.as_raw_fd(), bytes, 0)?)
}

/// Returns how many descriptors this process may open (`ulimit -n`).
///
/// # Errors
///
/// None in practice; any from `getrlimit(2)`.
pub fn limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Returns how many descriptors this process has open.
///
/// # Errors
///
/// If `/proc` is not mounted, or no descriptor is left for listing.
pub fn open_count() -> io::Result<usize> {
    // Without the one used for listing.
    let seen = fs::read_dir("/proc/self/fd")?.try_fold(0, |count, entry| entry.map(|_| count + 1));
    seen.map(|count: usize| count.saturating_sub(1))
}

/// Makes a descriptor blocking, for a child that has nothing else to do.
///
/// # Errors
///
/// Any from `fcntl(2)`.
pub fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)?)
}
