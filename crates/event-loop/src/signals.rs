//! Signals as a stream of values.
//!
//! The handler (in `sys`) only counts the signal and writes a byte to the self-pipe, which is in the poll set. The
//! turn of the loop then calls `Inbox::deliver`, which passes the counts to the [`Signals`] that listen for them
//! (`signal_inbox.rs`).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use sys::signals::Action;

pub use crate::signal::Signal;

use crate::loop_id::LoopId;
use crate::loop_state::{no_loop, with_current, with_loop};
use crate::signal_inbox::Caught;
use crate::table::Key;

/// Catches these signals from now on, in place of their former actions.
///
/// Several listeners may listen for the same signal; each receives it. When the last one is dropped, the former
/// action is restored: without a listener for SIGTERM, SIGTERM terminates the process.
///
/// # Errors
///
/// If no loop runs on this thread, or descriptors are short. No signal is caught then.
pub fn listen(signals: &[Signal]) -> io::Result<Signals> {
    let mask = signals.iter().fold(0, |mask, signal| mask | signal.bit());
    with_current(|state| {
        // Subscribe before the handler is installed, so that no signal is lost.
        let key = state.signals.subscribe(&state.reactor, mask)?;
        match Caught::new(mask) {
            Ok(caught) => Ok(Signals { owner: state.id, key, caught: Some(caught) }),
            Err(error) => {
                state.signals.unsubscribe(key);
                Err(error)
            }
        }
    })
    .unwrap_or_else(|| Err(no_loop()))
}

/// Ignores SIGPIPE and SIGXFSZ: writing to a closed connection, or beyond the file size limit (RLIMIT_FSIZE),
/// is an error for the writer and does not kill the process. Children get the default for the second one.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn ignore_failed_writes() -> io::Result<()> {
    sys::signals::ignore(libc::SIGPIPE)?;
    sys::signals::ignore(libc::SIGXFSZ)
}

/// What the process currently does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// The default action.
    Default,
    /// Nothing.
    Ignored,
    /// It is caught by this module for a listener.
    Listened,
    /// It is caught by another handler.
    Foreign,
}

/// Returns what the process currently does with a signal.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn disposition(signal: Signal) -> io::Result<Disposition> {
    Ok(match sys::signals::action(signal.number())? {
        Action::Default => Disposition::Default,
        Action::Ignored => Disposition::Ignored,
        Action::OurHandler => Disposition::Listened,
        Action::OtherHandler => Disposition::Foreign,
    })
}

/// Delivers the signals caught so far, now rather than in the loop's next turn: for code that is about to execute
/// another program and must not lose a signal.
pub fn deliver_now() {
    with_current(|state| state.signals.deliver());
}

/// Receives signals. From [`listen`].
#[derive(Debug)]
#[must_use = "signals are only caught until this is dropped"]
pub struct Signals {
    owner: LoopId,
    key: Key,
    /// `None` only during the drop.
    caught: Option<Caught>,
}

impl Signals {
    /// Waits for the next signal. Signals that arrive while nothing waits stay pending.
    ///
    /// Of several pending signals, SIGTERM comes first. As always with signals, one that is sent again before the
    /// kernel has delivered it arrives once. Waits forever if the loop it belongs to does not run on this thread.
    pub async fn recv(&mut self) -> Signal {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Same as [`recv`](Self::recv), for hand-written futures.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        let taken = with_loop(self.owner, |state| state.signals.take(self.key, context));
        match taken.flatten() {
            Some(signal) => Poll::Ready(signal),
            None => Poll::Pending,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // In the reverse order of `listen`.
        self.caught = None;
        let leftover = with_loop(self.owner, |state| state.signals.unsubscribe(self.key));
        drop(leftover);
    }
}
