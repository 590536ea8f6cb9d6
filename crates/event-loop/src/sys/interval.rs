//! The watchdog's timer: a signal each second looks whether the loop has come round.
//!
//! The handler reads and writes atomic numbers, and when the loop is stuck it goes on into `fatal.rs`,
//! on the same stack. The timer runs only while there are exchanges: an idle process is not woken.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{PreviousAction, check, fatal};
use crate::fatal::{EXCHANGE_PLACES, RUNNING};

/// Ticks without any exchange after which the timer is stopped. Not the first: on a site where somebody
/// clicks now and then the timer would be started for each click.
const IDLE_TICKS: u32 = 5;

/// Counts: odd while the loop is at work, even while it waits.
static TURN: AtomicU32 = AtomicU32::new(0);
static WATCHED: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicBool = AtomicBool::new(false);
static LIMIT: AtomicU32 = AtomicU32::new(u32::MAX);
/// Known to the handler alone.
static LAST_TURN: AtomicU32 = AtomicU32::new(0);
static STUCK_TICKS: AtomicU32 = AtomicU32::new(0);
static QUIET_TICKS: AtomicU32 = AtomicU32::new(0);

/// Keeps the loop watched.
#[derive(Debug)]
pub struct Watch {
    previous: PreviousAction,
}

impl Watch {
    pub(crate) fn new(ticks: u32) -> io::Result<Watch> {
        let handler: extern "C" fn(c_int) = on_tick;
        // SAFETY: sigaction is plain integers and an optional function pointer: all-zero is a value.
        let mut new: libc::sigaction = unsafe { mem::zeroed() };
        new.sa_sigaction = handler as libc::sighandler_t;
        // SA_RESTART: a system call of a library that does not expect EINTR goes on.
        new.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: sa_mask is a whole signal set. All are blocked, for the handler may not come back.
        unsafe { libc::sigfillset(&raw mut new.sa_mask) };
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `new` is initialised, its handler has the right type; `previous` has room.
        check(unsafe { libc::sigaction(libc::SIGALRM, &raw const new, previous.as_mut_ptr()) })?;
        LIMIT.store(ticks.max(1), Ordering::Relaxed);
        WATCHED.store(true, Ordering::Relaxed);
        // SAFETY: sigaction succeeded and has filled it.
        Ok(Watch { previous: PreviousAction(unsafe { previous.assume_init() }) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.store(false, Ordering::Relaxed);
        disarm();
        let restored = super::restore_action(libc::SIGALRM, &self.previous);
        debug_assert!(restored.is_ok(), "SIGALRM was not given back: {restored:?}");
    }
}

/// The loop begins to wait.
#[inline]
pub(crate) fn waits() {
    TURN.store(TURN.load(Ordering::Relaxed).wrapping_add(1) & !1, Ordering::Relaxed);
}

/// The loop has waited.
#[inline]
pub(crate) fn works() {
    TURN.store(TURN.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
}

/// Tells this turn from others.
pub(super) fn turn() -> u32 {
    TURN.load(Ordering::Relaxed)
}

/// Whether the timer runs.
#[cfg(feature = "tokio")]
pub(crate) fn runs() -> bool {
    RUNS.load(Ordering::Relaxed)
}

/// Starts the timer, if it is wanted and stands still: there is an exchange to watch.
#[inline]
pub(crate) fn arm() {
    if WATCHED.load(Ordering::Relaxed) && !RUNS.load(Ordering::Relaxed) {
        QUIET_TICKS.store(0, Ordering::Relaxed);
        STUCK_TICKS.store(0, Ordering::Relaxed);
        RUNS.store(true, Ordering::Relaxed);
        set_timer(1);
    }
}

/// In a copy of the process the timer stands still, whatever the original knew.
pub(crate) fn begin_anew() {
    RUNS.store(false, Ordering::Relaxed);
    if EXCHANGE_PLACES.taken.load(Ordering::Relaxed) > 0 {
        arm();
    }
}

/// Stops the timer. Signal-safe.
pub(super) fn disarm() {
    if RUNS.swap(false, Ordering::Relaxed) {
        set_timer(0);
    }
}

/// Has SIGALRM come each so many seconds; never with 0.
fn set_timer(seconds: libc::time_t) {
    let each = libc::timeval { tv_sec: seconds, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: each, it_value: each };
    // SAFETY: signal-safe; `timer` is a whole itimerval. It cannot fail with these values.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

extern "C" fn on_tick(_: c_int) {
    // SAFETY: errno's address is always valid for the running thread.
    let errno = unsafe { *libc::__errno_location() };
    let turn = TURN.load(Ordering::Relaxed);
    let works = turn % 2 == 1;
    let same = LAST_TURN.swap(turn, Ordering::Relaxed) == turn;
    let stuck = if works && same { STUCK_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    STUCK_TICKS.store(stuck, Ordering::Relaxed);
    if WATCHED.load(Ordering::Relaxed) && stuck >= LIMIT.load(Ordering::Relaxed) {
        fatal::on_stuck(stuck);
    }
    let quiet = !works
        && EXCHANGE_PLACES.taken.load(Ordering::Relaxed) == 0
        && RUNNING.load(Ordering::Relaxed) == 0;
    let quiet = if quiet { QUIET_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    QUIET_TICKS.store(quiet, Ordering::Relaxed);
    if quiet >= IDLE_TICKS {
        disarm();
    }
    // SAFETY: as above; the interrupted code finds its errno as it left it.
    unsafe { *libc::__errno_location() = errno };
}
