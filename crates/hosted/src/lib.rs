//! What an application needs around its server on a host where nothing but files can be reached: settings with advice, a
//! log that its owner can read, upgrades by uploading a file, a check, a command line.
//!
//! An application is an [`App`], and [`run`] is its `main`. It finds out how the process was started: by a web server
//! (FastCGI, CGI), by a shell, by a supervisor.
//!
//! `app.rs` is what a program is made of; `commands.rs` which command runs, with one file for each in `commands/`;
//! `config.rs` its settings; `installation.rs` its files; `upgrade.rs` what is saved of the last version that passed its
//! check; `log.rs` where messages go; `report.rs` what a command prints at its end; `launcher.rs` what the web server runs.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod app;
mod commands;
pub mod config;
pub mod findings;
mod flags;
pub mod installation;
mod launcher;
pub mod log;
mod program;
pub mod report;
mod upgrade;

pub use app::{App, By, Introduction, NoCommands, Start};
pub use commands::run;
pub use program::Program;
