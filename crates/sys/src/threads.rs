//! How many threads this process has: forking and changing the environment are only safe with one.

use std::{fs, io};

/// Returns how many threads this process has: the entries of `/proc/self/task`.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn count() -> io::Result<usize> {
    fs::read_dir("/proc/self/task")?.try_fold(0, |count, entry| entry.map(|_| count + 1))
}
