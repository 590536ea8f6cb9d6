//! What is to be done for whom when the process cannot go on: a fatal signal, a loop that does not come
//! round.
//!
//! The handler may neither allocate nor take a lock nor trust the heap. So everything it needs lies ready
//! beforehand: the open connections and the exchanges in flight in the tables of `in_flight.rs`, the answers to
//! send, word for word, in `prepared.rs`. What the handler does is in `settle.rs`.
//!
//! What a server has to do: [`install`], [`prepare`] answers for each [`Way`], enter each [`Connection`]
//! and each [`Exchange`], tell what was sent, and poll foreign code through [`Mark::run`]. While nothing
//! is installed all that does nothing. It costs a few stores to memory for each exchange.
//!
//! When a fatal signal comes, or the watchdog's ([`watch`]): whoever is running gets the answer *failed*
//! (or *stuck*), the others *interrupted*, if no byte of their own answer is out yet; else their answer is
//! cut off so that the other side notices. One line goes to standard error. Then the program starts anew
//! in the same process ([`exec::Image`](crate::exec::Image)), with its listening socket and idle
//! connections.
//!
//! With no exchange ever begun the signal does what it does by default: a program that crashes at its
//! start ends, and does not go round for ever.

mod in_flight;
mod prepared;
mod report;
mod settle;
mod watch;

use std::io;
use std::sync::atomic::Ordering;

pub use in_flight::{
    Connection, Exchange, LABEL_BYTES, Mark, Way, is_installed, set_listener, set_word,
};
pub use prepared::{Answer, Answers, REFERENCE, prepare};
pub use settle::Installation;
pub use sys::allocator::{Allocator, naming_a_backtrace};
pub use watch::{Watch, watch};

pub use crate::memory_limit::{MemoryLimit, limit_memory};
use in_flight::{ENDING, INSTALLED};

/// Keeps the handlers installed.
#[derive(Debug)]
pub struct Guard {
    _handlers: sys::fatal::Guard,
}

/// Catches SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT from now until the guard is dropped.
///
/// Does nothing, and returns `None`, when the process has several threads or somebody has installed it
/// already: what is known here is one loop's.
///
/// # Errors
/// When there is no memory for the stack that handlers run on.
pub fn install(installation: Installation) -> io::Result<Option<Guard>> {
    if sys::threads::count()? > 1 || INSTALLED.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    ENDING.store(false, Ordering::Relaxed);
    settle::set_up(installation)
        .and_then(|()| sys::fatal::catch(settle::on_fatal))
        .map(|handlers| Some(Guard { _handlers: handlers }))
        .inspect_err(|_| INSTALLED.store(false, Ordering::Relaxed))
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The handlers are given back after this: until then they find nobody to answer.
        INSTALLED.store(false, Ordering::Relaxed);
    }
}

/// From now on this process, which may be a copy of the one that [`install`]ed all this, ends after the
/// answers and does not start anew: it is ending anyway.
pub fn end_afterwards() {
    ENDING.store(true, Ordering::Relaxed);
    settle::own();
    watch::begin_anew();
}
