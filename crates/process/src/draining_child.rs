//! A copy of this process that goes on with the whole loop, to finish what is in flight, while this one becomes
//! another program.
//!
//! A fork copies memory and descriptors, but a poll set and a self-pipe stay shared. So the copy makes its own before
//! it touches anything ([`event_loop::forked`]). Tasks, timers and sockets go on as they were; child processes do
//! not, for only their parent can wait for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use sys::fork::exit_at_once;
use sys::signals::AllBlocked;

use crate::children;

/// Where [`fork`] has returned.
#[derive(Debug)]
pub enum Forked {
    /// In the process that forked: the copy stands, and waits for what becomes of this process.
    Original(Original),
    /// In the copy, after the original has become another program.
    DrainingChild,
}

/// The original process between the fork and its new program.
///
/// Becoming another program lets the copy go on. **Dropping it ends the copy** before it has done anything.
#[derive(Debug)]
pub struct Original {
    /// Closed by `execve(2)`, for it is close-on-exec: the copy reads its end. A byte means: no.
    gate: File,
}

impl Drop for Original {
    fn drop(&mut self) {
        // A copy that has ended already needs to hear nothing.
        let _ = self.gate.write_all(b"x");
    }
}

/// Forks a copy that goes on with this loop once this process has become another program.
///
/// Returns in both. In the copy
/// * everything the loop watches is watched in a poll set of its own, and signals come by a pipe of
///   its own; tasks and timers go on as they were;
/// * running child processes are lost to whoever waits for them (ECHILD), and are not killed;
/// * SIGTERM comes when the original ends.
///
/// What only one of the two may hold (the listener) the copy has to drop.
///
/// # Errors
///
/// `WouldBlock` (EAGAIN) when the account has too many processes; `Unsupported` when there is more than one
/// thread, or the loop lives inside tokio, whose own poll set would stay shared; else when descriptors are
/// short. There is no copy then.
pub fn fork() -> io::Result<Forked> {
    event_loop::forked::can_be_taken_over()?;
    children::watch()?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // What waits in the buffer would be written by both.
    let _ = io::stdout().flush();
    let parent = std::process::id();
    let blocked = AllBlocked::begin()?;
    match sys::fork::fork()? {
        sys::fork::Forked::Parent(number) => {
            drop((theirs, blocked));
            children::keep_in_background(number);
            let original = Original { gate: File::from(ours) };
            // The copy tells when it stands: a matter of a few system calls.
            let mut word = [0];
            match (&original.gate).read(&mut word) {
                Ok(1) if word == *READY => Ok(Forked::Original(original)),
                _ => Err(io::Error::other("the copy could not make a poll set of its own")),
            }
        }
        sys::fork::Forked::Child => {
            drop(ours);
            if stand(theirs, parent).is_err() {
                // The original hears the end of the pair, and goes on by itself.
                exit_at_once(1);
            }
            drop(blocked);
            Ok(Forked::DrainingChild)
        }
    }
}

const READY: &[u8; 1] = b"r";

/// Makes everything the copy's own, and waits until the original is another program.
fn stand(gate: OwnedFd, parent: u32) -> io::Result<()> {
    sys::parent::signal_at_end(parent, Signal::TERM)?;
    event_loop::forked::take_over()?;
    children::lose_all();
    let mut gate = File::from(gate);
    gate.write_all(READY)?;
    match gate.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("the original goes on")),
    }
}

/// Ends this process at once, as a copy should: values that the original has, too, are not dropped.
pub fn leave(code: u8) -> ! {
    let _ = io::stdout().flush();
    exit_at_once(code)
}
