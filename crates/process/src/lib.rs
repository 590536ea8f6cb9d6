//! Processes: programs and forked code as children with limits, re-exec, descriptors 0 to 2. An ordinary client of
//! the event loop that never starts a thread.
//!
//! | file | subject |
//! | --- | --- |
//! | `command.rs`, `child.rs` | programs as child processes, awaited through the loop |
//! | `children.rs` | the table of children, and reaping |
//! | [`fork`], `compute.rs` | children that run our code: for what may take long, use much memory or crash |
//! | [`draining_child`] | a forked child that completes what is in flight |
//! | `limits.rs`, `failure.rs` | what a child may use, and why it has no result |
//! | `shortage.rs` | which errors are over in a moment |
//! | `parent.rs` | a signal when the parent exits |
//! | [`output`] | what a child prints |
//! | [`reexec`] | executing another program in the same process, and the handover state |
//! | [`descriptors`] | the standard descriptors, and those inherited from systemd |
//! | [`memory_limit`] | how much memory this process itself may use |
//!
//! Unsafe code is in the crate `sys`. `app-server` decides what a child does, and when the process re-executes
//! itself.
#![forbid(unsafe_code)]

mod child;
mod children;
mod command;
mod compute;
pub mod descriptors;
pub mod draining_child;
mod failure;
pub mod fork;
mod limits;
pub mod memory_limit;
pub mod output;
mod parent;
pub mod reexec;
mod shortage;

pub use std::process::{ExitStatus, Output, Stdio};

pub use child::Child;
pub use children::{Counters, adopt_inherited, counters, reap_now, running, running_in_background};
pub use command::Command;
pub use compute::{Computation, compute};
pub use failure::Failure;
pub use limits::Limits;
pub use parent::stop_with_parent;
pub use shortage::{is_short, is_short_for_process};
pub use sys::wait::Usage;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
