//! Requests answered by child processes.
//!
//! With several threads, forking is refused; each case's process has a single one, which runs server and
//! client.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::process::ExitCode;

mod app;
mod children;
#[path = "../suite/client.rs"]
#[allow(dead_code, reason = "the suite uses the rest of it")]
mod client;
mod culprits;
mod leftovers;
mod queue;
mod requests;
mod transfer;

fn main() -> ExitCode {
    let cases = [requests::CASES, culprits::CASES, queue::CASES, leftovers::CASES].concat();
    case_runner::main(&cases, leftovers::HELPERS)
}
