//! Child processes that go on with this program's code: for what may take long, take much or crash.
//!
//! A fork is safe because there is one thread; with more it is refused. What a child runs is a closure
//! with a copy of the whole memory. What has to be different in it is listed at [`fresh`]. The children are reaped,
//! killed and awaited as programs are.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use event_loop::pipe::{self, Reader};
use rustix::process::{Pid, Signal as RawSignal, setpgid};
use sys::fork::{Forked, exit_at_once};
use sys::signals::{AllBlocked, default_all_actions, forget_all_slots};

use crate::child::Child;
use crate::children::{self, Recipient};
use crate::descriptors;
use crate::limits::Limits;
use crate::memory_limit::address_space;

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
///   [`event_loop::run`] again;
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
    children::watch()?;
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
    let mut child = Child::enter(number, Recipient::Group(number))?;
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
