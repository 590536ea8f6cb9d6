//! What a process finds when it starts: descriptors that were handed over, variables that are not for its
//! children.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;

/// Removes a variable from this process's environment, so that no child and no library finds it.
///
/// # Errors
///
/// When another thread runs, which may be reading the environment; the variable stays then.
pub(crate) fn forget_variable(name: &OsStr) -> io::Result<()> {
    if crate::descriptors::task_count()? != 1 {
        return Err(io::Error::other(format!(
            "{} stays: another thread may be reading it",
            name.display()
        )));
    }
    // SAFETY: this is the only thread, and std's own lock is free, for it is held inside std alone.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

/// Takes descriptor 3 and those behind it, as many as `count`, and makes them close-on-exec. Those that are
/// not open are left out.
///
/// To be called where another process said that it left them there for us (sd_listen_fds(3)), once, and
/// before anything else is opened.
pub(crate) fn take_handed_over(count: usize) -> Vec<OwnedFd> {
    (FIRST_HANDED_OVER..).take(count.min(MOST_HANDED_OVER)).filter_map(take).collect()
}

/// How many descriptors this process may open (RLIMIT_NOFILE, soft).
pub(crate) fn descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the result.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// SD_LISTEN_FDS_START.
const FIRST_HANDED_OVER: RawFd = 3;

/// One is of use. More than a few is a slip, not a reason to walk over millions.
const MOST_HANDED_OVER: usize = 64;

fn take(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_SETFD takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: fcntl succeeded, so it is open; it was handed over to be ours, and the caller takes it once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
