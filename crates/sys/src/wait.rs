//! Reaping a child with what it has used up: rustix' waits tell the status alone.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::errno::check;

/// What a child has used up, as the kernel counted when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, its own and the system's for it, with that of the children it has waited for.
    pub cpu: Duration,
    /// The most memory it had at a time, in bytes: pages in memory, shared ones included.
    pub memory: u64,
}

/// Reaps a child if it has ended (`wait4(2)`, WNOHANG).
///
/// # Errors
///
/// ECHILD when it is no child of this process, or somebody else has reaped it.
pub fn reap(child: u32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let mut status: c_int = 0;
    // SAFETY: rusage is plain integers, for which all-zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let (status_pointer, usage_pointer) = (&raw mut status, &raw mut usage);
    // SAFETY: both pointers are to variables with room for the answers.
    let reaped = check(unsafe {
        libc::wait4(child as libc::pid_t, status_pointer, libc::WNOHANG, usage_pointer)
    })?;
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.max(0) as u32).saturating_mul(1000))
    };
    Ok((reaped != 0).then(|| {
        let usage = Usage {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            // In KiB.
            memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        };
        (ExitStatus::from_raw(status), usage)
    }))
}
