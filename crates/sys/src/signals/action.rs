//! What the process does with a signal (`sigaction(2)`).

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};

use super::mask::full_set;
use super::slot::on_signal;
use crate::errno::check;

/// What the process did with a signal before; see [`restore_action`].
#[derive(Debug)]
pub struct PreviousAction(libc::sigaction);

/// What the process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// What the kernel does with it by itself.
    Default,
    /// Nothing.
    Ignored,
    /// The handler that counts for [slots](super::SignalSlot).
    OurHandler,
    /// Another handler.
    OtherHandler,
}

/// Lets the handler that counts for [slots](super::SignalSlot) catch the signal; returns what was in force
/// before.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn catch(signal: c_int) -> io::Result<PreviousAction> {
    // SA_RESTART: a system call of a library that does not expect EINTR goes on; epoll_wait returns all
    // the same. SA_NOCLDSTOP: a child that is stopped has not ended. SA_ONSTACK: should the stack be
    // short, an alternate one is used when there is one. All others wait meanwhile: the kernel would put a
    // frame on that stack for each, and std's has room for two.
    let flags = libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_ONSTACK;
    let handler: extern "C" fn(c_int) = on_signal;
    set_action_blocking_all(signal, handler as libc::sighandler_t, flags)
}

/// Lets the kernel drop the signal.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn ignore(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN, 0)?;
    Ok(())
}

/// Lets the kernel do with the signal what it does by itself. Async-signal-safe.
///
/// # Errors
///
/// EINVAL for signals whose action cannot be set.
pub fn default_action(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_DFL, 0)?;
    Ok(())
}

/// Does with every signal what the kernel does by itself; except SIGPIPE, which stays ignored, as in every
/// Rust program.
pub fn default_all_actions() {
    for signal in 1..=64 {
        let action = if signal == libc::SIGPIPE { libc::SIG_IGN } else { libc::SIG_DFL };
        // SIGKILL, SIGSTOP and two that are the C library's own cannot be set, and need not be.
        let _ = set_action(signal, action, 0);
    }
}

/// Puts back what was in force before.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn restore_action(signal: c_int, previous: &PreviousAction) -> io::Result<()> {
    // SAFETY: `previous` was filled by sigaction itself, and the handler in it was in force before.
    check(unsafe { libc::sigaction(signal, &raw const previous.0, std::ptr::null_mut()) })?;
    Ok(())
}

/// Asks what the process does with a signal.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn action(signal: c_int) -> io::Result<Action> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer means: only ask; `present` has room for the answer.
    check(unsafe { libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    let present = unsafe { present.assume_init() };
    let ours: extern "C" fn(c_int) = on_signal;
    Ok(match present.sa_sigaction {
        libc::SIG_DFL => Action::Default,
        libc::SIG_IGN => Action::Ignored,
        handler if handler == ours as libc::sighandler_t => Action::OurHandler,
        _ => Action::OtherHandler,
    })
}

/// Sets a handler of one argument that runs with all signals blocked, for it may not come back.
pub(crate) fn set_action_blocking_all(
    signal: c_int,
    handler: libc::sighandler_t,
    flags: c_int,
) -> io::Result<PreviousAction> {
    replace_action(signal, handler, flags, full_set())
}

/// Sets a handler that is told about the signal; it runs with all signals blocked, for it may not come back.
pub(crate) fn set_info_action_blocking_all(
    signal: c_int,
    handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void),
    flags: c_int,
) -> io::Result<PreviousAction> {
    replace_action(signal, handler as libc::sighandler_t, flags | libc::SA_SIGINFO, full_set())
}

fn set_action(
    signal: c_int,
    handler: libc::sighandler_t,
    flags: c_int,
) -> io::Result<PreviousAction> {
    // SAFETY: sigset_t is plain integers: all-zero is the empty set.
    replace_action(signal, handler, flags, unsafe { mem::zeroed() })
}

fn replace_action(
    signal: c_int,
    handler: libc::sighandler_t,
    flags: c_int,
    blocked: libc::sigset_t,
) -> io::Result<PreviousAction> {
    // SAFETY: sigaction is plain integers and an optional function pointer: all-zero is a value.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    new.sa_mask = blocked;
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `new` is initialised; its handler is SIG_DFL, SIG_IGN or a function of this crate with the type
    // that the flags announce; `previous` has room for the answer.
    check(unsafe { libc::sigaction(signal, &raw const new, previous.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    Ok(PreviousAction(unsafe { previous.assume_init() }))
}
