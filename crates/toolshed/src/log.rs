//! The log: where messages go and how a line looks.
//!
//! Nothing that is logged can panic, block, fill the disk or pass for another line (`log/`). Standard output
//! and error also go to the log file, so that a tool's stray `println!` ends up in it (an `eprintln!` with
//! values makes several writes, so other lines may come in between).

mod file;
mod line;
mod rate;
mod writer;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use process::descriptors;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use self::file::LogFile;
pub(crate) use self::writer::Log;
use self::writer::Sink;
use crate::config::{Configuration, Settings};
use crate::installation::default_log;
use crate::report::Failure;

/// Starts writing messages to standard error.
pub(crate) fn to_stderr() -> Log {
    to_stderr_from(tracing::Level::INFO)
}

/// The same, only from `level` up.
pub(crate) fn to_stderr_from(level: tracing::Level) -> Log {
    begin_writing(Sink::StandardError, level)
}

fn begin_writing(sink: Sink, level: tracing::Level) -> Log {
    let log = Log::new(sink);
    tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(level)
        .with_timer(TimeAndProcess)
        .with_target(false)
        .with_ansi(false)
        // It would be reported by a macro that panics.
        .log_internal_errors(false)
        .init();
    log
}

/// Starts writing messages to `file`, together with standard output and error. If it cannot be opened, messages go to
/// standard error and the first says why.
pub(crate) fn to_file(file: &Path, settings: &Settings) -> Log {
    let usual = default_log();
    let opened = LogFile::open(file, usual.as_deref(), settings.log_bytes).and_then(|mut log| {
        log.redirect_output()?;
        Ok(log)
    });
    match opened {
        Ok(mut file) => {
            let exposed = file.take_exposed();
            let log = begin_writing(Sink::File(file), tracing::Level::INFO);
            if let Some(exposed) = exposed {
                exposed.log();
            }
            log
        }
        Err(error) => {
            let log = to_stderr();
            tracing::error!("The log file {} cannot be written: {error}.", file.display());
            log
        }
    }
}

/// Like [`to_file`], for a process that serves one request: the file from the settings, or a spawned process's
/// default, is opened by the first message. Standard output and error are unchanged.
pub(crate) fn to_file_when_needed(settings: &Settings) -> Log {
    let file = settings.log.clone().or_else(default_log);
    let limit = settings.log_bytes;
    let sink = file.map_or_else(|| Sink::StandardError, |path| Sink::Later { path, limit });
    begin_writing(sink, tracing::Level::INFO)
}

/// Starts writing messages to the file in the settings, or to standard error without one, for a command run at a
/// terminal.
pub(crate) fn begin(settings: &Settings) -> (Log, Terminal) {
    let Some(file) = &settings.log else { return (to_stderr(), Terminal::default()) };
    let keep = |descriptor: io::Result<std::os::fd::OwnedFd>| descriptor.ok().map(File::from);
    let terminal = Terminal {
        output: keep(io::stdout().as_fd().try_clone_to_owned()),
        error: keep(io::stderr().as_fd().try_clone_to_owned()),
    };
    let log = to_file(file, settings);
    let terminal = if log.is_in_file() { terminal } else { Terminal::default() };
    (log, terminal)
}

/// The terminal at which a command was started, saved when its output goes to the log: the greeting, and the reason for
/// exiting, belong there.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    output: Option<File>,
    error: Option<File>,
}

impl Terminal {
    /// Prints to the original standard output, if it has a reader.
    pub(crate) fn print(&self, text: &str) {
        let stdout = io::stdout();
        let output = self.output.as_ref().map_or(stdout.as_fd(), AsFd::as_fd);
        // The greeting is lost if standard output has no reader.
        let _ = descriptors::write_at_once(output, text.as_bytes());
    }

    /// Reports why the server exited, on the original standard error and in the log.
    pub(crate) fn report(&self, served: Result<(), app_server::Error>) -> Result<(), Failure> {
        let (Err(error), Some(terminal)) = (&served, self.error.as_ref()) else {
            return Ok(served?);
        };
        tracing::error!("Exiting: {error}");
        // Without a reader, the log still has it.
        let why = Failure::refused(error).to_string();
        let _ = descriptors::write_at_once(terminal.as_fd(), why.as_bytes());
        Err(Failure::silent(1))
    }
}

/// Logs the mistakes in the configuration, and what looks like one.
pub(crate) fn configuration(configuration: &Configuration) {
    for problem in &configuration.problems {
        tracing::error!("Configuration error: {problem}");
    }
    for warning in &configuration.warnings {
        tracing::warn!("Configuration warning: {warning}");
    }
    for problem in &configuration.instead_of {
        tracing::error!("Configuration error: {problem}");
    }
    if !configuration.instead_of.is_empty() {
        tracing::error!(
            "The configuration file has mistakes; the previous configuration stays in use (docs/reloading.md)."
        );
    }
    if !configuration.problems.is_empty() {
        let file = configuration
            .file
            .as_ref()
            .map_or(String::new(), |file| format!(" The file is {}.", file.display()));
        tracing::error!(
            "Every request is answered with 503 until the configuration is fixed (docs/configuration.md).\
             {file}"
        );
    }
}

/// `2026-01-31T12:00:00.000000Z 1234`: with the pid, since there may be several processes, and with `node=NAME` if there
/// may be several machines.
struct TimeAndProcess;

impl FormatTime for TimeAndProcess {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " {}", std::process::id())?;
        app_server::node().map_or(Ok(()), |node| write!(writer, " node={node}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const FILE_FOR_WRITER: &str = "LOG_FILE_OF_THE_TEST";
    /// As many as may be written at once.
    const LINES: usize = 100;

    #[test]
    fn several_processes_write_complete_lines_and_stray_output_is_included() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made/log");
        let writers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|letter| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "log::tests::writer", "--ignored", "--nocapture"])
                    .env(FILE_FOR_WRITER, &file)
                    .env("LETTER", letter)
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut writer in writers {
            assert!(writer.wait().unwrap().success());
        }
        let log = std::fs::read_to_string(file).unwrap();
        for letter in ["a", "b", "c"] {
            let word = letter.repeat(300);
            let ends = |end: &str| log.lines().filter(|line| line.ends_with(end)).count();
            assert_eq!(ends(&format!(" WARN Message {word}")), LINES, "messages of {letter}");
            assert_eq!(ends(&format!("stray output of {letter}")), LINES);
            assert_eq!(ends(&format!("stray error of {letter}")), LINES);
            // No line is inside another.
            assert_eq!(log.matches(&word).count(), LINES, "messages of {letter}");
        }
    }

    /// Not a test: the test above runs it, several at once, each in a process of its own.
    #[test]
    #[ignore = "is run by several_processes_write_complete_lines_and_stray_output_is_included"]
    fn writer() {
        let Some(file) = std::env::var_os(FILE_FOR_WRITER) else { return };
        let letter = std::env::var("LETTER").unwrap();
        let error = format!("stray error of {letter}\n");
        to_file(Path::new(&file), &Settings::default());
        for _ in 0..LINES {
            tracing::warn!("Message {}", letter.repeat(300));
            writeln!(io::stdout(), "stray output of {letter}").unwrap();
            // Standard error has no buffer: of `eprintln!` each part would be a write of its own.
            io::stderr().write_all(error.as_bytes()).unwrap();
        }
    }
}
