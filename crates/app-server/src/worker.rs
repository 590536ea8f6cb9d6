//! What a process knows about its supervisor.

use std::io;
use std::os::unix::process::parent_id;

use event_loop::signals::Signal;

/// Marks a process as a worker whose socket is at descriptor 0. The value is the supervisor's pid.
pub(crate) const VARIABLE: &str = "APP_SERVER_WORKER";

/// By this signal a supervisor makes a worker tell load balancers that it will drain. SIGTERM follows.
pub(crate) const WITHDRAW: Signal = Signal::User1;

/// Whether a supervisor started this process.
///
/// Child processes of a tool inherit the variable too, but have another parent.
pub fn is_worker() -> bool {
    std::env::var(VARIABLE).is_ok_and(|number| number == parent_id().to_string())
}

/// Drains and exits a worker when its supervisor is gone, since nothing would upgrade or stop it then.
pub(crate) fn end_with_supervisor() -> io::Result<()> {
    if is_worker() { process::stop_with_parent(parent_id()) } else { Ok(()) }
}
