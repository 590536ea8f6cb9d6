//! What a process knows of its supervisor.

use std::io;
use std::os::unix::process::parent_id;

/// Tells a process that it is a worker, whose socket is at descriptor 0: the supervisor's process number.
pub(crate) const VARIABLE: &str = "APP_SERVER_WORKER";

/// Whether a supervisor started this process.
///
/// Children that a tool starts inherit the variable, too, but have another parent.
pub fn is_worker() -> bool {
    std::env::var(VARIABLE).is_ok_and(|number| number == parent_id().to_string())
}

/// Drains and ends a worker when its supervisor is gone: nobody would upgrade or end it then.
pub(crate) fn end_with_supervisor() -> io::Result<()> {
    if is_worker() { process::stop_with_parent(parent_id()) } else { Ok(()) }
}
