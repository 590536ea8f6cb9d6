//! `install FILE`: replaces the program by a new version that passes its check.

use std::path::Path;

use crate::config::{CommandLine, Keys};
use crate::installation::PREVIOUS;
use crate::report::{self, Failure};
use crate::{log, upgrade};

/// Checks and installs.
///
/// # Errors
///
/// If the file is rejected; the program is unchanged then.
pub(crate) fn run<O: Default>(
    keys: &Keys<O>,
    command_line: &CommandLine,
    file: &Path,
) -> Result<(), Failure> {
    log::to_stderr_from(tracing::Level::WARN);
    let program = upgrade::install(keys, command_line, file)?;
    report::print(&format!(
        "Installed {}; the previous version is kept as {}.\n\
         Running processes upgrade within a few seconds.\n",
        program.display(),
        PREVIOUS.beside(&program).display(),
    ))
}
