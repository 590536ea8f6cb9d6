//! The site's own commands, one file each.

pub(crate) mod blobs;
pub(crate) mod check;
pub(crate) mod tools;

use hosted::config::CommandLine;
use hosted::report::Failure;
use hosted::store::Keeps;

use crate::config::OwnSettings;
use crate::flags::Command;

/// Runs one of them.
pub(crate) fn run(
    site: &impl Keeps<Own = OwnSettings>,
    command: &Command,
    command_line: &CommandLine,
) -> Result<(), Failure> {
    match command {
        Command::Tools => tools::run(command_line),
        Command::Password(command) => hosted_login::commands::run(site, command, command_line),
        Command::Store(command) => hosted::store::run(site, command, command_line),
        Command::Blobs(blobs) => blobs::run(command_line, blobs.command.as_ref()),
    }
}
