//! A later version of the program, for tests of upgrades: the same but for the tables of *diagnostics*
//! (`next-version` and `contracting-version` in Cargo.toml). tests/later-versions builds it.

#![forbid(unsafe_code)]

mod app;
mod application;
mod commands;
mod config;
mod crash_sharing;
mod flags;
mod installation;
mod program_digest;
mod setup;

use std::process::ExitCode;

use app_server::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    hosted::run(app::Toolshed)
}
