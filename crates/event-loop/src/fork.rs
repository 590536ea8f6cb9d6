//! Child processes that go on with this program's code: for what may take long, take much or crash.
//!
//! A fork is safe because there is one thread; with more it is refused. What a child runs is a closure
//! with a copy of the whole memory. What has to be different in it is listed at [`fresh`]. System calls are
//! in `sys/fork.rs`; the children are reaped, killed and awaited as those of `process.rs`.

use std::error::Error;
use std::fmt;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal as RawSignal, setpgid};
use sys::fork::{Forked, exit_at_once};
use sys::limits::ResourceLimits;
use sys::signals::{AllBlocked, default_all_actions, forget_all_slots};

use crate::descriptor_flags::set_blocking;
use crate::executor::{self, Panic};
use crate::memory_limit::address_space;
use crate::pipe::{self, Reader};
use crate::process::{self, Child, Usage};
use crate::{descriptors, loop_state, signals, time};

pub use crate::finisher::{Finisher, Original, finisher, leave};

/// What a child may use up. A plain value; the default suits a shared host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Processor time. Default 10 s. The kernel counts whole seconds: rounded up. (RLIMIT_CPU.)
    pub cpu: Duration,
    /// Time on the clock. Default 30 s. Counted by whoever waits for the child.
    pub wall: Duration,
    /// Memory in bytes: address space, beyond what this process has already. Default 256 MiB. For a
    /// program that is executed: in all. (RLIMIT_AS.)
    pub memory: u64,
    /// Bytes of the largest file that may be written. Default 64 MiB. (RLIMIT_FSIZE.)
    pub file_size: u64,
}

impl Limits {
    /// The default, where a constant is wanted.
    pub const DEFAULT: Limits = Limits {
        cpu: Duration::from_secs(10),
        wall: Duration::from_secs(30),
        memory: 256 << 20,
        file_size: 64 << 20,
    };

    /// Returns the larger of each two.
    #[must_use]
    pub fn at_least(self, least: &Limits) -> Limits {
        Limits {
            cpu: self.cpu.max(least.cpu),
            wall: self.wall.max(least.wall),
            memory: self.memory.max(least.memory),
            file_size: self.file_size.max(least.file_size),
        }
    }

