//! The password that `serve` generates if none is set, so that the site can be tried out.

use app_server::Address;
use hosted::Introduction;
use site::{Password, login};

use crate::application;
use crate::config::{Configuration, GENERATED};
use crate::installation::PROGRAM;

/// Generates a password if one is needed, and says how to log in once the site is served.
pub(crate) fn introduce(listen: &Address, configuration: &mut Configuration) -> Introduction {
    let generated = generate_password(listen, configuration);
    // It is printed once, so an upgrade does not change it.
    let variable = |password: &str| (PROGRAM.variable(GENERATED), password.to_owned());
    let variables = generated.iter().map(|generated| variable(generated.password())).collect();
    Introduction {
        variables,
        greeting: Box::new(move |address| greeting(generated.as_ref(), address)),
    }
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
    if !is_local || configuration.settings.own.password.is_some() {
        return None;
    }
    let login = application::login(&configuration.settings);
    let before =
        std::env::var(PROGRAM.variable(GENERATED)).ok().filter(|password| !password.is_empty());
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
    configuration.settings.own.password = Password::clear(generated.password());
    Some(generated)
}

fn cannot_log_in(error: impl std::fmt::Display) {
    tracing::error!("Nobody can log in: {error}.");
}

/// Says where the site is, how to stop it and what to do next.
fn greeting(generated: Option<&PrintedPassword>, address: &str) -> String {
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
    format!(
        "Toolshed serves the site at {address}\n\
         \n  Look at it:    open that address in a browser{log_in}\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    )
}
