//! `toolshed fastcgi --listen ADDRESS`: FastCGI on a socket of our own.

use app_server::WayIn;

use crate::flags::Fastcgi;
use crate::{application, log};

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn run(flags: &Fastcgi) -> Result<(), app_server::Error> {
    match &flags.log {
        Some(file) => log::to_file(file),
        None => log::to_stderr(),
    }
    let way_in = WayIn::FastCgi(flags.listen.clone());
    app_server::run(application::site(), way_in, application::settings())
}
