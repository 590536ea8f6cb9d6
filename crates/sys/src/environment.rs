//! The environment of this process: variables that are not for its children.

use std::ffi::OsStr;
use std::io;

use crate::threads;

/// Removes a variable from this process's environment, so that no child and no library finds it.
///
/// # Errors
///
/// When another thread runs, which may be reading the environment; the variable stays then.
pub fn remove(name: &OsStr) -> io::Result<()> {
    if threads::count()? != 1 {
        return Err(io::Error::other(format!(
            "{} stays: another thread may be reading it",
            name.display()
        )));
    }
    // SAFETY: this is the only thread, and std's own lock is free, for it is held inside std alone.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

/// As [`remove`], at the start of a program: where the threads cannot be counted there is one, for nobody has started
/// another yet. Says whether the variable is gone.
pub fn remove_at_start(name: &OsStr) -> bool {
    if !matches!(threads::count(), Ok(1) | Err(_)) {
        return false;
    }
    // SAFETY: this is the only thread, and std's own lock is free, for it is held inside std alone.
    unsafe { std::env::remove_var(name) };
    true
}