    /// As the kernel wants them, for a process that has so many bytes of address space already.
    pub(crate) fn beyond(&self, address_space: u64) -> ResourceLimits {
        ResourceLimits {
            cpu_seconds: self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0),
            address_space: address_space.saturating_add(self.memory),
            file_size: self.file_size,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

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
    /// [`pass_on`].
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
    pub fn is_for_now(&self) -> bool {
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

/// What a child begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beginning<'a> {
    /// What it may use up; `None` for as much as this process. The time on the clock is not counted here.
    pub limits: Option<Limits>,
    /// Descriptors that stay open in it, beside 0, 1, 2 and those of files with a name.
    pub given: &'a [RawFd],
    /// Whether what it prints comes to us, as [`Child::stderr`]. Else it goes where ours goes.
    pub prints_to_us: bool,
}

/// Forks, and lets the child run `main` and end with the exit code it returns.
///
/// In the child
/// * the event loop is forgotten: none of its futures goes on or is dropped, and `main` may call
///   [`run`](crate::run) anew;
/// * sockets, pipes and the kernel's nameless files (epoll …) are closed, except those given: no listener
///   and no connection is held open by it. Files with a name stay open; what belongs to one process alone,
///   as an SQLite handle, must be forgotten, not used or dropped;
/// * signals do what the kernel does with them, none is blocked, and interval timers are off;
/// * descriptor 0 is `/dev/null`;
/// * it leads a process group of its own, and is killed when this process ends;
/// * a panic ends it with exit code 101; it leaves by `_exit`, so that no destructor of this process' values
///   runs there. What was printed is flushed.
///
/// In the caller `main` is dropped, and with it what it holds. The returned handle is that of any child:
/// dropping it kills the whole group.
///
/// # Errors
///
/// `WouldBlock` (EAGAIN) when the account has too many processes, `OutOfMemory`; `Unsupported` when this
/// process has more than one thread, for then a fork is not safe; other errors when no loop runs on this
/// thread or descriptors are short. Nothing was started then.
pub fn fresh(beginning: Beginning<'_>, main: impl FnOnce() -> u8) -> io::Result<Child> {
    process::watch_children()?;
    let output = if beginning.prints_to_us { Some(pipe::ends()?) } else { None };
    // What waits in the buffer would be written by both.
    let _ = io::stdout().flush();
    let parent = std::process::id();
    let blocked = AllBlocked::begin()?;
    let number = match sys::fork::fork()? {
        Forked::Parent(number) => number,
        Forked::Child => {
            let output = output.as_ref().map(|(_, writer)| writer);
            let begun = begin(&beginning, output, parent, blocked);
            let code = match begun {
                Ok(()) => catch_unwind(AssertUnwindSafe(main)).unwrap_or(PANICKED),
                Err(error) => {
                    // Unlike `eprintln!`, which panics if it cannot be written.
                    let _ = writeln!(io::stderr(), "A child process could not start: {error}.");
                    PANICKED
                }
            };
            let _ = io::stdout().flush();
            exit_at_once(code)
        }
    };
    let_lead_group(number);
    drop(blocked);
    // Here what the child was given is dropped.
    drop(main);
    let mut child = process::adopt(number)?;
    child.stderr = output.map(|(reader, _writer)| Reader::from_fd(reader)).transpose()?;
    Ok(child)
}

/// The exit code of a panic, as Rust has it.
const PANICKED: u8 = 101;

/// Makes a fresh process of the copy of another.
fn begin(
    beginning: &Beginning<'_>,
    output: Option<&OwnedFd>,
    parent: u32,
    blocked: AllBlocked,
) -> io::Result<()> {
    match sys::parent::signal_at_end(parent, RawSignal::KILL) {
        // The parent has ended already: nobody is left to hear anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => exit_at_once(1),
        done => done?,
    }
    setpgid(None, None)?;
    sys::interval::suspend_all();
    default_all_actions();
    signals::forget();
    forget_all_slots();
    loop_state::forget();
    if let Some(output) = output {
        set_blocking(output.as_fd())?;
    }
    descriptors::replace_stdin_with_null()?;
    if let Some(output) = output {
        descriptors::redirect_output(output.as_fd())?;
    }
    sys::descriptors::close_connections(beginning.given)?;
    blocked.unblock_all();
    match &beginning.limits {
        Some(limits) => limits.beyond(address_space()?).lower(),
        None => Ok(()),
    }
}

/// Makes a child the leader of a group of its own, in case it has not come to do so itself.
fn let_lead_group(child: u32) {
    let child = Pid::from_raw(child as i32);
    // It fails when the child has done it and executed a program, or has ended: both are well.
    let _ = setpgid(child, child);
}

/// Computes a value in a child, with limits; nobody else has to wait meanwhile.
///
/// `work` runs in a copy of this process, as told at [`fresh`]: what it changes stays there, only the bytes
/// it returns come back, at most as many as it may have memory. What it prints goes where ours goes. The
/// fork happens at once, the future waits for the value; dropping it kills the child.
///
/// Costs a fork, about half a millisecond for a small process. How many run at once is the caller's
/// business.
///
/// ```
/// # use event_loop::fork::{Failure, Limits, compute};
/// # event_loop::run(async {
/// match compute(Limits::DEFAULT, || vec![1, 2, 3]).await {
///     Ok(bytes) => assert_eq!(bytes, [1, 2, 3]),
///     // With several threads, as here, a fork is not safe: then compute it in place.
///     Err(Failure::CannotFork(error)) => eprintln!("{error}"),
///     Err(other) => panic!("{other}"),
/// }
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// The future's: [`Failure`], whatever `work` does.
pub fn compute(limits: Limits, work: impl FnOnce() -> Vec<u8>) -> Computation {
    let computing = start(limits, work);
    Computation { future: Box::pin(async move { finish(computing?, limits).await }) }
}

/// A value that a child computes. From [`compute`].
#[must_use = "the child is killed when this is dropped"]
pub struct Computation {
    future: Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>,
}

impl Future for Computation {
    type Output = Result<Vec<u8>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Computation").finish_non_exhaustive()
    }
}

/// A child at work and the pipe that its value comes by: one letter, the length, the bytes.
type Computing = (Child, Reader);

const VALUE: u8 = b'v';
const PANIC: u8 = b'p';
const HEADER: usize = 9;

fn start(limits: Limits, work: impl FnOnce() -> Vec<u8>) -> Result<Computing, Failure> {
    let (reader, writer) = pipe::ends().map_err(Failure::CannotFork)?;
    let given = [writer.as_raw_fd()];
    let beginning = Beginning { limits: Some(limits), given: &given, prints_to_us: true };
    let child = fresh(beginning, move || {
        // Std's own may want to read the program's tables of lines (RUST_BACKTRACE): more memory than the
        // child has.
        panic::set_hook(Box::new(|info| drop(writeln!(io::stderr(), "{info}"))));
        let (kind, bytes) = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => (VALUE, value),
            Err(payload) => (PANIC, Panic::new(payload).message().as_bytes().to_vec()),
        };
        let _ = io::stdout().flush();
        let written = set_blocking(writer.as_fd()).and_then(|()| {
            let mut file = fs::File::from(writer);
            file.write_all(&[kind])?;
            file.write_all(&(bytes.len() as u64).to_le_bytes())?;
            file.write_all(&bytes)
        });
        u8::from(written.is_err())
    });
    let child = child.map_err(Failure::CannotFork)?;
    Ok((child, Reader::from_fd(reader).map_err(Failure::Lost)?))
}

