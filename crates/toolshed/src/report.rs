//! What a command prints at its end, and its exit code.
//!
//! 0: success. 1: the machine refused. 2: a mistake on the command line or in a setting. Results go to standard
//! output, messages to standard error; a reader that has gone away is not a failure.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Configuration, Problem};

/// Why a command failed.
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

    /// A mistake on the command line or in a setting.
    pub(crate) fn wrong(message: impl fmt::Display) -> Self {
        Failure { code: 2, messages: vec![message.to_string()], hint: None }
    }

    /// The settings have mistakes: all of them, and the file.
    pub(crate) fn configuration(configuration: &Configuration) -> Self {
        let messages = configuration.problems.iter().map(ToString::to_string).collect();
        let file =
            configuration.file.as_ref().map(|file| format!("the file is {}", file.display()));
        let key = configuration.problems.iter().find_map(Problem::key);
        let key = key.map(|key| format!("`toolshed settings {key}` explains it"));
        let hints: Vec<_> = key.into_iter().chain(file).collect();
        let hint = (!hints.is_empty()).then(|| format!("{}.", hints.join("; ")));
        Failure { code: 2, messages, hint }
    }

    /// A command that has reported everything itself.
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

/// A line per message, then the hint.
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

/// Reports a failure on standard error.
pub(crate) fn exit_code<E: Into<Failure>>(outcome: Result<(), E>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let failure = failure.into();
    // If even this cannot be written, the exit code says it.
    let _ = write!(io::stderr(), "{failure}");
    ExitCode::from(failure.code)
}

/// How often a command shows how far it is.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Writes a result to standard output.
///
/// # Errors
///
/// If it cannot be written, unless the reader has gone away (`toolshed tools | head -1`).
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Formats lines with aligned columns.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let lines = || [&head].into_iter().chain(rows);
    let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines() {
        let mut shown = String::new();
        for (cell, width) in line.iter().zip(widths) {
            shown += &format!("{cell:width$}  ");
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
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
