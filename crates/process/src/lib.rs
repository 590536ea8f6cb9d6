//! Processes: programs and forked code as children with limits, becoming another program in place, descriptors 0
//! to 2. An ordinary client of the event loop, and no thread is ever started.
//!
//! | file | what |
//! | --- | --- |
//! | `command.rs`, `child.rs` | programs as child processes, awaited through the loop |
//! | `children.rs` | the table of children, and who reaps them |
//! | [`fork`], `compute.rs` | children that go on with our code: for what may take long, take much or crash |
//! | [`draining_child`] | a copy of this process that finishes what is in flight |
//! | `limits.rs`, `failure.rs` | what a child may use up, and why it brought nothing |
//! | [`output`] | what a child prints |
//! | [`reexec`] | another program in the same process, and what is handed over to it |
//! | [`descriptors`] | the standard descriptors, and those that were left to us |
//! | [`memory_limit`] | how much this process itself may take |
//!
//! Unsafe code is in the crate `sys`. What a child answers, and when a process re-executes itself, is the business of
//! `app-server`.
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
pub mod reexec;

pub use std::process::{ExitStatus, Output, Stdio};

pub use child::Child;
pub use children::{
    Counters, adopt_inherited, counters, look_now, running, running_in_background, stop_with_parent,
};
pub use command::Command;
pub use compute::{Computation, compute};
pub use failure::Failure;
pub use limits::Limits;
pub use sys::wait::Usage;
