//! Blocking signals: all between a fork and the moment when the child has reset the handlers, some across
//! `execve(2)`.

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};

use crate::errno::check;

/// Blocks all signals, so that no handler runs between a fork and the moment when the child has reset the handlers.
/// Restores the former mask when dropped.
#[derive(Debug)]
pub struct AllBlocked {
    previous: libc::sigset_t,
}

impl AllBlocked {
    /// Blocks all signals.
    ///
    /// # Errors
    ///
    /// None in practice; any from `sigprocmask(2)`.
    pub fn begin() -> io::Result<Self> {
        Ok(AllBlocked { previous: change_mask(libc::SIG_SETMASK, &full_set())? })
    }

    /// Unblocks all signals, whatever the former mask was.
    pub fn unblock_all(self) {
        set_mask(&empty_set());
        mem::forget(self);
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(&self.previous);
    }
}

/// The signals that must not arrive while a program has no handlers for them: they would terminate it or be lost.
const HELD: [c_int; 5] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGCHLD, libc::SIGALRM];

/// The signals of faults, and SIGABRT. While blocked, a fault terminates the process without calling a handler.
pub(crate) const FAULTS: [c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// The mask as it was before [`hold_for_exec`].
#[derive(Debug)]
pub struct MaskBefore(libc::sigset_t);

impl MaskBefore {
    /// Restores it. Async-signal-safe.
    pub fn restore(&self) {
        set_mask(&self.0);
    }
}

/// Blocks SIGTERM, SIGHUP, SIGINT, SIGCHLD and SIGALRM: they stay pending until the next program has installed its
/// handlers and calls [`release_held`]. Unblocks the signals of faults, because a handler of one may call this.
/// Async-signal-safe.
pub fn hold_for_exec() -> MaskBefore {
    let previous = change_mask(libc::SIG_BLOCK, &set_of(&HELD));
    let without_faults = change_mask(libc::SIG_UNBLOCK, &set_of(&FAULTS));
    MaskBefore(previous.or(without_faults).unwrap_or_else(|_| empty_set()))
}

/// Same as [`hold_for_exec`], but unblocks all other signals: for a handler that runs with all of them blocked.
/// Async-signal-safe.
pub fn hold_for_exec_only() {
    set_mask(&set_of(&HELD));
}

/// Unblocks the signals that [`hold_for_exec`] has blocked. Call it once the handlers are installed.
pub fn release_held() {
    let _ = change_mask(libc::SIG_UNBLOCK, &set_of(&HELD));
    let _ = change_mask(libc::SIG_UNBLOCK, &set_of(&FAULTS));
}

/// Blocks the signals that must not arrive between two programs, until it is dropped.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// Blocks them.
    pub fn begin() -> Held {
        let _ = change_mask(libc::SIG_BLOCK, &set_of(&HELD));
        Held(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        release_held();
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills in the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Returns the set of all signals.
pub(super) fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset fills in the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: the set is initialized.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

fn set_mask(mask: &libc::sigset_t) {
    let _ = change_mask(libc::SIG_SETMASK, mask);
}

/// `sigprocmask(2)`; returns the former mask. Cannot fail for the three values of `how`.
fn change_mask(how: c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut previous = MaybeUninit::uninit();
    // SAFETY: the set is initialized, and there is room for the former mask.
    check(unsafe { libc::sigprocmask(how, set, previous.as_mut_ptr()) })?;
    // SAFETY: sigprocmask succeeded and has filled it in.
    Ok(unsafe { previous.assume_init() })
}
