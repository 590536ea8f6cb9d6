//! Why a child brought nothing, told from how it ended.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use sys::wait::Usage;

use crate::limits::Limits;

/// Why a child brought nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The system made no child. `WouldBlock` (EAGAIN, "Resource temporarily unavailable") or
    /// `OutOfMemory`: worth another try later; `Unsupported`: never, for there is more than one thread.
    CannotFork(io::Error),
    /// The code panicked: the message.
    Panicked(String),
    /// A signal ended the child: its number. SIGKILL comes from outside: from somebody, or from a kernel
    /// that is out of memory.
    Crashed(i32),
    /// It used up its processor time: the limit.
    CpuTime(Duration),
    /// It took too long: the limit.
    WallTime(Duration),
    /// It needed more memory than its limit, in bytes.
    Memory(u64),
    /// It wrote a file larger than its limit, in bytes.
    FileSize(u64),
    /// It ended by itself, with this exit code and without a result.
    Exited(i32),
    /// It is gone, and how it ended cannot be known, for it is no child of this process (any more); or
    /// what it said cannot be read.
    Lost(io::Error),
}

impl Failure {
    /// Tells what the ending of a child with limits means. `out_of_memory`: it said so itself, see
    /// [`output::pass_on`](crate::output::pass_on).
    pub fn of(
        ending: io::Result<ExitStatus>,
        usage: Usage,
        limits: &Limits,
        out_of_memory: bool,
    ) -> Failure {
        let status = match ending {
            Ok(status) => status,
            Err(error) => return Failure::Lost(error),
        };
        match (status.signal(), status.code()) {
            (Some(libc::SIGXCPU), _) => Failure::CpuTime(limits.cpu),
            (Some(libc::SIGKILL), _) if usage.cpu >= limits.cpu => Failure::CpuTime(limits.cpu),
            (Some(libc::SIGXFSZ), _) => Failure::FileSize(limits.file_size),
            (Some(_), _) if out_of_memory => Failure::Memory(limits.memory),
            (Some(signal), _) => Failure::Crashed(signal),
            (None, code) => Failure::Exited(code.unwrap_or_default()),
        }
    }

    /// Says whether it was the system that could not make a child just now: another try may be better.
    pub fn is_transient(&self) -> bool {
        matches!(self, Failure::CannotFork(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::CannotFork(error) => write!(formatter, "no process could be made: {error}"),
            Failure::Panicked(message) => write!(formatter, "it panicked: {message}"),
            Failure::Crashed(signal) => {
                write!(formatter, "it was ended by {}", SignalName(*signal))
            }
            Failure::CpuTime(limit) => {
                write!(formatter, "it used up its {} s of processor time", limit.as_secs_f64())
            }
            Failure::WallTime(limit) => {
                write!(formatter, "it was not done after {} s", limit.as_secs_f64())
            }
            Failure::Memory(limit) => {
                write!(formatter, "it wanted more memory than its {limit} bytes")
            }
            Failure::FileSize(limit) => {
                write!(formatter, "it wrote a file of more than its {limit} bytes")
            }
            Failure::Exited(code) => {
                write!(formatter, "it ended by itself, with exit code {code} and no result")
            }
            Failure::Lost(error) => write!(formatter, "it ended, and nobody knows how: {error}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Failure::CannotFork(error) | Failure::Lost(error) => Some(error),
            _ => None,
        }
    }
}

/// A signal as people look for it.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            libc::SIGSEGV => {
                "SIGSEGV (it used memory that is not its own, or its stack overflowed)"
            }
            libc::SIGBUS => "SIGBUS (it used memory that is not there)",
            libc::SIGABRT => "SIGABRT (it gave up: heap corruption, a failed assertion, no memory)",
            libc::SIGILL => "SIGILL (it ran what is no instruction)",
            libc::SIGFPE => "SIGFPE (it divided by zero, or the like)",
            libc::SIGKILL => "SIGKILL (killed from outside, or the system is out of memory)",
            libc::SIGTERM => "SIGTERM",
            libc::SIGALRM => "SIGALRM",
            other => return write!(formatter, "signal {other}"),
        })
    }
}
