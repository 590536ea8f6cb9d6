//! `toolshed serve`: the site over HTTP.

use std::rc::Rc;

use app_server::{Address, Server, Transport};
use site::{Password, login};

use super::valid_settings;
use crate::application::{self, SiteHost};
use crate::config::{CommandLine, Configuration};
use crate::log::Terminal;
use crate::report::Failure;
use crate::{log, upgrade};

/// The default address of `serve`: only this machine can reach it.
pub(crate) const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn run(command_line: &CommandLine) -> Result<(), Failure> {
    let upgrade = upgrade::begin(command_line, false);
    let mut configuration = valid_settings(command_line)?;
    let log = log::begin(&configuration.settings);
    log::configuration(&configuration);
    if let Err(error) = app_server::check_descriptors() {
        return log.report(Err(error));
    }
    let listen = configuration.settings.listen.clone();
    let listen = listen.unwrap_or(Address::Tcp(ADDRESS));
    let made_up = make_up_password(&listen, &mut configuration);
    let transport = Transport::Http(listen);
    let settings = application::server_settings(&configuration.settings);
    let upgrade = upgrade::log_if_unavailable(upgrade);
    let upgrade = match &made_up {
        // It is printed once, so an upgrade does not change it.
        Some(made_up) => {
            upgrade.map(|upgrade| upgrade.variable(MADE_UP_VARIABLE, made_up.password()))
        }
        None => upgrade,
    };
    let password = made_up.as_ref().map(|made_up| made_up.password().to_owned());
    let terminal = Rc::new(log);
    let mut host = SiteHost::new(&configuration.settings);
    // The supervisor greets for its workers.
    if !app_server::is_worker() {
        let terminal = terminal.clone();
        host = host.on_listening(move |address| greet(&terminal, made_up.as_ref(), address));
    }
    if let Some(mut workers) = application::workers(&configuration.settings) {
        workers.variables.extend(password.map(|it| (MADE_UP_VARIABLE.into(), it.into())));
        return terminal.report(app_server::supervise(transport, workers, &settings, &host));
    }
    let server = Server::new(application::site_over_http(configuration));
    terminal.report(server.settings(settings).upgrade(upgrade).host(host).run(transport))
}

/// A generated password, printed at the terminal.
enum MadeUp {
    /// By the previous version of this process, or by the supervisor.
    Inherited(String),
    New(login::MadeUp),
}

impl MadeUp {
    fn password(&self) -> &str {
        match self {
            MadeUp::Inherited(password) => password,
            MadeUp::New(made_up) => made_up.password(),
        }
    }
}

/// Generates a password if none is set and only this machine can connect, so that the site can be tried out. It is
/// printed at the terminal and never logged.
fn make_up_password(listen: &Address, configuration: &mut Configuration) -> Option<MadeUp> {
    let is_of_this_machine = matches!(listen, Address::Tcp(address) if address.ip().is_loopback());
    if !is_of_this_machine || configuration.settings.password.is_some() {
        return None;
    }
    let login = application::login(&configuration.settings);
    let before = std::env::var(MADE_UP_VARIABLE).ok().filter(|password| !password.is_empty());
    let made_up = match event_loop::run(login.has_set_up()) {
        Ok(Ok(true)) => return None,
        Ok(Ok(false)) => match before {
            Some(password) => Ok(MadeUp::Inherited(password)),
            None => login.make_up_password().map(MadeUp::New).map_err(|error| error.to_string()),
        },
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let made_up = made_up.inspect_err(|error| cannot_log_in(error)).ok()?;
    configuration.settings.password = Password::clear(made_up.password());
    Some(made_up)
}

fn cannot_log_in(error: impl std::fmt::Display) {
    tracing::error!("Nobody can log in: {error}.");
}

/// Holds the generated password, for later versions of this process.
pub(crate) const MADE_UP_VARIABLE: &str = "TOOLSHED_MADE_UP_PASSWORD";

/// Prints where the site is, how to stop it and what to do next.
fn greet(terminal: &Terminal, made_up: Option<&MadeUp>, address: &str) {
    // Only once the site is served: a failed start leaves nothing behind.
    let kept = |made_up: &&MadeUp| match made_up {
        MadeUp::Inherited(_) => true,
        MadeUp::New(made_up) => made_up.keep().inspect_err(|error| cannot_log_in(error)).is_ok(),
    };
    let log_in = made_up.filter(kept).map_or(String::new(), |made_up| {
        format!("\n  Log in with:   {} (generated, because none is set)", made_up.password())
    });
    terminal.print(&format!(
        "Toolshed serves the site at {address}\n\
         \n  Look at it:    open that address in a browser{log_in}\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    ));
}
