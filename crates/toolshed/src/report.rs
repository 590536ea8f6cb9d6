//! What a command that ends says, and with which exit code.
//!
//! 0: done. 1: the machine refused. 2: what was typed or set is wrong. Results go to standard output,
//! messages to standard error; a reader that has gone away is no failure.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::{Configuration, Problem};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    messages: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// The machine refused.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Failure { code: 1, messages: vec![message.to_string()], hint: None }
    }

    /// What was typed or set is wrong.
    pub(crate) fn wrong(message: impl fmt::Display) -> Self {
        Failure { code: 2, messages: vec![message.to_string()], hint: None }
    }

    /// The settings are wrong: every sentence, and where they stand.
    pub(crate) fn configuration(configuration: &Configuration) -> Self {
        let messages = configuration.problems.iter().map(ToString::to_string).collect();
        let file =
            configuration.file.as_ref().map(|file| format!("the file is {}", file.display()));
        let key = configuration.problems.iter().find_map(Problem::key);
        let key = key.map(|key| format!("`toolshed settings {key}` says more about it"));
        let hints: Vec<_> = key.into_iter().chain(file).collect();
        let hint = (!hints.is_empty()).then(|| format!("{}.", hints.join("; ")));
        Failure { code: 2, messages, hint }
    }

    /// A command that has said all there is to say.
    pub(crate) fn silent(code: u8) -> Self {
        Failure { code, messages: Vec::new(), hint: None }
    }

    /// Adds what to try.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl From<app_server::Error> for Failure {
    fn from(error: app_server::Error) -> Self {
        Failure::refused(error)
    }
}

/// As people read it: a line a message, then what to try.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for message in &self.messages {
            writeln!(formatter, "toolshed: {message}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(formatter, "Hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Tells a failure on standard error.
pub(crate) fn exit_code<E: Into<Failure>>(outcome: Result<(), E>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let failure = failure.into();
    // When even this cannot be written, the exit code says it.
    let _ = write!(io::stderr(), "{failure}");
    ExitCode::from(failure.code)
}

/// Writes a result to standard output.
///
/// # Errors
/// When it cannot be written, unless nobody reads it any more (`toolshed tools | head -1`).
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// The outcome of writing to standard output.
fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("Standard output cannot be written: {error}.")))
        }
        _ => Ok(()),
    }
}

/// Prints help, the version or what is wrong with the command line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if error.use_stderr() {
        // If even this cannot be written, the exit code says it.
        return ExitCode::from(error.exit_code().clamp(0, 255) as u8);
    }
    exit_code(written(printed))
}
