//! What runs between fork and exec when std starts a program.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `action` in the child, after what was added before it. It must be async-signal-safe. If it fails, so does the
/// start.
pub fn before_exec(
    command: &mut Command,
    action: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: `action` only makes system calls and allocates nothing, as its caller has ensured.
    unsafe { command.pre_exec(action) };
}