async fn finish((mut child, reader): Computing, limits: Limits) -> Result<Vec<u8>, Failure> {
    let printed = child.stderr.take();
    let printed = executor::spawn(async move { pass_on(printed, to_stderr).await });
    let most = usize::try_from(limits.memory).unwrap_or(usize::MAX).saturating_add(HEADER);
    let ending = async {
        let value = process::read_to_end(Some(reader), most).await;
        (value, child.wait().await)
    };
    let Ok((value, status)) = time::timeout(limits.wall, ending).await else {
        // What it has printed still goes its way; its end comes with the drop of the child.
        printed.detach();
        return Err(Failure::WallTime(limits.wall));
    };
    let value = value.map_err(Failure::Lost)?;
    let announced = value.get(1..HEADER).and_then(|length| length.try_into().ok());
    let announced = announced.map(u64::from_le_bytes);
    if announced == Some((value.len().saturating_sub(HEADER)) as u64) {
        let bytes = value[HEADER..].to_vec();
        // What it printed comes before what it computed.
        printed.await;
        return match value[0] {
            VALUE => Ok(bytes),
            _ => Err(Failure::Panicked(String::from_utf8_lossy(&bytes).into_owned())),
        };
    }
    let out_of_memory = printed.await;
    Err(Failure::of(status, child.usage(), &limits, out_of_memory))
}

/// Reads what a child prints to its end and gives it to `to`, whole lines as far as they are not longer
/// than 8 KiB. Returns whether the child said that memory was refused: Rust's last words before it aborts.
pub async fn pass_on(printed: Option<Reader>, mut to: impl FnMut(&[u8])) -> bool {
    let Some(mut printed) = printed else { return false };
    let mut buffer = BytesMut::new();
    let mut out_of_memory = false;
    loop {
        buffer.reserve(LINE_BYTES);
        let read = poll_fn(|cx| printed.poll_read_into(cx, &mut buffer)).await;
        let ended = !matches!(read, Ok(1..));
        let whole = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole =
            if ended || whole == 0 && buffer.len() >= LINE_BYTES { buffer.len() } else { whole };
        let lines = buffer.split_to(whole);
        if !lines.is_empty() {
            let mut each = lines[..].split(|byte| *byte == b'\n');
            out_of_memory |= each.any(|line| line.starts_with(MEMORY_REFUSED));
            to(&lines);
        }
        if ended {
            return out_of_memory;
        }
    }
}

/// Writes to standard error as far as possible without waiting; if it cannot be written, there is nowhere to
/// report it.
pub fn to_stderr(lines: &[u8]) {
    let _ = descriptors::write_at_once(io::stderr().as_fd(), lines);
}

const LINE_BYTES: usize = 8 * 1024;

/// The beginning of what std prints when an allocation fails, before it aborts.
const MEMORY_REFUSED: &[u8] = b"memory allocation of ";
