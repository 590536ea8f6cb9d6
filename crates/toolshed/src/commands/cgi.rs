//! A web server runs the program as plain CGI: one exchange, then the end.
//!
//! Slower than FastCGI by the start of a process for each request, so nothing is opened that this one
//! request does not need: the log file when there is something to write, a tool's pages when they are
//! asked for.

use app_server::WayIn;

use crate::config::{self, Typed};
use crate::report::Failure;
use crate::{application, log};

/// Answers the one request.
pub(crate) fn run() -> Result<(), Failure> {
    let configuration = config::load(&Typed::default());
    log::to_file_when_needed(&configuration.settings);
    log::configuration(&configuration);
    let server = application::server_settings(&configuration.settings);
    let served = app_server::run(application::site(configuration), WayIn::Cgi, server);
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    Ok(served?)
}
