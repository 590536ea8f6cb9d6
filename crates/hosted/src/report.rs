//! What a command prints at its end, and its exit code.
//!
//! 0: success. 1: the machine refused. 2: a mistake on the command line or in a setting. Results go to standard
//! output, messages to standard error; a reader that has gone away is not a failure.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::program::Program;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    messages: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// The machine refused.
    pub fn refused(message: impl fmt::Display) -> Self {
        Failure { code: 1, messages: vec![message.to_string()], hint: None }
    }

    /// A mistake on the command line or in a setting.
    pub fn wrong(message: impl fmt::Display) -> Self {
        Failure { code: 2, messages: vec![message.to_string()], hint: None }
    }

    /// Several mistakes on the command line or in the settings.
    pub fn several(messages: Vec<String>) -> Self {
        Failure { code: 2, messages, hint: None }
    }

    /// A command that has reported everything itself.
    pub fn silent(code: u8) -> Self {
        Failure { code, messages: Vec::new(), hint: None }
    }

    /// Adds what to try.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl From<app_server::Error> for Failure {
    fn from(error: app_server::Error) -> Self {
        Failure::refused(error)
    }
}

impl Failure {
    /// Logs that the process exits for this reason.
    pub(crate) fn log(&self) {
        for message in &self.messages {
            tracing::error!("Exiting: {message}");
        }
    }

    /// Returns what is said, a line each.
    pub(crate) fn messages(&self) -> &[String] {
        &self.messages
    }

    /// Returns the same without what is said, because it has been.
    pub(crate) fn silenced(self) -> Self {
        Failure::silent(self.code)
    }

    /// Returns it as it is printed: a line per message, then the hint.
    pub(crate) fn text(&self, program: Program) -> String {
        let lines = self.messages.iter().map(|message| format!("{}: {message}\n", program.name));
        let hint = self.hint.iter().map(|hint| format!("Hint: {hint}\n"));
        lines.chain(hint).collect()
    }
}

impl Program {
    /// Reports a failure on standard error, and returns the exit code.
    pub fn exit_code(self, outcome: Result<(), impl Into<Failure>>) -> ExitCode {
        let Err(failure) = outcome else { return ExitCode::SUCCESS };
        let failure = failure.into();
        // If even this cannot be written, the exit code says it.
        let _ = io::stderr().write_all(failure.text(self).as_bytes());
        ExitCode::from(failure.code)
    }

    /// Prints help, the version or what is wrong with the command line, and returns the exit code.
    pub fn usage(self, error: &clap::Error) -> ExitCode {
        let printed = error.print().and_then(|()| io::stdout().flush());
        if error.use_stderr() {
            // If even this cannot be written, the exit code says it.
            return ExitCode::from(error.exit_code().clamp(0, 255) as u8);
        }
        self.exit_code(written(printed))
    }
}

/// How often a command shows how far it is.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Writes a result to standard output.
///
/// # Errors
///
/// If it cannot be written, unless the reader has gone away (`… | head -1`).
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Writes a number of bytes in the unit that fits, rounded up: `12 KiB`, `3 MiB`.
#[cfg(feature = "store")]
pub(crate) fn size(bytes: u64) -> String {
    match bytes.div_ceil(1024) {
        kib @ ..10_240 => format!("{kib} KiB"),
        kib => format!("{} MiB", kib.div_ceil(1024)),
    }
}

/// Formats lines with aligned columns.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
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
