//! The signals that end a server.

use event_loop::signals::{self, Disposition, Signal};

/// SIGTERM, and SIGINT unless it is ignored: a shell without job control ignores it for background
/// commands (`&`), so that Ctrl-C does not reach them.
pub(crate) fn shutdown_signals() -> Vec<Signal> {
    match signals::disposition(Signal::Interrupt) {
        Ok(Disposition::Ignored) => vec![Signal::Terminate],
        _ => vec![Signal::Terminate, Signal::Interrupt],
    }
}
