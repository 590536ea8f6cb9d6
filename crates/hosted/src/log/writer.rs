//! tracing's writer. No failure here stops the code that logs.
//!
//! A message passes its kind's rate limit (`rate.rs`), becomes a line (`line.rs`) and is appended to a file
//! (`file.rs`) or to standard error. Messages that cannot be written are counted, and reported once writing
//! works again.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Instant;

use process::descriptors;
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::TimeAndProcess;
use super::file::LogFile;
use super::line::line;
use super::rate::{Rates, Suppressed};
use crate::program::Program;

/// This process's log. A clone writes to the same.
#[derive(Clone, Debug)]
pub struct Log(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rates: Rates<Identifier>,
    sink: Sink,
    lost: Lost,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    File(LogFile),
    /// The original standard error.
    StandardError,
    /// The file, opened by the first message. Each message tries again.
    Later {
        path: PathBuf,
        limit: u64,
        /// The default log file, whose folder is closed to other accounts.
        usual: Option<PathBuf>,
        program: Program,
    },
}

/// Lines that could not be written since the last one that could, and why the first could not.
#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    why: Option<io::Error>,
}

impl Log {
    pub(super) fn new(sink: Sink) -> Log {
        let state = State { rates: Rates::default(), sink, lost: Lost::default() };
        Log(Arc::new(Mutex::new(state)))
    }

    pub(super) fn is_in_file(&self) -> bool {
        self.state().is_some_and(|state| matches!(state.sink, Sink::File(_)))
    }

    /// Checks whether the file is still the one to write to and not too large: what tools print goes there directly.
    pub fn look(&self) {
        if let Some(mut state) = self.state()
            && let Sink::File(file) = &mut state.sink
        {
            file.look(0);
        }
    }

    /// `None` if this very thread is already logging: a message about a message would wait forever.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        match self.0.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl State {
    fn take(&mut self, kind: Option<&Identifier>, message: &[u8], now: Instant) {
        let admitted = match kind {
            Some(kind) => self.rates.admit(kind.clone(), now),
            None => Some(Suppressed::default()),
        };
        let Some(suppressed) = admitted else { return };
        let mut lines = self.lost.line();
        lines.extend(line(message, &in_words(suppressed, now)));
        match self.sink.append(&lines) {
            Ok(()) => self.lost = Lost::default(),
            Err(error) => {
                self.lost.lines += 1;
                self.lost.why.get_or_insert(error);
            }
        }
    }
}

impl Lost {
    /// A line about them; nothing without any.
    fn line(&self) -> Vec<u8> {
        let Some(why) = &self.why else { return Vec::new() };
        let mut text = String::new();
        // A clock that fails must not suppress the message.
        let _ = TimeAndProcess.format_time(&mut Writer::new(&mut text));
        let messages = if self.lines == 1 { "message" } else { "messages" };
        text += &format!("  WARN {} {messages} could not be written: {why}.", self.lines);
        line(text.as_bytes(), "")
    }
}

/// What is added to a message after others of its kind were suppressed.
fn in_words(Suppressed { count, since }: Suppressed, now: Instant) -> String {
    let Some(since) = since else { return String::new() };
    let seconds = now.saturating_duration_since(since).as_secs();
    format!(" ({count} more like this suppressed in the last {seconds} s)")
}

impl Sink {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::File(file) => file.append(line),
            Sink::StandardError => descriptors::write_at_once(io::stderr().as_fd(), line),
            // Permissions of the folder are not reported here: under CGI, every process would do so.
            Sink::Later { path, limit, usual, program } => {
                match LogFile::open(path, usual.as_deref(), *limit) {
                    Ok(file) => {
                        *self = Sink::File(file);
                        self.append(line)
                    }
                    Err(error) => {
                        let why = format!(
                            "{}: The log file {} cannot be written: {error}.\n",
                            program.name,
                            path.display()
                        );
                        *self = Sink::StandardError;
                        self.append(why.as_bytes()).and_then(|()| self.append(line))
                    }
                }
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Message<'a> {
        Message { log: self, kind: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Message<'a> {
        Message { log: self, kind: Some(metadata.callsite()) }
    }
}

/// One message, which tracing writes in one piece.
#[derive(Debug)]
pub struct Message<'a> {
    log: &'a Log,
    kind: Option<Identifier>,
}

impl Write for Message<'_> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if let Some(mut state) = self.log.state() {
            state.take(self.kind.as_ref(), message, Instant::now());
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
