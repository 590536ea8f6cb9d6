//! `completions SHELL`: completions for a shell.

use clap_complete::Shell;

use crate::app::App;
use crate::flags;
use crate::program::Program;
use crate::report::{self, Failure};

/// Prints the completions.
pub(crate) fn run<A: App>(app: &A, program: Program, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut flags::definition(app, program), program.name, &mut script);
    report::print(&String::from_utf8_lossy(&script))
}
