//! The log: where messages go and how a line looks.
//!
//! A line is written by one `write`, to a file opened for appending, so that several processes can
//! share it. Standard output and error go there too: a stray `println!` of a tool is found in it (of an
//! `eprintln!` with values in it each part is a write of its own, so other lines may come between).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use event_loop::descriptors;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::config::{self, Configuration};
use crate::report::Failure;

/// Begins writing messages to standard error.
pub(crate) fn to_stderr() {
    write_messages(io::stderr);
}

/// The same, without those that are less than `level`.
pub(crate) fn to_stderr_from(level: tracing::Level) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_timer(TimeAndProcess)
        .with_target(false)
        .with_ansi(false)
        .init();
}

fn write_messages<W: Write + 'static>(writer: impl Fn() -> W + Send + Sync + 'static) {
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_timer(TimeAndProcess)
        .with_target(false)
        .with_ansi(false)
        .init();
}

/// Begins writing messages to `file`, together with standard output and error. When it cannot be
/// opened, standard error stays and says why. Returns whether it was.
pub(crate) fn to_file(file: &Path) -> bool {
    let redirected = open(file).and_then(|log| descriptors::redirect_output(log.as_fd()));
    to_stderr();
    if let Err(error) = &redirected {
        tracing::error!("The log file {} cannot be written: {error}.", file.display());
    }
    redirected.is_ok()
}

/// As [`to_file`], for a process of one request: the file, or that of a spawned process without one, is
/// opened by the first message. Standard output and error stay what they are.
pub(crate) fn to_file_when_needed(file: Option<PathBuf>) {
    let log = OnceLock::new();
    let opened = move || -> Box<dyn Write> {
        let log: &Option<File> = log.get_or_init(|| {
            let file = file.clone().or_else(of_spawned)?;
            let tell = |error| {
                eprintln!("toolshed: The log file {} cannot be written: {error}.", file.display());
            };
            open(&file).map_err(tell).ok()
        });
        // Each message takes its own share of the file, for it is written after this returns.
        match log.as_ref().and_then(|log| log.try_clone().ok()) {
            Some(log) => Box::new(log),
            None => Box::new(io::stderr()),
        }
    };
    write_messages(opened);
}

/// Begins writing messages to `file`, or to standard error without one, for a command that somebody
/// waits for at a terminal.
pub(crate) fn begin(file: Option<&Path>) -> Terminal {
    let Some(file) = file else {
        to_stderr();
        return Terminal::default();
    };
    let keep = |descriptor: io::Result<std::os::fd::OwnedFd>| descriptor.ok().map(File::from);
    let terminal = Terminal {
        output: keep(io::stdout().as_fd().try_clone_to_owned()),
        error: keep(io::stderr().as_fd().try_clone_to_owned()),
    };
    if to_file(file) { terminal } else { Terminal::default() }
}

/// Where a command was started, kept when its output goes to the log: a greeting, and why it ended, are
/// for whoever sits there.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    output: Option<File>,
    error: Option<File>,
}

impl Terminal {
    /// Standard output as it was at the start.
    pub(crate) fn output(&self) -> Box<dyn Write + '_> {
        match &self.output {
            Some(output) => Box::new(output),
            None => Box::new(io::stdout()),
        }
    }

    /// Tells how the server ended: on standard error as it was at the start, and in the log.
    pub(crate) fn tell(&self, served: Result<(), app_server::Error>) -> Result<(), Failure> {
        let (Err(error), Some(mut terminal)) = (&served, self.error.as_ref()) else {
            return Ok(served?);
        };
        tracing::error!("{error}");
        // When nobody reads it there, the log has it.
        let _ = write!(terminal, "{}", Failure::refused(error));
        Err(Failure::silent(1))
    }
}

/// Tells what is wrong with the configuration, or looks so.
pub(crate) fn configuration(configuration: &Configuration) {
    for problem in &configuration.problems {
        tracing::error!("{problem}");
    }
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
    for problem in &configuration.instead_of {
        tracing::error!("{problem}");
    }
    if !configuration.instead_of.is_empty() {
        tracing::error!(
            "The configuration as it was before goes on (docs/reloading.md): the file is wrong."
        );
    }
    if !configuration.problems.is_empty() {
        let file = configuration
            .file
            .as_ref()
            .map_or(String::new(), |file| format!(" The file is {}.", file.display()));
        tracing::error!(
            "Every request is answered 503 until the configuration is right (docs/configuration.md).\
             {file}"
        );
    }
}

/// The log file of a process that a web server started and that nobody named another:
/// `logs/toolshed.log` in the installation's folder.
pub(crate) fn of_spawned() -> Option<PathBuf> {
    Some(config::home()?.join("logs/toolshed.log"))
}

/// Opens a log file for appending. File and folder are the owner's alone: messages name visitors'
/// addresses and paths.
fn open(file: &Path) -> io::Result<File> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

/// `2026-01-31T12:00:00.000000Z 1234`: the process too, for there may be several.
struct TimeAndProcess;

impl FormatTime for TimeAndProcess {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " {}", std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const FILE_FOR_WRITER: &str = "LOG_FILE_OF_THE_TEST";
    const LINES: usize = 400;

    #[test]
    fn several_processes_write_whole_lines_and_stray_output_is_among_them() {
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
            assert_eq!(ends(&format!(" WARN {word}")), LINES, "messages of {letter}");
            assert_eq!(ends(&format!("stray output of {letter}")), LINES);
            assert_eq!(ends(&format!("stray error of {letter}")), LINES);
            // Nothing of one line within another.
            assert_eq!(log.matches(&word).count(), LINES, "messages of {letter}");
        }
    }

    /// Not a test: the test above runs it, several at once, each in a process of its own.
    #[test]
    #[ignore = "is run by several_processes_write_whole_lines_and_stray_output_is_among_them"]
    fn writer() {
        let Some(file) = std::env::var_os(FILE_FOR_WRITER) else { return };
        let letter = std::env::var("LETTER").unwrap();
        let error = format!("stray error of {letter}\n");
        to_file(Path::new(&file));
        for _ in 0..LINES {
            tracing::warn!("{}", letter.repeat(300));
            println!("stray output of {letter}");
            // Standard error has no buffer: of `eprintln!` each part would be a write of its own.
            eprint!("{error}");
        }
    }
}
