//! `./dispatch.fcgi` in a shell: explains what it is and what to do, and checks the installation.

use std::path::Path;

use crate::commands::check;
use crate::config::CommandLine;
use crate::installation::LAUNCHER_VARIABLE;
use crate::report::{self, Failure};
use crate::upgrade;

/// Whether the launcher started the program.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os(LAUNCHER_VARIABLE).is_some()
}

/// Explains, and checks the installation.
pub(crate) fn run() -> Result<(), Failure> {
    report::print(concat!(
        "The launcher found ",
        env!("CARGO_PKG_NAME"),
        " ",
        env!("CARGO_PKG_VERSION"),
        ", and it runs.\n\
         \n\
         dispatch.fcgi is started by the web server (FastCGI), not by hand: open the\n\
         site's address in a browser. To see the site without a web server, run the\n\
         program itself: toolshed serve\n\
         \n"
    ))?;
    if upgrade::is_good_copy() {
        report::print(
            "Note: this is toolshed.good, the last version that passed its check. The program\n\
             beside it, toolshed, did not: `./toolshed check --upgrade` says why.\n\n",
        )?;
    }
    let launcher = std::env::var_os(LAUNCHER_VARIABLE).unwrap_or_default();
    check::run(&CommandLine::default(), Path::new(&launcher).parent())
}
