//! A web server runs the program as plain CGI: one request, then exit.
//!
//! Each request starts a process, so nothing is opened until it is needed: the log file by the first message, a tool's
//! pages when they are requested.

use app_server::{Server, Transport};

use crate::application::{self, SiteHost};
use crate::config::{self, CommandLine};
use crate::log;
use crate::report::Failure;

/// Answers the one request.
pub(crate) fn run() -> Result<(), Failure> {
    let configuration = config::load(&CommandLine::default());
    application::name_node(&configuration.settings);
    log::to_file_when_needed(&configuration.settings);
    log::configuration(&configuration);
    let settings = application::server_settings(&configuration.settings);
    let host = SiteHost::new(&configuration.settings);
    let server = Server::new(application::site(configuration)).settings(settings).host(host);
    let served = server.run(Transport::Cgi);
    if let Err(error) = &served {
        tracing::error!("Exiting: {error}");
    }
    Ok(served?)
}
