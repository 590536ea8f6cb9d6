//! The password that `serve` generates if none is set, so that the site can be tried out.

use app_server::Address;
use hosted::config::Configuration;
use site::{Password, login};

use crate::settings::{self, GENERATED, HasOwner};

/// A generated password, for the terminal. It is never logged.
pub struct Printed(Source);

enum Source {
    /// By the previous version of this process, or by the supervisor.
    Inherited(String),
    New(login::GeneratedPassword),
}

impl Printed {
    /// Returns the password.
    pub fn password(&self) -> &str {
        match &self.0 {
            Source::Inherited(password) => password,
            Source::New(generated) => generated.password(),
        }
    }

    /// Keeps what it was made from, and returns whether one can log in with it. Call it once the site is served: a failed
    /// start leaves nothing behind.
    pub fn keep(&self) -> bool {
        match &self.0 {
            Source::Inherited(_) => true,
            Source::New(generated) => {
                generated.keep().inspect_err(|error| cannot_log_in(error)).is_ok()
            }
        }
    }

    /// Returns the variable by which workers and later versions of the process have the same.
    pub fn variable<O>(&self, configuration: &Configuration<O>) -> (String, String) {
        (configuration.program.variable(GENERATED), self.password().to_owned())
    }
}

/// Generates a password if none is set and only this machine can connect, so that the site can be tried out, and sets
/// it. It is to be printed at the terminal.
pub fn generate<O: HasOwner>(
    listen: &Address,
    configuration: &mut Configuration<O>,
) -> Option<Printed> {
    let is_local = matches!(listen, Address::Tcp(address) if address.ip().is_loopback());
    if !is_local || configuration.settings.own.owner().password.is_some() {
        return None;
    }
    let program = configuration.program;
    let login = settings::login(program, &configuration.settings);
    let before =
        std::env::var(program.variable(GENERATED)).ok().filter(|password| !password.is_empty());
    let generated = event_loop::run(async {
        Ok(match (login.has_set_up().await?, before) {
            (true, _) => None,
            (false, Some(password)) => Some(Source::Inherited(password)),
            (false, None) => Some(Source::New(login.generate_password().await?)),
        })
    });
    let in_words = |error: login::KeyError| error.to_string();
    let generated = generated.map_err(|error| error.to_string());
    let generated = generated.and_then(|generated| generated.map_err(in_words));
    let generated = Printed(generated.inspect_err(|error| cannot_log_in(error)).ok()??);
    configuration.settings.own.owner_mut().password = Password::clear(generated.password());
    Some(generated)
}

fn cannot_log_in(error: impl std::fmt::Display) {
    tracing::error!("Nobody can log in: {error}.");
}
