//! A timer of the process: SIGALRM once a second, for whoever has to look from outside at code that runs.
//!
//! The timer runs only while it is armed, so an idle process is not woken. What a tick means is decided by the
//! function that is called.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::errno::KeptErrno;
use crate::signals::{PreviousAction, restore_action, set_action_blocking_all};

/// What to call each second. Set once a process.
static ON_TICK: OnceLock<fn()> = OnceLock::new();
/// A [`Ticker`] stands.
static WANTED: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicBool = AtomicBool::new(false);

/// Keeps the handler of SIGALRM installed.
#[derive(Debug)]
pub struct Ticker {
    previous: PreviousAction,
}

impl Ticker {
    /// Has `on_tick` called each second while the timer is [armed](arm): by a signal handler, with all signals
    /// blocked, on the alternate stack if there is one. It must be async-signal-safe, and may not return.
    /// A process calls one function only: the first that is given.
    ///
    /// # Errors
    ///
    /// None in practice; what `sigaction(2)` answers.
    pub fn new(on_tick: fn()) -> io::Result<Ticker> {
        ON_TICK.get_or_init(|| on_tick);
        let handler: extern "C" fn(c_int) = on_alarm;
        // SA_RESTART: a system call of a library that does not expect EINTR goes on.
        let flags = libc::SA_ONSTACK | libc::SA_RESTART;
        let previous =
            set_action_blocking_all(libc::SIGALRM, handler as libc::sighandler_t, flags)?;
        WANTED.store(true, Ordering::Relaxed);
        Ok(Ticker { previous })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        WANTED.store(false, Ordering::Relaxed);
        disarm();
        let restored = restore_action(libc::SIGALRM, &self.previous);
        debug_assert!(restored.is_ok(), "SIGALRM was not given back: {restored:?}");
    }
}

extern "C" fn on_alarm(_: c_int) {
    let _kept = KeptErrno::keep();
    if let Some(on_tick) = ON_TICK.get().filter(|_| WANTED.load(Ordering::Relaxed)) {
        on_tick();
    }
}

/// Whether [`arm`] would start the timer: a [`Ticker`] stands, and the timer does not run.
#[inline]
pub fn can_be_armed() -> bool {
    WANTED.load(Ordering::Relaxed) && !RUNS.load(Ordering::Relaxed)
}

/// Starts the timer. Costs a system call.
pub fn arm() {
    RUNS.store(true, Ordering::Relaxed);
    set_timer(1);
}

/// Whether the timer runs.
pub fn runs() -> bool {
    RUNS.load(Ordering::Relaxed)
}

/// Stops the timer, if it runs. Async-signal-safe.
pub fn disarm() {
    if RUNS.swap(false, Ordering::Relaxed) {
        set_timer(0);
    }
}

/// In the child of a fork the timer stands still, whatever the parent knew.
pub fn forget() {
    RUNS.store(false, Ordering::Relaxed);
}

/// Has SIGALRM come each so many seconds; never with 0.
fn set_timer(seconds: libc::time_t) {
    let each = libc::timeval { tv_sec: seconds, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: each, it_value: each };
    // SAFETY: signal-safe; `timer` is a whole itimerval. It cannot fail with these values.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

/// The three interval timers of the process as they were: across `execve(2)` they would go on, without their
/// handlers.
#[derive(Debug)]
pub struct Suspended([libc::itimerval; 3]);

const TIMERS: [c_int; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

/// Switches all three off. Async-signal-safe.
pub fn suspend_all() -> Suspended {
    // SAFETY: itimerval is plain integers, for which all-zero is a value: off.
    let (off, mut previous): (libc::itimerval, [libc::itimerval; 3]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    for (timer, previous) in TIMERS.into_iter().zip(&mut previous) {
        // SAFETY: both point to whole values that outlive the call.
        unsafe { libc::setitimer(timer, &raw const off, previous) };
    }
    Suspended(previous)
}

impl Suspended {
    /// Lets them go on. Async-signal-safe.
    pub fn resume(&self) {
        for (timer, previous) in TIMERS.into_iter().zip(&self.0) {
            // SAFETY: the value was filled by setitimer; a null pointer: nobody wants the present one.
            unsafe { libc::setitimer(timer, previous, ptr::null_mut()) };
        }
    }
}
