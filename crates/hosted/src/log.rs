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
pub use self::writer::Log;
use self::writer::Sink;
use crate::config::Configuration;
use crate::program::Program;
use crate::report::Failure;

/// Starts writing messages to standard error.
pub fn to_stderr() -> Log {
    to_stderr_from(tracing::Level::INFO)
}

/// The same, only from `level` up.
pub fn to_stderr_from(level: tracing::Level) -> Log {
    begin_writing(Sink::StandardError, level)
}

fn begin_writing(sink: Sink, level: tracing::Level) -> Log {
    let log = Log::new(sink);
    let begun = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(level)
        .with_timer(TimeAndProcess)
        .with_target(false)
        .with_ansi(false)
        // It would be reported by a macro that panics.
        .log_internal_errors(false)
        .try_init();
    if begun.is_err() {
        // The application has set a subscriber before it called us. What it prints is in the log file all the same.
        tracing::warn!(
            "The application has a log of its own (tracing_subscriber's init): messages look as it says, and their number \
             is not limited (docs/porting-an-app.md)."
        );
    }
    log
}

/// Starts writing messages to `file`, together with standard output and error. If it cannot be opened, messages go to
/// standard error and the first says why. `usual`: the default log file.
fn to_file(file: &Path, usual: Option<&Path>, bytes: u64) -> Log {
    let opened = LogFile::open(file, usual, bytes).and_then(|mut log| {
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

/// Starts writing messages for a process that a web server started: to the file in the settings, or to the program's
/// default one; together with standard output and error.
pub fn begin_spawned<O>(configuration: &Configuration<O>) -> Log {
    let usual = configuration.program.default_log();
    match configuration.settings.log.as_ref().or(usual.as_ref()) {
        Some(file) => to_file(file, usual.as_deref(), configuration.settings.log_bytes),
        None => to_stderr(),
    }
}

/// Like [`begin_spawned`], for a process that serves one request: the file is opened by the first message. Standard
/// output and error are unchanged.
pub fn begin_when_needed<O>(configuration: &Configuration<O>) -> Log {
    let (program, settings) = (configuration.program, &configuration.settings);
    let usual = program.default_log();
    let limit = settings.log_bytes;
    let file = settings.log.clone().or_else(|| usual.clone());
    let sink = match file {
        Some(path) => Sink::Later { path, limit, usual, program },
        None => Sink::StandardError,
    };
    begin_writing(sink, tracing::Level::INFO)
}

/// Starts writing messages to the file in the settings, or to standard error without one, for a command run at a
/// terminal.
pub fn begin<O>(configuration: &Configuration<O>) -> (Log, Terminal) {
    let (program, settings) = (configuration.program, &configuration.settings);
    let without_file = || Terminal { program, output: None, error: None };
    let Some(file) = &settings.log else { return (to_stderr(), without_file()) };
    let keep = |descriptor: io::Result<std::os::fd::OwnedFd>| descriptor.ok().map(File::from);
    let terminal = Terminal {
        program,
        output: keep(io::stdout().as_fd().try_clone_to_owned()),
        error: keep(io::stderr().as_fd().try_clone_to_owned()),
    };
    let log = to_file(file, program.default_log().as_deref(), settings.log_bytes);
    let terminal = if log.is_in_file() { terminal } else { without_file() };
    (log, terminal)
}

/// The terminal at which a command was started, saved when its output goes to the log: the greeting, and the reason for
/// exiting, belong there.
#[derive(Debug)]
pub struct Terminal {
    program: Program,
    output: Option<File>,
    error: Option<File>,
}

impl Terminal {
    /// Prints to the original standard output, if it has a reader.
    pub fn print(&self, text: &str) {
        let stdout = io::stdout();
        let output = self.output.as_ref().map_or(stdout.as_fd(), AsFd::as_fd);
        // The greeting is lost if standard output has no reader.
        let _ = descriptors::write_at_once(output, text.as_bytes());
    }

    /// Reports why the server exited, on the original standard error and in the log.
    pub fn report(&self, served: Result<(), Failure>) -> Result<(), Failure> {
        let Some(terminal) = &self.error else { return served };
        served.map_err(|failure| {
            failure.log();
            // Without a reader, the log still has it.
            let why = failure.text(self.program);
            let _ = descriptors::write_at_once(terminal.as_fd(), why.as_bytes());
            failure.silenced()
        })
    }
}

/// Logs the mistakes in the configuration, and what looks like one.
pub fn configuration<O>(configuration: &Configuration<O>) {
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

    /// As with `hosted::serve`, where an application's `main` comes first.
    #[test]
    fn an_application_may_have_set_up_its_own_log() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::tests::second_log", "--ignored", "--nocapture"])
            .env(FILE_FOR_WRITER, "none")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("OWN  WARN The application has a log of its own"), "{said}");
        assert!(said.contains("OWN ERROR A message of the server."), "{said}");
    }

    /// Not a test: the test above runs it in a process of its own.
    #[test]
    #[ignore = "is run by an_application_may_have_set_up_its_own_log"]
    fn second_log() {
        struct Own;
        impl FormatTime for Own {
            fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
                writer.write_str("OWN")
            }
        }
        if std::env::var_os(FILE_FOR_WRITER).is_none() {
            return;
        }
        tracing_subscriber::fmt().with_timer(Own).with_ansi(false).with_target(false).init();
        to_stderr();
        tracing::error!("A message of the server.");
    }

    /// Not a test: the test above runs it, several at once, each in a process of its own.
    #[test]
    #[ignore = "is run by several_processes_write_complete_lines_and_stray_output_is_included"]
    fn writer() {
        let Some(file) = std::env::var_os(FILE_FOR_WRITER) else { return };
        let letter = std::env::var("LETTER").unwrap();
        let error = format!("stray error of {letter}\n");
        to_file(Path::new(&file), None, 2 << 20);
        for _ in 0..LINES {
            tracing::warn!("Message {}", letter.repeat(300));
            writeln!(io::stdout(), "stray output of {letter}").unwrap();
            // Standard error has no buffer: of `eprintln!` each part would be a write of its own.
            io::stderr().write_all(error.as_bytes()).unwrap();
        }
    }
}
