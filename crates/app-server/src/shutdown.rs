//! The signals that end a server, and whether one has come.

use std::cell::Cell;

use event_loop::signals::{self, Disposition, Signal};

/// SIGTERM, and SIGINT unless it is ignored: a shell without job control ignores it for background
/// commands (`&`), so that Ctrl-C does not reach them.
pub(crate) fn shutdown_signals() -> Vec<Signal> {
    match signals::disposition(Signal::Interrupt) {
        Ok(Disposition::Ignored) => vec![Signal::Terminate],
        _ => vec![Signal::Terminate, Signal::Interrupt],
    }
}

thread_local!(static IS_DRAINING: Cell<bool> = const { Cell::new(false) });

/// Returns whether the server on this thread is about to exit: load balancers should send it nothing new. True from
/// the signal on; for [`Settings::drain_wait`](crate::Settings::drain_wait) everything is still accepted.
pub fn is_draining() -> bool {
    IS_DRAINING.get()
}

/// Makes [`is_draining`] true.
pub(crate) fn set_draining() {
    IS_DRAINING.set(true);
}
