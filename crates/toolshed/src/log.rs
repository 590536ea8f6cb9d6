//! The log: where messages go and how a line looks.
//!
//! A line is written by one `write`, to a file opened for appending, so that several processes can
//! share it. Standard output and error go there too: a stray `println!` of a tool is found in it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use event_loop::descriptors;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Names the log file of a process that a web server started.
const LOG_VARIABLE: &str = "TOOLSHED_LOG";

/// Begins writing messages to standard error.
pub(crate) fn to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_timer(TimeAndProcess)
        .with_target(false)
        .with_ansi(false)
        .init();
}

/// Begins writing messages to `file`, together with standard output and error. When it cannot be
/// opened, standard error stays and says why.
pub(crate) fn to_file(file: &Path) {
    let redirected = open(file).and_then(|log| descriptors::redirect_output(log.as_fd()));
    to_stderr();
    if let Err(error) = redirected {
        tracing::error!("The log file {} cannot be written: {error}.", file.display());
    }
}

/// The log file of a process that a web server started: `TOOLSHED_LOG`, else `logs/toolshed.log`
/// beside the program.
pub(crate) fn of_spawned() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os(LOG_VARIABLE) {
        return Some(file.into());
    }
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join("logs/toolshed.log"))
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
