//! Looks at processes from outside, through /proc.
//!
//! A process is ours if its executable is in the test's own folder. No other process is ever signalled.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Returns the processes whose executable is in `folder`, even if the file has been deleted since.
pub fn running_from(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(folder))
        })
        .collect()
}

/// Returns how many tasks (threads) a process has.
///
/// # Errors
///
/// If the process is gone.
pub fn tasks(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Returns a process's parent.
///
/// # Errors
///
/// If the process is gone.
pub fn parent(pid: u32) -> io::Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let parent = fields.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
    parent.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no parent")))
}

/// Returns a size from /proc/PID/status in KiB: `VmHWM` is the largest resident size so far.
///
/// # Errors
///
/// If the process is gone or `what` is not in its status.
pub fn kib(pid: u32, what: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {what}")))
}

/// Resets `VmHWM` to the current size.
///
/// # Errors
///
/// If the process is gone or belongs to another user.
pub fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Returns the processor time a process has used.
///
/// # Errors
///
/// If the process is gone.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may contain spaces and parentheses.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let ticks = ticks() + ticks();
    // SAFETY: sysconf takes a number and returns one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// Returns how many descriptors a process has open.
///
/// # Errors
///
/// If the process is gone or belongs to another user.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Sends a signal to a process that the caller started.
///
/// # Errors
///
/// If the process is gone.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: kill takes only numbers; `pid` is positive, so it names one process.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
