//! The watchdog: an application that computes for too long in the server's own process blocks all requests, and
//! only a signal can interrupt it. A tick per second checks whether the loop has completed a turn; when it has
//! stalled, `settle.rs` replies to every request: 504 to the one that was running, 503 to the others.
//!
//! Ticks are counted, not clock time, because a stopped process gets none. The timer runs only while there are
//! requests (`in_flight.rs` starts it), so an idle process is not woken.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sys::interval::{self, Ticker};
use sys::turn;

use super::in_flight::{RUNNING, in_flight};
use super::settle::on_stall;

/// How many ticks without a request stop the timer. More than one, or on a site with occasional requests each of
/// them would start the timer.
const MAX_IDLE_TICKS: u32 = 5;

static LIMIT: AtomicU32 = AtomicU32::new(u32::MAX);
static LAST_TURN: AtomicU32 = AtomicU32::new(0);
static STALLED_TICKS: AtomicU32 = AtomicU32::new(0);
static IDLE_TICKS: AtomicU32 = AtomicU32::new(0);

/// Keeps the watchdog running.
#[derive(Debug)]
pub(crate) struct Watch {
    _ticker: Ticker,
}

/// Starts the watchdog if there is a limit, which is rounded up to whole seconds: when a turn of the loop lasts that
/// many ticks, every request gets a reply, and the program restarts in place.
///
/// The timer signal (SIGALRM, one per second) comes only while there are requests; the first one after a pause starts
/// it with one system call.
///
/// # Errors
///
/// If the signal cannot be caught.
pub(super) fn begin(limit: Option<Duration>) -> io::Result<Option<Watch>> {
    let Some(limit) = limit else { return Ok(None) };
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    LIMIT.store(u32::try_from(seconds).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    Ok(Some(Watch { _ticker: Ticker::new(on_tick)? }))
}

/// Restarts the timer in a forked child: interval timers are not inherited, though their recorded state is.
pub(super) fn take_over() {
    interval::forget();
    if in_flight() > 0 && interval::can_be_armed() {
        interval::arm();
    }
}

/// Async-signal-safe, like everything it calls.
fn on_tick() {
    let turn = turn::current();
    let is_working = turn::is_work(turn);
    let is_same = LAST_TURN.swap(turn, Ordering::Relaxed) == turn;
    let stalled = if is_working && is_same { STALLED_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    STALLED_TICKS.store(stalled, Ordering::Relaxed);
    if stalled >= LIMIT.load(Ordering::Relaxed) {
        on_stall(stalled);
    }
    let is_idle = !is_working && in_flight() == 0 && RUNNING.load(Ordering::Relaxed) == 0;
    let idle = if is_idle { IDLE_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    IDLE_TICKS.store(idle, Ordering::Relaxed);
    if idle >= MAX_IDLE_TICKS {
        interval::disarm();
        IDLE_TICKS.store(0, Ordering::Relaxed);
    }
}
