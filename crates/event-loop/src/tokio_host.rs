//! The loop as a guest inside a tokio current_thread runtime, for applications that use tokio's time or
//! sockets.
//!
//! The runtime's thread is the calling one; none is started. The loop is one future of the runtime: its
//! poll set is watched by tokio's (an epoll descriptor is readable when it has events), and its next
//! deadline by a timer of tokio's. All tasks are polled inside the runtime's context, so that tokio's
//! sleeps and sockets work in them, and `tokio::spawn` does. What the loop does in a turn is told in
//! `lib.rs`; here is only when a turn is due.
//! The watchdog must not mistake a waiting guest for a stalled one: the loop runs whenever the runtime does,
//! and turns at least once a second while it is watched.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use sys::{interval, tokio_watch, turn};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::time::{Instant, Sleep};

use crate::Root;
use crate::loop_state::{Entered, Loop};

/// The longest time between two turns of a watched loop: a watchdog's shortest limit, since it counts whole
/// seconds.
const WATCHED_TURN: Duration = Duration::from_secs(1);

/// As [`run`](crate::run), but inside a tokio current_thread runtime with time and io enabled.
///
/// Costs some system calls more a turn than [`run`](crate::run). What starts threads in tokio
/// (`spawn_blocking`, and so `tokio::fs` and looking up names) is not prevented and not supported.
///
/// # Errors
///
/// As [`run`](crate::run), and when the runtime cannot be built.
///
/// # Panics
///
/// When `future` panics, or when called inside a tokio runtime.
pub fn run_in_tokio<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(turn::waits)
        .on_thread_unpark(turn::works)
        .build()?;
    runtime.block_on(async {
        let state = Entered::new()?;
        state.hosted.set(true);
        let future = pin!(future);
        let mut root = Root::new(&state, future);
        let watch = tokio_watch::watch(state.reactor.duplicate()?)?;
        // Reset before its first use.
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        let mut tick = pin!(tokio::time::sleep(Duration::ZERO));
        poll_fn(|cx| {
            let polled = poll_turn(&state, &mut root, &watch, alarm.as_mut(), cx);
            if polled.is_pending() && interval::runs() {
                poll_tick(tick.as_mut(), cx);
            }
            polled
        })
        .await
    })
}

/// Takes one turn of the loop without waiting, and arranges for the next.
fn poll_turn<F: Future>(
    state: &Loop,
    root: &mut Root<'_, F>,
    watch: &AsyncFd<OwnedFd>,
    mut alarm: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<F::Output>> {
    // As long as this runs, nobody has to tell us that something became ready.
    drop(state.ready.set_host(None));
    let turn = state.turn(root, Some(Duration::ZERO));
    // What runs before our next turn and asks for the time shall not get that of this one.
    state.clock.begin_turn();
    let turn = turn?;
    if let Some(output) = turn.finished {
        return Poll::Ready(Ok(output));
    }

    // There may be more, but tokio's tasks and driver come first.
    if turn.heard || !state.ready.is_empty() {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    // tokio hears of changes of our poll set alone, and a waiting connection is told in each look without
    // being one. Only now, after a look that found nothing, the next change is sure to be heard.
    while let Poll::Ready(guard) = watch.poll_read_ready(cx) {
        guard?.clear_ready();
    }
    let deadline = state.timers.borrow().next_deadline();
    if let Some(deadline) = deadline {
        let deadline = Instant::from_std(deadline);
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        if alarm.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
    drop(state.ready.set_host(Some(cx.waker().clone())));
    Poll::Pending
}

/// Arranges for a turn within [`WATCHED_TURN`]: tokio's own tasks may keep the runtime busy and yield to all
/// others without giving us a turn.
fn poll_tick(mut tick: Pin<&mut Sleep>, cx: &mut Context<'_>) {
    while tick.as_mut().poll(cx).is_ready() {
        tick.as_mut().reset(Instant::now() + WATCHED_TURN);
    }
}
