//! `toolshed fastcgi --listen ADDRESS`: FastCGI on a socket of our own.

use app_server::{Address, Protocol, Server, Transport};

use crate::application::{self, SiteHost};
use crate::config::{self, CommandLine};
use crate::report::Failure;
use crate::{log, upgrade};

/// Serves until SIGTERM or Ctrl-C. Wrong settings do not end it, unless they are on the command line or leave no
/// address: a page and the log report them.
pub(crate) fn run(command_line: &CommandLine) -> Result<(), Failure> {
    let upgrade = upgrade::begin(command_line, false);
    let configuration = upgrade::or_last_good(config::load(command_line));
    if configuration.has_wrong_flags() {
        return Err(Failure::configuration(&configuration));
    }
    let Some(listen) = configuration.settings.listen.clone() else {
        return Err(match configuration.problems.is_empty() {
            true => Failure::wrong("fastcgi needs an address to listen on.")
                .hint("toolshed fastcgi --listen unix:/run/toolshed.sock"),
            false => Failure::configuration(&configuration),
        });
    };
    application::name_node(&configuration.settings);
    let (log, terminal) = log::begin(&configuration.settings);
    log::configuration(&configuration);
    let settings = application::server_settings(&configuration.settings);
    let upgrade = upgrade::log_if_unavailable(upgrade);
    let mut host = SiteHost::new(&configuration.settings).log(log);
    if command_line.config.is_none() {
        host = host.on_listening(upgrade::save_when_listening(&configuration));
    }
    if let Some(workers) = application::workers(&configuration.settings) {
        return terminal.report(app_server::supervise(
            Protocol::FastCgi,
            listen,
            workers,
            &settings,
            &host,
        ));
    }
    let mut site = application::site(configuration);
    if matches!(listen, Address::Tcp(_)) {
        site = site.reached_over_tcp();
    }
    terminal.report(
        Server::new(site)
            .settings(settings)
            .upgrade(upgrade)
            .host(host)
            .run(Transport::FastCgi(listen)),
    )
}
