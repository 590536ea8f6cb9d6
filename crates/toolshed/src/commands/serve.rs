//! `toolshed serve`: the site over HTTP.

use app_server::WayIn;

use crate::flags::Serve;
use crate::{application, log};

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn run(flags: &Serve) -> Result<(), app_server::Error> {
    match &flags.log {
        Some(file) => log::to_file(file),
        None => log::to_stderr(),
    }
    let mut settings = application::settings();
    settings.on_listening = greet;
    app_server::run(application::site_over_http(), WayIn::Http(flags.listen.clone()), settings)
}

/// Says where the site is, how to stop it and what to do next.
fn greet(way_in: &str) {
    println!(
        "Toolshed serves the site at {way_in}\n\
         \n  Look at it:    open that address in a browser\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n"
    );
}
