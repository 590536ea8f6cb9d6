//! The process's interval timer: SIGALRM once a second, which can interrupt code that does not return to the loop.
//!
//! The timer runs only while it is armed, so an idle process is not woken.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::errno::SavedErrno;
use crate::signals::{PreviousAction, restore_action, set_action_blocking_all};

/// What to call each second. Set once per process.
static ON_TICK: OnceLock<fn()> = OnceLock::new();
/// Whether there is a [`Ticker`].
static HAS_TICKER: AtomicBool = AtomicBool::new(false);
/// Whether the timer is armed.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Keeps the handler of SIGALRM installed.
#[derive(Debug)]
pub struct Ticker {
    previous: PreviousAction,
}

impl Ticker {
    /// Calls `on_tick` each second while the timer is [armed](arm): in a signal handler, with all signals blocked, on
    /// the alternate stack if there is one. It must be async-signal-safe, and need not return. All tickers of a
    /// process use the function of the first one.
    ///
    /// # Errors
    ///
    /// None in practice; any from `sigaction(2)`.
    pub fn new(on_tick: fn()) -> io::Result<Ticker> {
        ON_TICK.get_or_init(|| on_tick);
        let handler: extern "C" fn(c_int) = on_alarm;
        // SA_RESTART: restarts the system calls of libraries that do not expect EINTR.
        let flags = libc::SA_ONSTACK | libc::SA_RESTART;
        let previous =
            set_action_blocking_all(libc::SIGALRM, handler as libc::sighandler_t, flags)?;
        HAS_TICKER.store(true, Ordering::Relaxed);
        Ok(Ticker { previous })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        HAS_TICKER.store(false, Ordering::Relaxed);
        disarm();
        let restored = restore_action(libc::SIGALRM, &self.previous);
        debug_assert!(restored.is_ok(), "SIGALRM was not restored: {restored:?}");
    }
}

extern "C" fn on_alarm(_: c_int) {
    let _errno = SavedErrno::save();
    if let Some(on_tick) = ON_TICK.get().filter(|_| HAS_TICKER.load(Ordering::Relaxed)) {
        on_tick();
    }
}

/// Returns whether [`arm`] would start the timer: there is a [`Ticker`], and the timer is not armed.
#[inline]
pub fn can_be_armed() -> bool {
    HAS_TICKER.load(Ordering::Relaxed) && !ARMED.load(Ordering::Relaxed)
}

/// Starts the timer. Costs one system call.
pub fn arm() {
    ARMED.store(true, Ordering::Relaxed);
    set_timer(1);
}

/// Returns whether the timer is armed.
pub fn is_armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// Stops the timer if it is armed. Async-signal-safe.
pub fn disarm() {
    if ARMED.swap(false, Ordering::Relaxed) {
        set_timer(0);
    }
}

/// Records in a forked child that the timer is not armed: a child does not inherit it.
pub fn forget() {
    ARMED.store(false, Ordering::Relaxed);
}

/// Sets the interval of SIGALRM; 0 stops it.
fn set_timer(seconds: libc::time_t) {
    let interval = libc::timeval { tv_sec: seconds, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: signal-safe; `timer` is a complete itimerval. It cannot fail with these values.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

/// The saved state of the process's three interval timers, which would keep running across `execve(2)`, without their
/// handlers.
#[derive(Debug)]
pub struct Suspended([libc::itimerval; 3]);

const TIMERS: [c_int; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

/// Stops all three timers. Async-signal-safe.
pub fn suspend_all() -> Suspended {
    // SAFETY: itimerval is plain integers, for which all-zero is a valid value: stopped.
    let (off, mut previous): (libc::itimerval, [libc::itimerval; 3]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    for (timer, previous) in TIMERS.into_iter().zip(&mut previous) {
        // SAFETY: both point to complete values that outlive the call.
        unsafe { libc::setitimer(timer, &raw const off, previous) };
    }
    Suspended(previous)
}

impl Suspended {
    /// Resumes them. Async-signal-safe.
    pub fn resume(&self) {
        for (timer, previous) in TIMERS.into_iter().zip(&self.0) {
            // SAFETY: the value was filled in by setitimer; a null pointer: the current one is not wanted.
            unsafe { libc::setitimer(timer, previous, ptr::null_mut()) };
        }
    }
}
