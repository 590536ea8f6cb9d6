//! The environment of this process: removing variables that are not meant for its children.

use std::ffi::OsStr;
use std::io;

use crate::threads;

/// Removes a variable from this process's environment, so that no child or library sees it.
///
/// # Errors
///
/// If there is another thread, which may be reading the environment, or `/proc` is not mounted. The variable stays.
pub fn remove(name: &OsStr) -> io::Result<()> {
    if threads::count()? != 1 {
        return Err(io::Error::other(format!(
            "{} cannot be removed from the environment: another thread may be reading it",
            name.display()
        )));
    }
    // SAFETY: this is the only thread, and std's own lock is free, because it is only held inside std.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

/// Same as [`remove`], for the start of a program: if the threads cannot be counted, it assumes that there is only
/// one, because none has been started yet. With several, the variable stays.
pub fn remove_at_start(name: &OsStr) {
    if matches!(threads::count(), Ok(1) | Err(_)) {
        // SAFETY: this is the only thread, and std's own lock is free, because it is only held inside std.
        unsafe { std::env::remove_var(name) };
    }
}
