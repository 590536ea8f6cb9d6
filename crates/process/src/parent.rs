//! A signal when the parent exits (`prctl(2)`, PR_SET_PDEATHSIG).

use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Has the kernel send SIGTERM to this process when its parent exits.
///
/// # Errors
///
/// If `parent` is no longer the parent because it has exited; any from `prctl(2)`.
pub fn stop_with_parent(parent: u32) -> io::Result<()> {
    signal_at_end(parent, Signal::TERM)
}

/// Has the kernel send `signal` to this process when the thread that started it exits; an `execve(2)` of the parent
/// does not count. Async-signal-safe.
///
/// # Errors
///
/// `NotFound` if `parent` is no longer the parent: it has already exited.
pub(crate) fn signal_at_end(parent: u32, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    match getppid() {
        Some(found) if found.as_raw_pid().unsigned_abs() == parent => Ok(()),
        // No message: this may run between fork and exec.
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}
