//! `toolshed completions SHELL`: completions for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::flags::Flags;
use crate::report::{self, Failure};

/// Prints the completions.
pub(crate) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "toolshed", &mut script);
    report::print(&String::from_utf8_lossy(&script))
}
