//! What is done when the process cannot go on: a fatal signal, a loop that stalls.
//!
//! The handler may neither allocate nor take a lock nor trust the heap. So everything it needs lies ready
//! in advance: the open connections and the requests in flight in the tables of `in_flight.rs`, the answers to
//! send, word for word, in `prepared.rs` (made by `pages.rs`). What the handler does, and which bytes of FastCGI it
//! owes whom, is in `settle.rs`; the last line of the log in `report.rs`. `guard.rs` installs all of it,
//! `watchdog.rs` notices a loop that stalls, `quarantine.rs` leaves alone what crashes again and again,
//! `panics.rs` is for code that fails in an orderly way.
//!
//! The request path holds a [`Connection`] and an [`Request`] each, and runs foreign code through a [`Mark`].
//! While nothing is installed all that does nothing.
//!
//! With no request ever begun the signal does what it does by default: a program that crashes at its
//! start ends, and does not go round for ever.

mod guard;
mod in_flight;
mod pages;
pub(crate) mod panics;
mod prepared;
pub(crate) mod quarantine;
mod report;
mod settle;
mod watchdog;

pub(crate) use guard::{CrashGuard, make_folder};
pub(crate) use in_flight::{
    Connection, Mark, Protocol, Request, is_installed, set_listener, set_origin,
};
pub(crate) use pages::Pages;
pub(crate) use prepared::REFERENCE;

/// From now on this process, which may be a copy of the one that installed all this, ends after the answers and
/// does not restart in place: it is ending anyway.
pub(crate) fn end_afterwards() {
    settle::start_anew_afterwards(false);
    settle::own();
    watchdog::begin_anew();
}
