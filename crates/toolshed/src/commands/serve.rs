//! `toolshed serve`: the site over HTTP.

use std::io::Write;
use std::sync::OnceLock;

use app_server::{Address, WayIn};

use super::right_settings;
use crate::config::Typed;
use crate::log::Terminal;
use crate::report::Failure;
use crate::{application, log};

/// Where `serve` listens unless told otherwise: this machine alone can reach it.
pub(crate) const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn run(typed: &Typed) -> Result<(), Failure> {
    let configuration = right_settings(typed)?;
    let log = log::begin(configuration.settings.log.as_deref());
    log::configuration(&configuration);
    let listen = configuration.settings.listen.clone();
    let way_in = WayIn::Http(listen.unwrap_or(Address::Tcp(ADDRESS)));
    let mut server = application::server_settings(&configuration.settings);
    server.on_listening = greet;
    let terminal = TERMINAL.get_or_init(|| log);
    let served = app_server::run(application::site_over_http(configuration), way_in, server);
    terminal.tell(served)
}

/// The terminal, for the greeting: the server calls a plain function.
static TERMINAL: OnceLock<Terminal> = OnceLock::new();

/// Says where the site is, how to stop it and what to do next.
fn greet(way_in: &str) {
    let Some(terminal) = TERMINAL.get() else { return };
    // Somebody who does not listen need not be greeted.
    let _ = write!(
        terminal.output(),
        "Toolshed serves the site at {way_in}\n\
         \n  Look at it:    open that address in a browser\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    );
}
