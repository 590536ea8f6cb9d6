//! Child processes that run this program's code: for what may take long, use much memory or crash.
//!
//! A fork is safe with one thread, and refused with more. A child runs a closure with a copy of the whole memory;
//! [`fresh`] lists what differs in it. Children are reaped, killed and awaited like programs.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use event_loop::pipe::{self, Reader};
use rustix::process::{Pid, Signal, setpgid};
use sys::fork::{Forked, exit_at_once};
use sys::signals::{AllBlocked, default_all_actions, forget_all_slots};

use crate::child::Child;
use crate::children::{self, Recipient};
use crate::descriptors;
use crate::limits::Limits;
use crate::memory_limit::address_space;
use crate::parent::signal_at_end;

/// How a child starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkOptions<'a> {
    /// Its limits; `None` for those of this process. The wall time is not enforced here.
    pub limits: Option<Limits>,
    /// Descriptors that stay open in it, besides 0, 1, 2 and those of files with a path.
    pub given: &'a [RawFd],
    /// Whether its standard output and standard error are captured as [`Child::stderr`]. Otherwise they are
    /// inherited.
    pub captures_output: bool,
}

/// Forks a child that runs `main` and exits with the code it returns.
///
/// In the child
/// * the event loop is forgotten: none of its futures continues or is dropped, and `main` may call
///   [`event_loop::run`] again;
/// * sockets, pipes and the kernel's anonymous files (epoll …) are closed, except those in `given`, so that the child
///   does not hold a listener or connection open. Files with a path stay open. What belongs to a single process, such
///   as an SQLite handle, must be forgotten, not used or dropped;
/// * signals have their default actions, none is blocked, and interval timers are stopped;
/// * descriptor 0 is `/dev/null`;
/// * it leads a new process group, and is killed when this process exits;
/// * a panic makes it exit with code 101; it exits by `_exit`, so that no destructor of this process's values runs in
///   it. Standard output is flushed.
///
/// In the caller, `main` and what it holds is dropped. Dropping the returned handle kills the whole group.
///
/// # Errors
///
/// `WouldBlock` (EAGAIN) if the account has too many processes, `OutOfMemory`; `Unsupported` if this process has more
/// than one thread, because then a fork is not safe; any other if no loop runs on this thread or descriptors are
/// short. No child is left then.
pub fn fresh(options: ForkOptions<'_>, main: impl FnOnce() -> u8) -> io::Result<Child> {
    children::watch()?;
    let output = if options.captures_output { Some(pipe::ends()?) } else { None };
    // Buffered output would be written by both.
    let _ = io::stdout().flush();
    let parent = std::process::id();
    let blocked = AllBlocked::begin()?;
    let pid = match sys::fork::fork()? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            let output = output.as_ref().map(|(_, writer)| writer);
            let code = match set_up(&options, output, parent, blocked) {
                Ok(()) => catch_unwind(AssertUnwindSafe(main)).unwrap_or(PANICKED),
                Err(error) => {
                    // Unlike `eprintln!`, which panics if it cannot be written.
                    let _ = writeln!(io::stderr(), "{NOT_STARTED}{error}.");
                    PANICKED
                }
            };
            let _ = io::stdout().flush();
            exit_at_once(code)
        }
    };
    make_group_leader(pid);
    drop(blocked);
    // Only the child needs what `main` holds.
    drop(main);
    let mut child = Child::register(pid, Recipient::Group(pid))?;
    child.stderr = output.map(|(reader, _writer)| Reader::from_fd(reader)).transpose()?;
    Ok(child)
}

/// How the one line starts that a child prints if it lacks descriptors or memory to start; its `main` is not called,
/// and its exit code is 101.
const NOT_STARTED: &str = "A child process could not start: ";

/// The exit code after a panic, as in every Rust program.
const PANICKED: u8 = 101;

/// Changes in the child what [`fresh`] lists.
fn set_up(
    options: &ForkOptions<'_>,
    output: Option<&OwnedFd>,
    parent: u32,
    blocked: AllBlocked,
) -> io::Result<()> {
    match signal_at_end(parent, Signal::KILL) {
        // The parent has already exited: there is nothing left to report to.
        Err(error) if error.kind() == io::ErrorKind::NotFound => exit_at_once(1),
        done => done?,
    }
    setpgid(None, None)?;
    sys::interval::suspend_all();
    default_all_actions();
    event_loop::forked::forget();
    children::forget();
    forget_all_slots();
    if let Some(output) = output {
        descriptors::set_blocking(output.as_fd())?;
    }
    descriptors::replace_stdin_with_null()?;
    if let Some(output) = output {
        descriptors::redirect_output(output.as_fd())?;
    }
    sys::descriptors::close_connections(options.given)?;
    blocked.unblock_all();
    match &options.limits {
        Some(limits) => limits.impose(address_space()?),
        None => Ok(()),
    }
}

/// Makes a child the leader of a new group, in case it has not done so itself yet.
fn make_group_leader(child: u32) {
    let child = Pid::from_raw(child as i32);
    // Fails only if the child has done so and executed a program, or has exited.
    let _ = setpgid(child, child);
}
