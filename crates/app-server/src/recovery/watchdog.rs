//! The watchdog: an application that computes for too long in the server's own process blocks all requests, and
//! only a signal can interrupt it. A tick per second checks whether the loop has completed a turn; when it has
//! stalled, `settle.rs` replies to every request: 504 to the one that was running, 503 to the others.
//!
//! Ticks are counted, not clock time, because a stopped process gets none. The timer runs only while there are
//! requests (`handles.rs` starts it), so an idle process is not woken.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sys::interval::{self, Ticker};
use sys::turn;

use super::settle::on_stall;
use super::tables::{REQUESTS, RUNNING};

/// How many ticks without a request stop the timer. More than one, or on a site with occasional requests each of
/// them would start the timer.
const MAX_IDLE_TICKS: u32 = 5;

/// What the handler of the timer signal remembers from tick to tick.
static TICKS: Ticks = Ticks {
    limit: AtomicU32::new(u32::MAX),
    last_turn: AtomicU32::new(0),
    stalled: AtomicU32::new(0),
    idle: AtomicU32::new(0),
};

struct Ticks {
    /// How many ticks in one turn of the loop are a stall.
    limit: AtomicU32,
    /// The turn at the last tick.
    last_turn: AtomicU32,
    /// How many ticks the present turn has lasted.
    stalled: AtomicU32,
    /// How many ticks there has been no request.
    idle: AtomicU32,
}

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
    TICKS.limit.store(u32::try_from(seconds).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    Ok(Some(Watch { _ticker: Ticker::new(on_tick)? }))
}

/// Restarts the timer in a forked child: interval timers are not inherited, though their recorded state is.
pub(super) fn take_over() {
    interval::forget();
    if REQUESTS.taken() > 0 && interval::can_be_armed() {
        interval::arm();
    }
}

/// Async-signal-safe, like everything it calls.
fn on_tick() {
    let turn = turn::current();
    let is_working = turn::is_work(turn);
    let is_same = TICKS.last_turn.swap(turn, Ordering::Relaxed) == turn;
    let stalled = if is_working && is_same { TICKS.stalled.load(Ordering::Relaxed) + 1 } else { 0 };
    TICKS.stalled.store(stalled, Ordering::Relaxed);
    if stalled >= TICKS.limit.load(Ordering::Relaxed) {
        on_stall(stalled);
    }
    let is_idle = !is_working && RUNNING.is_idle();
    let idle = if is_idle { TICKS.idle.load(Ordering::Relaxed) + 1 } else { 0 };
    TICKS.idle.store(idle, Ordering::Relaxed);
    if idle >= MAX_IDLE_TICKS {
        interval::disarm();
        TICKS.idle.store(0, Ordering::Relaxed);
    }
}
