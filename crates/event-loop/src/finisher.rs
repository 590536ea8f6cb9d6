//! A copy of this process that goes on with the whole loop, to finish what is in progress, while this one
//! becomes another program.
//!
//! A fork copies memory and descriptors, but a poll set and a self-pipe stay shared: what one of the two
//! takes out is gone for the other. So the copy makes its own before it touches anything. Tasks, timers and
//! sockets go on as they were; child processes do not, for only their parent can wait for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Signal;
use sys::fork::{Forked, exit_at_once};
use sys::signals::AllBlocked;

use crate::descriptor_flags::set_blocking;
use crate::loop_state::{Loop, no_loop, with_current};
use crate::net::socket;
use crate::process;

/// Where [`finisher`] has returned.
#[derive(Debug)]
pub enum Finisher {
    /// In the process that forked: the copy stands, and waits for what becomes of this process.
    Original(Original),
    /// In the copy, after the original has become another program.
    Copy,
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
/// * everything the loop watches is watched anew, in a poll set of its own, and signals come by a pipe of
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
pub fn finisher() -> io::Result<Finisher> {
    if with_current(|state| state.hosted.get()).ok_or_else(no_loop)? {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a loop inside tokio cannot be copied",
        ));
    }
    process::watch_children()?;
    let (ours, theirs) = socket::pair()?;
    set_blocking(ours.as_fd())?;
    set_blocking(theirs.as_fd())?;
    // What waits in the buffer would be written by both.
    let _ = io::stdout().flush();
    let parent = std::process::id();
    let blocked = AllBlocked::begin()?;
    match sys::fork::fork()? {
        Forked::Parent(number) => {
            drop((theirs, blocked));
            process::keep_in_background(number);
            let original = Original { gate: File::from(ours) };
            // The copy tells when it stands: a matter of a few system calls.
            let mut word = [0];
            match (&original.gate).read(&mut word) {
                Ok(1) if word == *READY => Ok(Finisher::Original(original)),
                _ => Err(io::Error::other("the copy could not make a poll set of its own")),
            }
        }
        Forked::Child => {
            drop(ours);
            if stand(theirs, parent).is_err() {
                // The original hears the end of the pair, and goes on by itself.
                exit_at_once(1);
            }
            drop(blocked);
            Ok(Finisher::Copy)
        }
    }
}

const READY: &[u8; 1] = b"r";

/// Makes everything the copy's own, and waits until the original is another program.
fn stand(gate: OwnedFd, parent: u32) -> io::Result<()> {
    sys::parent::signal_at_end(parent, Signal::TERM)?;
    with_current(renew).unwrap_or_else(|| Err(no_loop()))?;
    let mut gate = File::from(gate);
    gate.write_all(READY)?;
    match gate.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("the original goes on")),
    }
}

fn renew(state: &Loop) -> io::Result<()> {
    state.reactor.renew()?;
    if let Some(bell) = state.reactor.take_bell(true)? {
        state.ready.hang_bell(bell);
    }
    state.ready.take_arrivals();
    state.signals.renew(state)?;
    state.children.lose_all();
    Ok(())
}

/// Ends this process at once, as a copy should: values that the original has, too, are not dropped.
pub fn leave(code: u8) -> ! {
    let _ = io::stdout().flush();
    exit_at_once(code)
}
