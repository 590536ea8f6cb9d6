//! The program: what was asked for (flags, environment, descriptor 0) → settings → the server.
//!
//! Only here do the server (`app-server`) and the site (`site`, `tools`) meet, in `application.rs`.

#![forbid(unsafe_code)]

mod application;
mod commands;
mod flags;
mod log;
mod report;

use std::process::ExitCode;

use app_server::WayIn;
use clap::Parser;

use crate::flags::{Command, Flags};

fn main() -> ExitCode {
    // A web server that starts the program gives no arguments that matter and no terminal: do not
    // even look at them.
    if WayIn::inherited().is_some() {
        return report::exit_code(commands::spawned::run());
    }
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => return report::usage(&error),
    };
    report::exit_code(match flags.command {
        Some(Command::Serve(serve)) => commands::serve::run(&serve),
        Some(Command::Fastcgi(fastcgi)) => commands::fastcgi::run(&fastcgi),
        None if commands::cgi::is_asked_for() => commands::cgi::run(),
        None if commands::launched::is_asked_for() => commands::launched::run(),
        None => commands::serve::run(&flags::Serve::default()),
    })
}
