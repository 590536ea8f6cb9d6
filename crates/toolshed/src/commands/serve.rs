//! `toolshed serve`: the site over HTTP.

use std::rc::Rc;

use app_server::{Address, Protocol, Server, Transport};
use site::{Password, login};

use super::valid_settings;
use crate::application::{self, SiteHost};
use crate::config::{CommandLine, Configuration, GENERATED_VARIABLE};
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
    application::name_node(&configuration.settings);
    let (log, terminal) = log::begin(&configuration.settings);
    log::configuration(&configuration);
    if let Err(error) = app_server::check_descriptors() {
        return terminal.report(Err(error));
    }
    let listen = configuration.settings.listen.clone();
    let listen = listen.unwrap_or(Address::Tcp(ADDRESS));
    let generated = generate_password(&listen, &mut configuration);
    let settings = application::server_settings(&configuration.settings);
    let upgrade = upgrade::log_if_unavailable(upgrade);
    let upgrade = match &generated {
        // It is printed once, so an upgrade does not change it.
        Some(generated) => {
            upgrade.map(|upgrade| upgrade.variable(GENERATED_VARIABLE, generated.password()))
        }
        None => upgrade,
    };
    let password = generated.as_ref().map(|generated| generated.password().to_owned());
    let terminal = Rc::new(terminal);
    let mut host = SiteHost::new(&configuration.settings).log(log);
    // The supervisor greets for its workers.
    if !app_server::is_worker() {
        let terminal = terminal.clone();
        host = host.on_listening(move |address| greet(&terminal, generated.as_ref(), address));
    }
    if let Some(mut workers) = application::workers(&configuration.settings) {
        workers.variables.extend(password.map(|it| (GENERATED_VARIABLE.into(), it.into())));
        return terminal.report(app_server::supervise(
            Protocol::Http,
            listen,
            workers,
            &settings,
            &host,
        ));
    }
    let server = Server::new(application::site_over_http(configuration));
    terminal
        .report(server.settings(settings).upgrade(upgrade).host(host).run(Transport::Http(listen)))
}

/// A generated password, printed at the terminal.
enum PrintedPassword {
    /// By the previous version of this process, or by the supervisor.
    Inherited(String),
    New(login::GeneratedPassword),
}

impl PrintedPassword {
    fn password(&self) -> &str {
        match self {
            PrintedPassword::Inherited(password) => password,
            PrintedPassword::New(generated) => generated.password(),
        }
    }
}

/// Generates a password if none is set and only this machine can connect, so that the site can be tried out. It is
/// printed at the terminal and never logged.
fn generate_password(
    listen: &Address,
    configuration: &mut Configuration,
) -> Option<PrintedPassword> {
    let is_local = matches!(listen, Address::Tcp(address) if address.ip().is_loopback());
    if !is_local || configuration.settings.password.is_some() {
        return None;
    }
    let login = application::login(&configuration.settings);
    let before = std::env::var(GENERATED_VARIABLE).ok().filter(|password| !password.is_empty());
    let generated = event_loop::run(async {
        Ok(match (login.has_set_up().await?, before) {
            (true, _) => None,
            (false, Some(password)) => Some(PrintedPassword::Inherited(password)),
            (false, None) => Some(PrintedPassword::New(login.generate_password().await?)),
        })
    });
    let in_words = |error: login::KeyError| error.to_string();
    let generated = generated.map_err(|error| error.to_string());
    let generated = generated.and_then(|generated| generated.map_err(in_words));
    let generated = generated.inspect_err(|error| cannot_log_in(error)).ok()??;
    configuration.settings.password = Password::clear(generated.password());
    Some(generated)
}

fn cannot_log_in(error: impl std::fmt::Display) {
    tracing::error!("Nobody can log in: {error}.");
}

/// Prints where the site is, how to stop it and what to do next.
fn greet(terminal: &Terminal, generated: Option<&PrintedPassword>, address: &str) {
    // Only once the site is served: a failed start leaves nothing behind.
    let kept = |generated: &&PrintedPassword| match generated {
        PrintedPassword::Inherited(_) => true,
        PrintedPassword::New(generated) => {
            generated.keep().inspect_err(|error| cannot_log_in(error)).is_ok()
        }
    };
    let log_in = generated.filter(kept).map_or(String::new(), |generated| {
        format!("\n  Log in with:   {} (generated, because none is set)", generated.password())
    });
    terminal.print(&format!(
        "Toolshed serves the site at {address}\n\
         \n  Look at it:    open that address in a browser{log_in}\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    ));
}
