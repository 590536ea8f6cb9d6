//! The commands about the owner's password: `set-password`, `hash-password`.

use clap::Subcommand;
use hosted::App;
use hosted::config::CommandLine;
use hosted::report::Failure;

use crate::settings::{HasOwner, PASSWORD_HASH};
use crate::{hash_password, set_password};

/// The settings that a command sets ([`Keys::commands`](hosted::config::Keys::commands)).
pub const SETTERS: &[(&str, &str)] = &[(PASSWORD_HASH, "set-password")];

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set the owner's password in {name}.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | {name} set-password\n\
                      The rest of the file stays unchanged. All sessions end.")]
    SetPassword,
    /// Print the line that sets the owner's password in {name}.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | {name} hash-password")]
    HashPassword,
}

/// Runs one of them.
///
/// # Errors
///
/// What is printed, with the exit code.
pub fn run<A: App<Own: HasOwner>>(
    app: &A,
    command: &Command,
    command_line: &CommandLine,
) -> Result<(), Failure> {
    let keys = app.keys();
    match command {
        Command::SetPassword => set_password::run(&keys, command_line),
        Command::HashPassword => hash_password::run(keys.program()),
    }
}
