//! `fork(2)`, and exiting the child without running the parent's destructors.
//!
//! `process` decides what a child runs, keeps and closes.

use std::io;

use crate::errno::check;
use crate::threads;

/// Which of the two processes a fork has returned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The caller, with the child's pid.
    Parent(u32),
    /// The new process, with a copy of everything.
    Child,
}

/// `fork(2)`.
///
/// # Errors
///
/// `Unsupported` if the process has more than one thread: whatever another thread holds, such as the allocator's
/// lock, would stay locked in the child forever. Also if that cannot be determined because `/proc` is not mounted.
/// Otherwise EAGAIN or ENOMEM.
pub fn fork() -> io::Result<Forked> {
    match threads::count() {
        Ok(1) => {}
        Ok(count) => {
            let message = format!("a process of {count} threads cannot be forked safely");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Err(error) => {
            let message = format!("the threads of this process cannot be counted: {error}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    }
    // SAFETY: this is the only thread (checked just above, and nothing else could start one): the child has
    // consistent memory, and every lock is free or held by code that continues in it.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as u32)),
    }
}

/// Exits at once (`_exit(2)`): no destructor runs, and no buffer copied from the parent is written.
/// Async-signal-safe.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
