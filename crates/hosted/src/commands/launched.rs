//! `./dispatch.fcgi` in a shell: explains what it is and what to do, and checks the installation.

use std::path::Path;

use super::{Context, check};
use crate::app::App;
use crate::config::CommandLine;
use crate::program::Program;
use crate::report::{self, Failure};
use crate::upgrade;

/// Whether the launcher started the program.
pub(crate) fn is_asked_for(program: Program) -> bool {
    std::env::var_os(program.launcher_variable()).is_some()
}

/// Explains, and checks the installation.
pub(crate) fn run<A: App>(context: &Context<A>) -> Result<(), Failure> {
    let program = context.keys.program();
    let name = program.name;
    report::print(&format!(
        "The launcher found {program}, and it runs.\n\
         \n\
         dispatch.fcgi is started by the web server (FastCGI), not by hand: open the\n\
         site's address in a browser. To see the site without a web server, run the\n\
         program itself: {name} serve\n\
         \n"
    ))?;
    if upgrade::is_good_copy() {
        report::print(&format!(
            "Note: this is {name}.good, the last version that passed its check. The program\n\
             beside it, {name}, did not: `./{name} check --upgrade` says why.\n\n"
        ))?;
    }
    let launcher = std::env::var_os(program.launcher_variable()).unwrap_or_default();
    check::run(context, &CommandLine::default(), Path::new(&launcher).parent())
}
