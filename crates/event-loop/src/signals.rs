//! Signals as a stream of values.
//!
//! The handler (in `sys`) does async-signal-safe work alone: it counts the signal and writes a byte into
//! the self-pipe, which the poll set watches. The turn of the loop then calls `Inbox::deliver`, which
//! hands the counts to the [`Signals`] that asked for them (`signal_inbox.rs`).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use sys::signals::Action;

pub use crate::signal::Signal;

use crate::loop_id::LoopId;
use crate::loop_state::{no_loop, with_current, with_loop};
use crate::signal_inbox::Caught;
use crate::table::Key;

/// Catches these signals from now on, instead of what the process did with them.
///
/// Several listeners may ask for the same signal: each hears of it. When the last is dropped, the signal
/// does again what it did before: after the [`Signals`] of SIGTERM is gone, SIGTERM ends the process.
///
/// # Errors
///
/// When no loop runs on this thread, or the self-pipe cannot be made (no descriptors left). Nothing is
/// caught then.
pub fn listen(signals: &[Signal]) -> io::Result<Signals> {
    let mask = signals.iter().fold(0, |mask, signal| mask | signal.bit());
    with_current(|state| {
        // First the ear, then the handler: no signal falls in between.
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
/// None in practice; what `sigaction(2)` answers.
pub fn ignore_failed_writes() -> io::Result<()> {
    sys::signals::ignore(libc::SIGPIPE)?;
    sys::signals::ignore(libc::SIGXFSZ)
}

/// What the process does with a signal at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// What the kernel does with it when nobody cares.
    Default,
    /// Nothing.
    Ignored,
    /// Somebody listens through this module.
    Listened,
    /// A handler that is not ours.
    Foreign,
}

/// Asks the kernel what the process does with a signal at present.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn disposition(signal: Signal) -> io::Result<Disposition> {
    Ok(match sys::signals::action(signal.number())? {
        Action::Default => Disposition::Default,
        Action::Ignored => Disposition::Ignored,
        Action::OurHandler => Disposition::Listened,
        Action::OtherHandler => Disposition::Foreign,
    })
}

/// Hands out at once what the handler has caught so far, instead of in the loop's next turn: for whoever
/// is about to replace the program and must not take a signal along unheard.
pub fn look_now() {
    with_current(|state| state.signals.deliver());
}

/// Receives signals. From [`listen`].
#[derive(Debug)]
#[must_use = "signals are caught only as long as somebody listens"]
pub struct Signals {
    owner: LoopId,
    key: Key,
    /// `None` only during the drop.
    caught: Option<Caught>,
}

impl Signals {
    /// Waits for the next signal. Those that came while nobody waited are kept.
    ///
    /// Of several that are kept, SIGTERM comes first. A signal that was sent again before the kernel could
    /// deliver it comes once, as always with signals. Waits for ever when the loop it belongs to is none of
    /// this thread's.
    pub async fn recv(&mut self) -> Signal {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv), for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        let taken = with_loop(self.owner, |state| state.signals.take(self.key, cx));
        match taken.flatten() {
            Some(signal) => Poll::Ready(signal),
            None => Poll::Pending,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // First the handler, then the ear, as above.
        self.caught = None;
        let leftover = with_loop(self.owner, |state| state.signals.unsubscribe(self.key));
        drop(leftover);
    }
}
