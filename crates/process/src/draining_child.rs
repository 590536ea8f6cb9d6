//! A forked child that continues the event loop, to complete what is in flight, while this process executes another
//! program.
//!
//! A fork copies memory and descriptors, but the poll set and the self-pipe stay shared, so the child first creates
//! its own ([`event_loop::forked`]). Tasks, timers and sockets continue as they were; child processes are lost,
//! because only their parent can wait for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sys::fork::exit_at_once;
use sys::signals::AllBlocked;

use crate::children;
use crate::parent::stop_with_parent;

/// Which process [`fork`] has returned in.
#[derive(Debug)]
pub enum Forked {
    /// The process that forked. The child is ready, and waits until this process has executed another program.
    Original(Original),
    /// The child, after the original has executed another program.
    DrainingChild,
}

/// The original process between the fork and the new program.
///
/// When it executes another program, the child continues. **Dropping it makes the child exit** before it has done
/// anything.
#[derive(Debug)]
pub struct Original {
    /// Close-on-exec: on `execve(2)` the child reads end-of-file. A byte instead makes it exit.
    gate: File,
}

impl Drop for Original {
    fn drop(&mut self) {
        // Fails only if the child has already exited.
        let _ = self.gate.write_all(b"x");
    }
}

/// Forks a child that continues this loop once this process has executed another program.
///
/// Returns in both processes. In the child
/// * everything the loop watches is in a new poll set, and signals use a new self-pipe; tasks and timers continue as
///   they were;
/// * waiting for child processes fails (ECHILD), and they are not killed;
/// * the kernel sends SIGTERM when the original exits.
///
/// The child has to drop what only one of the two may hold, such as the listener.
///
/// # Errors
///
/// `WouldBlock` (EAGAIN) if the account has too many processes; `Unsupported` if there is more than one thread, or
/// the loop runs inside tokio, whose poll set would stay shared; any other if descriptors are short or the child
/// could not set itself up. No child is left then.
pub fn fork() -> io::Result<Forked> {
    event_loop::forked::can_be_taken_over()?;
    children::watch()?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Buffered output would be written by both.
    let _ = io::stdout().flush();
    let parent = std::process::id();
    let blocked = AllBlocked::begin()?;
    match sys::fork::fork()? {
        sys::fork::Forked::Parent(pid) => {
            drop((theirs, blocked));
            children::keep_in_background(pid);
            let original = Original { gate: File::from(ours) };
            // Blocks only for a few system calls of the child.
            let mut byte = [0];
            match (&original.gate).read(&mut byte) {
                Ok(1) if byte == *READY => Ok(Forked::Original(original)),
                _ => Err(io::Error::other("the draining child could not create its own poll set")),
            }
        }
        sys::fork::Forked::Child => {
            drop(ours);
            if set_up(theirs, parent).is_err() {
                // The original reads end-of-file and continues by itself.
                exit_at_once(1);
            }
            drop(blocked);
            Ok(Forked::DrainingChild)
        }
    }
}

const READY: &[u8; 1] = b"r";

/// Replaces what the child shares with the original, and waits until the original has executed another program.
fn set_up(gate: OwnedFd, parent: u32) -> io::Result<()> {
    stop_with_parent(parent)?;
    event_loop::forked::take_over()?;
    children::lose_all();
    let mut gate = File::from(gate);
    gate.write_all(READY)?;
    match gate.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("the original continues")),
    }
}

/// Exits the child at once: values that the original has too are not dropped.
pub fn leave(code: u8) -> ! {
    let _ = io::stdout().flush();
    exit_at_once(code)
}
