//! The commands, one file each.

pub(crate) mod backup;
pub(crate) mod blobs;
pub(crate) mod cgi;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod fastcgi;
pub(crate) mod hash_password;
pub(crate) mod install;
pub(crate) mod launched;
pub(crate) mod request;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod set_password;
pub(crate) mod settings;
pub(crate) mod spawned;
pub(crate) mod store;
pub(crate) mod tools;
pub(crate) mod upgrade_check;

use crate::config::{self, CommandLine, Configuration};
use crate::report::Failure;

/// Loads the settings for a command run at a terminal.
///
/// # Errors
///
/// If any of them is wrong.
pub(crate) fn valid_settings(command_line: &CommandLine) -> Result<Configuration, Failure> {
    let configuration = config::load(command_line);
    if configuration.problems.is_empty() {
        Ok(configuration)
    } else {
        Err(Failure::configuration(&configuration))
    }
}
