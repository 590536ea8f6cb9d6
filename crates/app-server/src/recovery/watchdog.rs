//! The watchdog: an application that computes for too long in the server's own process keeps everybody waiting,
//! and nothing but a signal gets through to it. Each second a tick looks whether the loop has turned, and when
//! it stalls, `settle.rs` answers everybody: 504 for whoever was running, 503 for the others.
//!
//! Ticks are counted, not the clock: while the process is stopped it gets none. The timer runs only while there
//! are requests (`in_flight.rs` starts it): an idle process is not woken.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sys::interval::{self, Ticker};
use sys::turn;

use super::in_flight::{RUNNING, in_flight};
use super::settle::on_stall;

/// Ticks without any request after which the timer is stopped. Not the first: on a site where somebody
/// clicks now and then the timer would be started for each click.
const IDLE_TICKS: u32 = 5;

static LIMIT: AtomicU32 = AtomicU32::new(u32::MAX);
static LAST_TURN: AtomicU32 = AtomicU32::new(0);
static STALLED_TICKS: AtomicU32 = AtomicU32::new(0);
static QUIET_TICKS: AtomicU32 = AtomicU32::new(0);

/// Keeps the loop watched.
#[derive(Debug)]
pub(crate) struct Watch {
    _ticker: Ticker,
}

/// Begins to watch, if there is a limit, which is rounded up to whole seconds: when a turn of the loop lasts for so
/// many ticks, everybody is answered, and the program restarts in place.
///
/// A timer signal (SIGALRM) a second comes only while there are requests; it is started by the next request,
/// with one system call.
pub(super) fn begin(limit: Option<Duration>) -> io::Result<Option<Watch>> {
    let Some(limit) = limit else { return Ok(None) };
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    LIMIT.store(u32::try_from(seconds).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    Ok(Some(Watch { _ticker: Ticker::new(on_tick)? }))
}

/// In a copy of the process the timer stands still, whatever the original knew.
pub(super) fn take_over() {
    interval::forget();
    if in_flight() > 0 && interval::can_be_armed() {
        interval::arm();
    }
}

/// Async-signal-safe, as all that it calls.
fn on_tick() {
    let turn = turn::current();
    let works = turn::is_work(turn);
    let same = LAST_TURN.swap(turn, Ordering::Relaxed) == turn;
    let stalled = if works && same { STALLED_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    STALLED_TICKS.store(stalled, Ordering::Relaxed);
    if stalled >= LIMIT.load(Ordering::Relaxed) {
        on_stall(stalled);
    }
    let quiet = !works && in_flight() == 0 && RUNNING.load(Ordering::Relaxed) == 0;
    let quiet = if quiet { QUIET_TICKS.load(Ordering::Relaxed) + 1 } else { 0 };
    QUIET_TICKS.store(quiet, Ordering::Relaxed);
    if quiet >= IDLE_TICKS {
        interval::disarm();
        QUIET_TICKS.store(0, Ordering::Relaxed);
    }
}
