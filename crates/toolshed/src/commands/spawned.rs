//! A web server started the program with a listening socket at descriptor 0.

use app_server::WayIn;

use crate::{application, log};

/// Serves FastCGI until the web server ends it.
pub(crate) fn run() -> Result<(), app_server::Error> {
    match log::of_spawned() {
        Some(file) => log::to_file(&file),
        None => log::to_stderr(),
    }
    let served = app_server::run(application::site(), WayIn::Spawned, application::settings());
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    served
}
