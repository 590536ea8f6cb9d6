//! What the process does with a signal (`sigaction(2)`).

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};

use super::mask::full_set;
use super::slot::on_signal;
use crate::errno::check;

/// The former action of a signal; see [`restore_action`].
#[derive(Debug)]
pub struct PreviousAction(libc::sigaction);

/// What the process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The default action.
    Default,
    /// Nothing.
    Ignored,
    /// The handler that counts for [slots](super::SignalSlot).
    OurHandler,
    /// Another handler.
    OtherHandler,
}

/// Catches the signal with the handler that counts for [slots](super::SignalSlot); returns the former action.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn catch(signal: c_int) -> io::Result<PreviousAction> {
    // SA_RESTART: restarts the system calls of libraries that do not expect EINTR; epoll_wait returns anyway.
    // SA_NOCLDSTOP: a stopped child has not exited. SA_ONSTACK: uses the alternate stack if there is one, in case the
    // stack is nearly full. All other signals are blocked meanwhile: the kernel would put a frame on that stack for
    // each, and std's has room for two.
    let flags = libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_ONSTACK;
    let handler: extern "C" fn(c_int) = on_signal;
    set_action_blocking_all(signal, handler as libc::sighandler_t, flags)
}

/// Ignores the signal.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn ignore(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN, 0)?;
    Ok(())
}

/// Sets the signal's default action. Async-signal-safe.
///
/// # Errors
///
/// EINVAL for signals whose action cannot be set.
pub fn default_action(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_DFL, 0)?;
    Ok(())
}

/// Sets the default action of every signal, except SIGPIPE, which stays ignored, as in every Rust program.
pub fn default_all_actions() {
    for signal in 1..=64 {
        let action = if signal == libc::SIGPIPE { libc::SIG_IGN } else { libc::SIG_DFL };
        // Fails for SIGKILL, SIGSTOP and two signals reserved by the C library, which need no change.
        let _ = set_action(signal, action, 0);
    }
}

/// Restores a former action.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn restore_action(signal: c_int, previous: &PreviousAction) -> io::Result<()> {
    // SAFETY: `previous` was filled by sigaction itself, and the handler in it was in force before.
    check(unsafe { libc::sigaction(signal, &raw const previous.0, std::ptr::null_mut()) })?;
    Ok(())
}

/// Returns what the process does with a signal.
///
/// # Errors
///
/// None in practice; any from `sigaction(2)`.
pub fn action(signal: c_int) -> io::Result<Action> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer for the new action changes nothing; `present` has room for the current one.
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

/// Sets a handler of one argument that runs with all signals blocked, because it may not return.
pub(crate) fn set_action_blocking_all(
    signal: c_int,
    handler: libc::sighandler_t,
    flags: c_int,
) -> io::Result<PreviousAction> {
    replace_action(signal, handler, flags, full_set())
}

/// Sets a handler that gets the signal's siginfo; it runs with all signals blocked, because it may not return.
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
    // SAFETY: sigaction is plain integers and an optional function pointer: all-zero is a valid value.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    new.sa_mask = blocked;
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `new` is initialized; its handler is SIG_DFL, SIG_IGN or a function of this crate with the type
    // that the flags announce; `previous` has room for the former one.
    check(unsafe { libc::sigaction(signal, &raw const new, previous.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    Ok(PreviousAction(unsafe { previous.assume_init() }))
}
