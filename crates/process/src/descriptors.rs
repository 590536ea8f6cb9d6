//! The descriptors every process begins with: 0, 1 and 2. The only place that touches them.
//!
//! Everything else we open is close-on-exec from the first moment and may be used by anybody; these
//! three belong to the process. When they are moved is decided in `app-server`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use rustix::stdio;

/// Says whether a descriptor is a listening socket (`SO_ACCEPTCONN`).
///
/// This is sharper than FastCGI 1.0 §2.2, which asks `getpeername(2)` for ENOTCONN: a socket that is
/// neither connected nor listening answers that too. `false` for everything that is no socket.
pub fn is_listening_socket(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_acceptconn(fd).unwrap_or(false)
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
    let listener = rustix::io::fcntl_dupfd_cloexec(&stdin, 10)?;
    replace_stdin_with_null()?;
    Ok(listener)
}

/// Takes the listening socket that systemd left at descriptor 3 or behind (`LISTEN_PID`, `LISTEN_FDS`:
/// sd_listen_fds(3)) to descriptor 0, where everybody else leaves it, unless a listening socket is there
/// already (`StandardInput=socket`). Of several the first counts. The others, and the first's copy, are
/// closed, and the variables are removed: no child is to take them for its own.
///
/// Does nothing when the variables are not there or for another process. To be called once, before
/// anything else is opened.
///
/// # Errors
///
/// When another thread runs, or what `dup2(2)` answers.
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

/// Descriptor 3 and those behind it, as many as `count`, close-on-exec. Those that are not open are left out.
fn take_handed_over(count: usize) -> Vec<OwnedFd> {
    /// SD_LISTEN_FDS_START.
    const FIRST: RawFd = 3;
    /// One is of use. More than a few is a mistake, not a reason to walk over millions.
    const MAX: usize = 64;
    (FIRST..).take(count.min(MAX)).filter_map(sys::descriptors::take).collect()
}

/// Removes a variable from this process's environment, so that no child and no library finds it.
///
/// # Errors
///
/// When another thread runs, which may be reading the environment; the variable stays then.
pub fn forget_variable(name: impl AsRef<OsStr>) -> io::Result<()> {
    sys::environment::remove(name.as_ref())
}

/// Puts `/dev/null` on descriptor 0.
///
/// # Errors
///
/// When `/dev/null` cannot be opened; descriptor 0 is as it was.
pub fn replace_stdin_with_null() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    put_on_stdin(null.as_fd())
}

/// Puts a descriptor (a listening socket, before the program is renewed) on 0, to be inherited.
///
/// # Errors
///
/// What `dup2(2)` answers.
pub fn put_on_stdin(fd: BorrowedFd<'_>) -> io::Result<()> {
    replace(|| stdio::dup2_stdin(fd))
}

/// Replaces a standard descriptor; EBUSY: another thread is just opening a file at that number (Linux).
fn replace(mut duplicate: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match duplicate() {
            Err(Errno::INTR | Errno::BUSY) => {}
            done => return Ok(done?),
        }
    }
}

/// Lets everything that is written to standard output and standard error go to `to`: the log, say.
///
/// Rust's own buffer of standard output is not flushed; do that before.
///
/// # Errors
///
/// What `dup2(2)` answers.
pub fn redirect_output(to: BorrowedFd<'_>) -> io::Result<()> {
    replace(|| stdio::dup2_stdout(to))?;
    replace(|| stdio::dup2_stderr(to))
}

/// Writes without waiting for a reader, even if the descriptor itself would block: a pipe or terminal that is
/// full refuses, and what does not fit is lost.
///
/// # Errors
///
/// `WouldBlock` if nobody reads; otherwise any from `write(2)`.
pub fn write_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    sys::unblocked::write_within(to.as_raw_fd(), bytes, 0).map_err(io::Error::from_raw_os_error)
}

/// Tries to get the exclusive lock of an open file or folder (`flock(2)`); it is given back when all
/// descriptors of that open file are closed. Whoever holds it hinders nobody but those who ask for it.
///
/// # Errors
///
/// `WouldBlock` when somebody else has it; others where the file system has no locks.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// Returns how many threads this process has: the entries of `/proc/self/task`.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn task_count() -> io::Result<usize> {
    sys::threads::count()
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
/// When `/proc` is not mounted, or no descriptor is left to look with.
pub fn open_count() -> io::Result<usize> {
    // Less the one that the look itself takes.
    let seen = fs::read_dir("/proc/self/fd")?.try_fold(0, |count, entry| entry.map(|_| count + 1));
    seen.map(|count: usize| count.saturating_sub(1))
}

/// Makes a descriptor one whose reads and writes wait: for a child that has nothing else to do.
pub(crate) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? - OFlags::NONBLOCK)?)
}
