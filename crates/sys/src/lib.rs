//! System calls that no safe library covers: all `unsafe` code of what ships, apart from the C calls of
//! `crates/culprits`.
//!
//! One file a subject. Safe functions go out; each checks the return value once and turns errno into an
//! [`io::Error`](std::io::Error). No policy lives here: what is registered, retried, limited or answered is
//! decided by the crates above (`event-loop`, `process`, `app-server`). Whatever rustix covers safely is
//! called there directly, not wrapped here.
//!
//! Linux 3.10 is enough for all of it. What may run in a signal handler, or between fork and exec, says
//! "async-signal-safe": it allocates nothing, takes no lock and calls only functions of signal-safety(7).
//! Some functions here take a function to be called in such a place ([`fatal::catch`], [`interval::Ticker`]):
//! what they are given has to keep to the same rules, which no type can check.
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod allocator;
pub mod alternate_stack;
pub mod buffers;
pub mod descriptors;
pub mod environment;
pub mod epoll;
mod errno;
pub mod exec;
pub mod fatal;
pub mod fork;
pub mod interval;
pub mod limits;
pub mod mapping;
pub mod parent;
pub mod program;
pub mod signals;
pub mod threads;
#[cfg(feature = "tokio")]
pub mod tokio_watch;
pub mod turn;
pub mod unblocked;
pub mod wait;
