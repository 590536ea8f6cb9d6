//! The site's own commands, one file each.

pub(crate) mod backup;
pub(crate) mod blobs;
pub(crate) mod check;
pub(crate) mod hash_password;
pub(crate) mod restore;
pub(crate) mod set_password;
pub(crate) mod store;
pub(crate) mod tools;

use hosted::config::CommandLine;
use hosted::report::Failure;

use crate::flags::Command;

/// Runs one of them.
pub(crate) fn run(command: &Command, command_line: &CommandLine) -> Result<(), Failure> {
    match command {
        Command::Tools => tools::run(command_line),
        Command::SetPassword => set_password::run(command_line),
        Command::HashPassword => hash_password::run(),
        Command::Backup(backup) => backup::run(command_line, &backup.file),
        Command::Restore(restore) => restore::run(command_line, &restore.file),
        Command::Store(store) => store::run(command_line, store.command.as_ref()),
        Command::Blobs(blobs) => blobs::run(command_line, blobs.command.as_ref()),
    }
}
