//! `toolshed serve`: the site over HTTP.

use std::sync::OnceLock;

use app_server::{Address, WayIn};
use site::Password;

use super::right_settings;
use crate::config::{Configuration, Typed};
use crate::log::Terminal;
use crate::report::Failure;
use crate::{application, log, renewal};

/// Where `serve` listens unless told otherwise: this machine alone can reach it.
pub(crate) const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn run(typed: &Typed) -> Result<(), Failure> {
    let renewal = renewal::begin(typed, false);
    let mut configuration = right_settings(typed)?;
    let log = log::begin(&configuration.settings);
    log::configuration(&configuration);
    let listen = configuration.settings.listen.clone();
    let listen = listen.unwrap_or(Address::Tcp(ADDRESS));
    let made_up = make_up_password(&listen, &mut configuration);
    let way_in = WayIn::Http(listen);
    let mut server = application::server_settings(&configuration.settings);
    server.renewal = match &made_up {
        // Whoever has read it at the terminal does not read another when the program is renewed.
        Some(password) => renewal.map(|renewal| renewal.variable(MADE_UP_VARIABLE, password)),
        None => renewal,
    };
    let Greeting { terminal, .. } = GREETING.get_or_init(|| Greeting { terminal: log, made_up });
    // A worker's supervisor has greeted.
    if !app_server::is_worker() {
        server.on_listening = greet;
    }
    if let Some(workers) = application::workers(&configuration.settings) {
        return terminal.tell(app_server::supervise(&way_in, workers, &server));
    }
    let served = app_server::run(application::site_over_http(configuration), way_in, server);
    terminal.tell(served)
}

/// Makes a password up where none is set and only this machine can connect, so that the site can be tried
/// out. It stands at the terminal alone, never in the log.
fn make_up_password(listen: &Address, configuration: &mut Configuration) -> Option<String> {
    let is_of_this_machine = matches!(listen, Address::Tcp(address) if address.ip().is_loopback());
    if !is_of_this_machine || configuration.settings.password.is_some() {
        return None;
    }
    let login = application::login(&configuration.settings);
    let before = std::env::var(MADE_UP_VARIABLE).ok().filter(|password| !password.is_empty());
    let made_up = match event_loop::run(login.has_set_up()) {
        Ok(Ok(true)) => return None,
        Ok(Ok(false)) if before.is_some() => Ok(before.unwrap_or_default()),
        Ok(Ok(false)) => login.make_up_password().map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let password =
        made_up.inspect_err(|error| tracing::error!("Nobody can log in: {error}.")).ok()?;
    configuration.settings.password = Password::clear(&*password);
    Some(password)
}

/// Holds the password that was made up, for the versions of this process that follow.
pub(crate) const MADE_UP_VARIABLE: &str = "TOOLSHED_MADE_UP_PASSWORD";

/// What the greeting needs: the server calls a plain function.
struct Greeting {
    terminal: Terminal,
    made_up: Option<String>,
}

static GREETING: OnceLock<Greeting> = OnceLock::new();

/// Says where the site is, how to stop it and what to do next.
fn greet(way_in: &str) {
    let Some(Greeting { terminal, made_up }) = GREETING.get() else { return };
    let log_in = made_up.as_ref().map_or(String::new(), |password| {
        format!("\n  Log in with:   {password} (made up, for none is set)")
    });
    terminal.greet(&format!(
        "Toolshed serves the site at {way_in}\n\
         \n  Look at it:    open that address in a browser{log_in}\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    ));
}
