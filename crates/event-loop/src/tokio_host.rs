//! The loop inside a tokio current_thread runtime, for applications that use tokio's timers or sockets.
//!
//! The runtime uses the calling thread; none is started. The loop is one future of the runtime: tokio watches its
//! poll set (an epoll descriptor is readable when it has events), and a tokio timer its next deadline. All tasks
//! are polled in the runtime's context, so that tokio's timers, sockets and `tokio::spawn` work in them. `lib.rs`
//! says what a turn does; this file only decides when one is due.
//!
//! The watchdog must not mistake a waiting loop for a stalled one, so the loop counts as working whenever the runtime
//! works, and takes a turn at least once a second while it is watched.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use sys::{interval, tokio_watch, turn};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::time::{Instant, Sleep};

use crate::Root;
use crate::loop_state::{Entered, Loop};

/// The maximum time between two turns of a watched loop: the watchdog's minimum limit, because it counts whole
/// seconds.
const WATCHED_TURN: Duration = Duration::from_secs(1);

/// Same as [`run`](crate::run), but inside a tokio current_thread runtime with time and io enabled.
///
/// Needs a few more system calls per turn than [`run`](crate::run). What starts threads in tokio (`spawn_blocking`,
/// and therefore `tokio::fs` and name resolution) is not prevented and not supported.
///
/// # Errors
///
/// Same as [`run`](crate::run), and if the runtime cannot be built.
///
/// # Panics
///
/// If `future` panics, or if called inside a tokio runtime.
pub fn run_in_tokio<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(turn::begin_wait)
        .on_thread_unpark(turn::end_wait)
        .build()?;
    runtime.block_on(host(future, || {}))
}

/// Same as [`run_in_tokio`], in the tokio runtime that the caller is in, which has to be a current_thread runtime.
///
/// Tasks of that runtime, unlike those of [`spawn`](crate::spawn), are not watched: the loop counts as waiting while they run.
///
/// # Errors
///
/// Same as [`run`](crate::run), and if there is no such runtime.
///
/// # Panics
///
/// If `future` panics, or if the runtime has neither io nor time.
pub async fn run_in_this_tokio<F: Future>(future: F) -> io::Result<F::Output> {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::CurrentThread) => host(future, turn::begin_wait).await,
        Ok(_) => Err(io::Error::other(
            "the tokio runtime has several threads; use #[tokio::main(flavor = \"current_thread\")]",
        )),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Runs the loop as a future of the current runtime. `after_turn`: what to do when the runtime's other tasks get their turn.
async fn host<F: Future>(future: F, after_turn: fn()) -> io::Result<F::Output> {
    let state = Entered::new()?;
    state.hosted.set(true);
    let future = pin!(future);
    let mut root = Root::new(&state, future);
    let watch = tokio_watch::watch(state.reactor.duplicate()?)?;
    // Reset before its first use.
    let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
    let mut tick = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|context| {
        let polled = poll_turn(&state, &mut root, &watch, alarm.as_mut(), context);
        if polled.is_pending() && interval::is_armed() {
            poll_tick(tick.as_mut(), context);
        }
        after_turn();
        polled
    })
    .await
}

/// Takes one turn of the loop without waiting, and arranges to be woken for the next.
fn poll_turn<F: Future>(
    state: &Loop,
    root: &mut Root<'_, F>,
    watch: &AsyncFd<OwnedFd>,
    mut alarm: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<io::Result<F::Output>> {
    // During the turn, tasks that become ready need not wake us.
    drop(state.ready.set_host(None));
    let turn = state.turn(root, Some(Duration::ZERO));
    // Code that runs before our next turn must not get the time of this one.
    state.clock.begin_turn();
    let turn = turn?;
    if let Some(output) = turn.finished {
        return Poll::Ready(Ok(output));
    }

    // There may be more, but tokio's tasks and driver come first.
    if turn.had_events || !state.ready.is_empty() {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    // tokio is only woken by changes of our poll set, and a pending connection is reported in each wait without
    // being a change. Only after a wait without events is the next event certain to be a change.
    while let Poll::Ready(guard) = watch.poll_read_ready(context) {
        guard?.clear_ready();
    }
    let deadline = state.timers.borrow().next_deadline();
    if let Some(deadline) = deadline {
        let deadline = Instant::from_std(deadline);
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        if alarm.poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }
    drop(state.ready.set_host(Some(context.waker().clone())));
    Poll::Pending
}

/// Arranges for a turn within [`WATCHED_TURN`]: tokio's own tasks may keep the runtime busy and yield to each other
/// without waking us.
fn poll_tick(mut tick: Pin<&mut Sleep>, context: &mut Context<'_>) {
    while tick.as_mut().poll(context).is_ready() {
        tick.as_mut().reset(Instant::now() + WATCHED_TURN);
    }
}
