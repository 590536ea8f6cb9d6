//! Which signals are blocked: all between a fork and the moment when the child has dropped the handlers, some
//! across `execve(2)`.

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;

use crate::errno::check;

/// Blocks all signals, so that no handler runs between a fork and the moment when the child has put the handlers
/// off. The drop puts back what was before.
#[derive(Debug)]
pub struct AllBlocked {
    previous: libc::sigset_t,
}

impl AllBlocked {
    /// Blocks all.
    ///
    /// # Errors
    ///
    /// None in practice; what `sigprocmask(2)` answers.
    pub fn begin() -> io::Result<Self> {
        let all = full_set();
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is initialised; sigprocmask fills the other.
        check(unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, previous.as_mut_ptr())
        })?;
        // SAFETY: sigprocmask succeeded and has filled it.
        Ok(AllBlocked { previous: unsafe { previous.assume_init() } })
    }

    /// Blocks none from now on, whatever was before.
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

/// The signals that must not meet a program without its handlers: they would end it.
const HELD: [c_int; 5] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGCHLD, libc::SIGALRM];

/// The signals of faults: blocked, they could not even be handled.
const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// The mask as it was before [`hold_for_exec`].
#[derive(Debug)]
pub struct MaskBefore(libc::sigset_t);

impl MaskBefore {
    /// Puts it back. Async-signal-safe.
    pub fn restore(&self) {
        set_mask(&self.0);
    }
}

/// Blocks SIGTERM, SIGHUP, SIGINT, SIGCHLD and SIGALRM: they wait until the next program has its handlers and
/// calls [`release_held`]. Unblocks the signals of faults, for a handler of one may call this.
/// Async-signal-safe.
pub fn hold_for_exec() -> MaskBefore {
    let previous = change_mask(libc::SIG_BLOCK, &HELD);
    let without_faults = change_mask(libc::SIG_UNBLOCK, &FAULTS);
    MaskBefore(previous.or(without_faults).unwrap_or_else(empty_set))
}

/// As [`hold_for_exec`], and unblocks all others: out of a handler that blocks all signals. Async-signal-safe.
pub fn hold_for_exec_alone() {
    set_mask(&set_of(&HELD));
}

/// Unblocks the signals that [`hold_for_exec`] has blocked. To be called when the handlers stand.
pub fn release_held() {
    change_mask(libc::SIG_UNBLOCK, &HELD);
    change_mask(libc::SIG_UNBLOCK, &FAULTS);
}

/// Holds back the signals that must not come between two programs, until it is dropped.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// Begins holding.
    pub fn begin() -> Held {
        change_mask(libc::SIG_BLOCK, &HELD);
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
    // SAFETY: sigemptyset fills the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// All signals.
pub(super) fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset fills the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// `sigprocmask(2)`; returns the mask before.
fn change_mask(how: c_int, signals: &[c_int]) -> Option<libc::sigset_t> {
    let set = set_of(signals);
    let mut previous = MaybeUninit::uninit();
    // SAFETY: the set is initialised, and there is room for the previous mask.
    match unsafe { libc::sigprocmask(how, &raw const set, previous.as_mut_ptr()) } {
        // SAFETY: sigprocmask succeeded and has filled it.
        0 => Some(unsafe { previous.assume_init() }),
        _ => None,
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the mask is initialised; a null pointer: nobody wants the present one.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}
