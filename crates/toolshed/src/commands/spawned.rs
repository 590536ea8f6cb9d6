//! A web server started the program with a listening socket at descriptor 0.

use std::time::Duration;

use app_server::{Server, Transport};

use crate::application::{self, SiteHost};
use crate::config::{self, CommandLine};
use crate::report::Failure;
use crate::{installation, log, upgrade};

/// Serves FastCGI until the web server stops it. Wrong settings do not end it: the web server would only start it
/// again, and visitors would see "500".
pub(crate) fn run() -> Result<(), Failure> {
    let command_line = CommandLine::default();
    let upgrade = upgrade::begin(&command_line, true);
    let configuration = upgrade::or_last_good(config::load(&command_line));
    application::name_node(&configuration.settings);
    let log = match configuration.settings.log.clone().or_else(installation::default_log) {
        Some(file) => log::to_file(&file, &configuration.settings),
        None => log::to_stderr(),
    };
    log::configuration(&configuration);
    let mut settings = application::server_settings(&configuration.settings);
    settings.drain_wait = Duration::ZERO;
    let upgrade = upgrade::log_if_unavailable(upgrade);
    let host = SiteHost::new(&configuration.settings).log(log);
    let host = host.on_listening(upgrade::save_when_listening(&configuration));
    let mut site = application::site(configuration);
    if !is_unix_socket() {
        site = site.reached_over_tcp();
    }
    Server::new(site)
        .settings(settings)
        .upgrade(upgrade)
        .host(host)
        .run(Transport::Spawned)
        .map_err(|error| {
            tracing::error!("Exiting: {error}");
            Failure::silent(1)
        })
}

/// Whether the web server's socket is a file, which only accounts of this machine with access to it can reach.
fn is_unix_socket() -> bool {
    let address = rustix::net::getsockname(std::io::stdin());
    address.is_ok_and(|address| address.address_family() == rustix::net::AddressFamily::UNIX)
}
