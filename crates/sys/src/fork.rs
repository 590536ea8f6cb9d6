//! `fork(2)`, and leaving the child without running the parent's destructors.
//!
//! What a child runs, keeps and closes is decided by `process`.

use std::io;

use crate::errno::check;
use crate::threads;

/// In which of the two processes a fork has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The caller; the child's number.
    Parent(u32),
    /// The new process, with a copy of everything.
    Child,
}

/// `fork(2)`.
///
/// # Errors
///
/// `Unsupported` when the process has more than one thread: what the others held, a lock of the allocator
/// say, would stay held in the child for ever. Also when that cannot be found out, for `/proc` is missing.
/// Else EAGAIN or ENOMEM.
pub fn fork() -> io::Result<Forked> {
    match threads::count() {
        Ok(1) => {}
        Ok(count) => {
            let message = format!("a process of {count} threads cannot be forked safely");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Err(error) => {
            let message = format!("whether this process has one thread is unknown: {error}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    }
    // SAFETY: this is the only thread (looked at just above, and nobody else could start one): the child
    // has consistent memory and every lock is free or held by the code that goes on.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        number => Ok(Forked::Parent(number as u32)),
    }
}

/// Ends the process at once: no destructor runs, no buffer of the parent's is written. Async-signal-safe.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
