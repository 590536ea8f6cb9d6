//! System calls that no safe library covers: all `unsafe` code that ships, except for the C calls of
//! `crates/culprits`.
//!
//! One file per subject. The functions are safe; each checks the return value once and turns errno into an
//! [`io::Error`](std::io::Error), those of [`unblocked`] into rustix's `Errno`. There is no policy here: the crates
//! above (`event-loop`, `process`, `app-server`) decide what to register, retry, limit or report. What rustix covers
//! safely is called there directly, except for `threads`, on which unsafe code here relies. A function that takes a
//! descriptor by number is to be called with that of an open one.
//!
//! Linux 3.10 is enough for all of it. What may run in a signal handler, or between fork and exec, is documented as
//! "async-signal-safe": it allocates nothing, takes no lock and calls only functions of signal-safety(7), or of rustix
//! those that are one system call. A function passed to [`fatal::catch`], [`interval::Ticker`] or
//! [`program::before_exec`] has to follow the same rules, which no type can check.
#![deny(clippy::undocumented_unsafe_blocks)]
// docs.rs says which items need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
pub mod mapping;
pub mod program;
pub mod signals;
pub mod threads;
#[cfg(feature = "tokio")]
pub mod tokio_watch;
pub mod turn;
pub mod unblocked;
pub mod wait;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
