//! A web server started the program with a listening socket at descriptor 0.

use app_server::WayIn;

use crate::config::{self, Typed};
use crate::report::Failure;
use crate::{application, log};

/// Serves FastCGI until the web server ends it. Wrong settings do not end it: the web server would only
/// start it again, and visitors would read "500".
pub(crate) fn run() -> Result<(), Failure> {
    let configuration = config::load(&Typed::default());
    match configuration.settings.log.clone().or_else(log::of_spawned) {
        Some(file) => {
            log::to_file(&file);
        }
        None => log::to_stderr(),
    }
    log::configuration(&configuration);
    let server = application::server_settings(&configuration.settings);
    app_server::run(application::site(configuration), WayIn::Spawned, server).map_err(|error| {
        tracing::error!("{error}");
        Failure::silent(1)
    })
}
