//! What runs between fork and exec when std starts a program.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

use crate::descriptors::close_all_on_exec;
use crate::limits::ResourceLimits;
use crate::parent;
use crate::signals::default_action;

/// Makes the program inherit only descriptors 0, 1 and 2, and be killed when the thread that starts it exits.
pub fn inherit_nothing(command: &mut Command) {
    let own = std::process::id();
    let action = move || {
        parent::signal_at_end(own, Signal::KILL)?;
        default_action(libc::SIGXFSZ)?;
        close_all_on_exec()
    };
    // SAFETY: the closure only makes system calls and allocates nothing: async-signal-safe, as code between fork and
    // exec has to be.
    unsafe { command.pre_exec(action) };
}

/// Makes the program run with these limits.
pub fn limit(command: &mut Command, limits: ResourceLimits) {
    // SAFETY: as above.
    unsafe { command.pre_exec(move || -> io::Result<()> { limits.lower() }) };
}
