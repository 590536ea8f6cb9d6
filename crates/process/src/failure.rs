//! Why a child has no result, derived from how it ended.

use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use sys::wait::Usage;

use crate::limits::Limits;
use crate::shortage::is_short_for_process;

/// Why a child has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// No child could be created. A shortage ([`is_short_for_process`]) is worth another try later; `Unsupported` is
    /// not: there is more than one thread.
    CannotFork(io::Error),
    /// The code panicked, with this message.
    Panicked(String),
    /// This signal killed the child. SIGKILL comes from another process, or from a kernel that is out of memory.
    Crashed(i32),
    /// The child exceeded this limit of processor time.
    CpuTime(Duration),
    /// The child exceeded this limit of wall time.
    WallTime(Duration),
    /// The child needed more memory than this limit, in bytes.
    Memory(u64),
    /// The child wrote a file larger than this limit, in bytes.
    FileSize(u64),
    /// The child exited with this code and without a result.
    Exited(i32),
    /// How the child ended is unknown, because it is no longer a child of this process; or its result cannot be read.
    Lost(io::Error),
}

impl Failure {
    /// Derives the failure from how a child with limits ended. `out_of_memory`: whether the child printed so, see
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

    /// Returns whether no child could be created for a reason that may be temporary.
    pub fn is_transient(&self) -> bool {
        matches!(self, Failure::CannotFork(error) if is_short_for_process(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::CannotFork(error) => write!(formatter, "no process could be created: {error}"),
            Failure::Panicked(message) => write!(formatter, "it panicked: {message}"),
            Failure::Crashed(signal) => {
                write!(formatter, "it was killed by {}", SignalName(*signal))
            }
            Failure::CpuTime(limit) => {
                write!(formatter, "it exceeded {} s of processor time", limit.as_secs_f64())
            }
            Failure::WallTime(limit) => {
                write!(formatter, "it did not finish within {} s", limit.as_secs_f64())
            }
            Failure::Memory(limit) => {
                write!(formatter, "it needed more than {limit} bytes of memory")
            }
            Failure::FileSize(limit) => {
                write!(formatter, "it wrote a file larger than {limit} bytes")
            }
            Failure::Exited(code) => {
                write!(formatter, "it exited with exit code {code} and no result")
            }
            Failure::Lost(error) => write!(formatter, "it ended for an unknown reason: {error}"),
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

/// A signal's name and what it means.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            libc::SIGSEGV => "SIGSEGV (invalid memory access or stack overflow)",
            libc::SIGBUS => "SIGBUS (access beyond the end of a mapped file)",
            libc::SIGABRT => "SIGABRT (abort: heap corruption, failed assertion or out of memory)",
            libc::SIGILL => "SIGILL (illegal instruction)",
            libc::SIGFPE => "SIGFPE (arithmetic error, such as division by zero)",
            libc::SIGKILL => "SIGKILL (by another process, or the system is out of memory)",
            libc::SIGTERM => "SIGTERM",
            libc::SIGALRM => "SIGALRM",
            other => return write!(formatter, "signal {other}"),
        })
    }
}
