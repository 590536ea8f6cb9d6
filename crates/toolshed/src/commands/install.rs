//! `toolshed install FILE`: lets a new version take the program's place, if it passes its check.

use std::path::Path;

use crate::config::Typed;
use crate::report::{self, Failure};
use crate::{log, renewal};

/// Checks and installs.
///
/// # Errors
/// When the file is not taken; the version before stays in its place then.
pub(crate) fn run(typed: &Typed, file: &Path) -> Result<(), Failure> {
    log::to_stderr_from(tracing::Level::WARN);
    let program = renewal::install(typed, file)?;
    report::print(&format!(
        "{} is the new version now; the one before is kept as {}.previous.\n\
         Running processes take it within a few seconds.\n",
        program.display(),
        program.display(),
    ))
}
