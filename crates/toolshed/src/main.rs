//! The program: descriptor 0, environment and flags → settings → the server.
//!
//! Only here do the server (`app-server`) and the site (`site`, `tools`) meet, in `application.rs`.

#![forbid(unsafe_code)]

mod application;
mod commands;
mod config;
mod flags;
mod installation;
mod log;
mod report;
mod setup;
mod upgrade;

use std::process::ExitCode;

use app_server::Allocator;
use app_server::Transport;
use clap::Parser;

use crate::flags::{Command, Flags};

/// Reports in the log that a crash was caused by lack of memory.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // It cannot fail for an existing signal.
    let _ = event_loop::signals::ignore_failed_writes();
    // A web server that starts the program passes no arguments that matter, so they are not even parsed. For CGI this
    // is also a matter of security, since a query may become arguments (RFC 3875 §4.4). A worker's socket comes from
    // our own supervisor, and its arguments are the supervisor's.
    let inherited = if app_server::is_worker() { None } else { Transport::inherited() };
    match inherited {
        Some(Transport::Cgi) => return report::exit_code(commands::cgi::run()),
        Some(_) => return report::exit_code(commands::spawned::run()),
        None => {}
    }
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => return report::usage(&error),
    };
    let command_line = flags.command_line();
    report::exit_code(match &flags.command {
        Some(Command::Serve(_)) => commands::serve::run(&command_line),
        Some(Command::Fastcgi(_)) => commands::fastcgi::run(&command_line),
        Some(Command::Request(request)) => commands::request::run(&command_line, request),
        Some(Command::Tools) => commands::tools::run(&command_line),
        Some(Command::Check(check)) if check.upgrade => {
            commands::upgrade_check::run(&command_line, check.keep)
        }
        Some(Command::Check(check)) => commands::check::run(&command_line, check.folder.as_deref()),
        Some(Command::Install(install)) => commands::install::run(&command_line, &install.file),
        Some(Command::Settings(settings)) => {
            commands::settings::run(&command_line, settings.name.as_deref())
        }
        Some(Command::SetPassword) => commands::set_password::run(&command_line),
        Some(Command::HashPassword) => commands::hash_password::run(),
        Some(Command::Backup(backup)) => commands::backup::run(&command_line, &backup.file),
        Some(Command::Restore(restore)) => commands::restore::run(&command_line, &restore.file),
        Some(Command::Store(store)) => commands::store::run(&command_line, store.command.as_ref()),
        Some(Command::Blobs(blobs)) => commands::blobs::run(&command_line, blobs.command.as_ref()),
        Some(Command::Completions(completions)) => commands::completions::run(completions.shell),
        None if commands::launched::is_asked_for() => commands::launched::run(),
        None => commands::serve::run(&command_line),
    })
}
