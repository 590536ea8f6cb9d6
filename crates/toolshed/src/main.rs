//! The program: the site, with the server and everything that a hosted program has around it.
//!
//! Only here do the two meet, in `application.rs`.

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

/// Reports in the log that a crash was caused by lack of memory.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    hosted::run(app::Toolshed)
}
