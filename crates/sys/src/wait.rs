//! Reaping a child together with its resource usage: rustix only returns the status.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::errno::check;

/// The resources that a child has used, as counted by the kernel when it exited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system, including that of the children it has waited for.
    pub cpu: Duration,
    /// Its maximum resident set size in bytes, shared pages included.
    pub memory: u64,
}

/// Reaps a child if it has exited (`wait4(2)`, WNOHANG).
///
/// # Errors
///
/// ECHILD if it is not a child of this process, or has already been reaped elsewhere.
pub fn reap(child: u32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let mut status: c_int = 0;
    // SAFETY: rusage is plain integers, for which all-zero is a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let (status_pointer, usage_pointer) = (&raw mut status, &raw mut usage);
    // SAFETY: both pointers are to variables with room for the results.
    let reaped = check(unsafe {
        libc::wait4(child as libc::pid_t, status_pointer, libc::WNOHANG, usage_pointer)
    })?;
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.max(0) as u32).saturating_mul(1000))
    };
    Ok((reaped != 0).then(|| {
        let usage = Usage {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            // ru_maxrss is in KiB.
            memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        };
        (ExitStatus::from_raw(status), usage)
    }))
}
