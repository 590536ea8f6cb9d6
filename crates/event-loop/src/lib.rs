//! An event loop and futures executor for one thread.
//!
//! [`run`] builds the loop on the calling thread and runs a future to completion; [`spawn`] starts further ones.
//! Sockets are in [`net`], timers in [`time`], pipes in [`pipe`], signals in [`signals`]. Sockets and pipes implement
//! the traits of `tokio::io` and `hyper::rt`, which need no runtime. The crate `process` awaits child processes.
//!
//! * **No thread is ever started**, and Linux 3.10 is enough.
//! * **Everything that can be awaited is `Send`**, without unsafe code: it holds ids of rows in thread-local
//!   tables, not pointers, and finds no row on another thread. (A test ensures this.) Futures passed to [`spawn`]
//!   need not be `Send`.
//! * **Wakers are `Send` and `Sync`**, as std requires: wakes by other threads go through a queue behind a lock.
//! * **Fairness**: after [`POLLS_A_TURN`] polls the loop checks the sockets again; a task that wakes itself goes to
//!   the end of the queue; and a task whose sockets are always ready has to wait for its next turn after 32 reads
//!   and writes.
//! * **A panic of a task** ends that task, not the loop.
//! * Unsafe code is in the crate `sys`.
//!
//! ```
//! use std::time::Duration;
//!
//! let sum = event_loop::run(async {
//!     let task = event_loop::spawn(async {
//!         event_loop::time::sleep(Duration::from_millis(1)).await;
//!         20
//!     });
//!     task.await + 22
//! })?;
//! assert_eq!(sum, 42);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! This file is the loop itself: everything that can wake it is in one enum, `Wakeup`, and a turn handles each kind
//! in order. The state is in `loop_state.rs`.
#![forbid(unsafe_code)]
// docs.rs says which items need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod counters;
mod descriptor_flags;
mod executor;
pub mod forked;
mod loop_id;
mod loop_state;
pub mod net;
mod operations;
pub mod pipe;
mod reactor;
mod ready_queue;
mod signal;
mod signal_inbox;
pub mod signals;
mod source;
mod table;
mod task;
pub mod time;
mod timers;
#[cfg(feature = "tokio")]
mod tokio_host;

use std::future::Future;
use std::io;
use std::iter;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use counters::{Counters, counters};
pub use loop_id::LoopId;
pub use task::{Panic, Task, spawn, spawn_now, yield_now};
#[cfg(feature = "tokio")]
pub use tokio_host::{run_in_this_tokio, run_in_tokio};

use loop_state::{Entered, Loop};
use reactor::{Occurrence, Readiness};
use ready_queue::{ROOT, TaskWaker, begin_poll};
use table::Key;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The maximum number of polls of tasks between two checks of the sockets.
///
/// A check costs about as much as a few polls, so a much smaller number would be slower; 128 polls of well-behaved
/// tasks take about 100 µs, so a much larger one would delay events noticeably. tokio uses 61.
pub const POLLS_A_TURN: usize = 128;

/// Builds an event loop on this thread and runs it until `future` completes; then drops the remaining tasks and
/// returns the output.
///
/// # Errors
///
/// If a loop already runs on this thread, or waiting fails (the first wait takes two descriptors; a future that never
/// waits takes none). The future is dropped then.
///
/// # Panics
///
/// If `future` panics. A panic of a spawned task only ends that task.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let state = Entered::new()?;
    let future = pin!(future);
    let mut root = Root::new(&state, future);
    loop {
        let timeout = state.timeout();
        if let Some(output) = state.turn(&mut root, timeout)?.finished {
            return Ok(output);
        }
    }
}

/// Returns whether a loop runs on this thread, so that timers and sockets can be awaited.
pub fn is_running() -> bool {
    loop_state::with_current(|_| ()).is_some()
}

/// Returns the identity of the loop that runs on this thread: for values that must be used only by the loop they
/// belong to, such as a pool's connections after a fork.
pub fn loop_id() -> Option<LoopId> {
    loop_state::with_current(|state| state.id)
}

/// Everything that can wake the loop.
enum Wakeup {
    /// Another thread woke tasks.
    ForeignThread,
    /// A signal has arrived.
    Signal,
    /// The readiness of a socket or pipe has changed.
    Readiness(Key, Readiness),
    /// A timer is due.
    Deadline(Waker),
    /// A task is ready to be polled.
    Task(Key),
    /// The future passed to `run` is ready to be polled.
    Root,
}

impl Loop {
    /// One turn: wait, handle events and timers, poll what is ready.
    fn turn<F: Future>(
        &self,
        root: &mut Root<'_, F>,
        timeout: Option<Duration>,
    ) -> io::Result<Turn<F::Output>> {
        let timeout = self.take_remote_wakes(timeout)?;
        let events = self.reactor.wait(timeout, self.ready.is_empty())?;
        self.clock.begin_turn();
        counters::count(|counters| &counters.turns);

        let mut had_events = false;
        let occurrences = events.iter().map(|event| {
            had_events = true;
            Wakeup::from(Occurrence::from(event))
        });
        let deadlines = iter::from_fn(|| {
            let now = self.now_if_timers()?;
            self.timers.borrow_mut().pop_due(now).map(Wakeup::Deadline)
        });
        let ready = iter::from_fn(|| self.ready.pop().map(Wakeup::from)).take(POLLS_A_TURN);

        // Lazy: each iterator starts only when the one before it is exhausted.
        let mut finished = None;
        for wakeup in occurrences.chain(deadlines).chain(ready) {
            match wakeup {
                Wakeup::ForeignThread => self.ready.take_remote_wakes(),
                Wakeup::Signal => self.signals.deliver(),
                Wakeup::Readiness(key, readiness) => self.reactor.set_ready(key, readiness),
                Wakeup::Deadline(waker) => {
                    counters::count(|counters| &counters.timers_fired);
                    waker.wake();
                }
                Wakeup::Task(key) => self.executor.poll(key),
                Wakeup::Root => {
                    if let Poll::Ready(output) = root.poll() {
                        finished = Some(output);
                        break;
                    }
                }
            }
        }
        self.reactor.put_back(events);
        Ok(Turn { finished, had_events })
    }
}

/// The result of a turn.
struct Turn<T> {
    /// The output of the future passed to `run`, if it has completed.
    finished: Option<T>,
    /// Whether there was an event, so that there may be more.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    had_events: bool,
}

impl From<Occurrence> for Wakeup {
    fn from(occurrence: Occurrence) -> Self {
        match occurrence {
            Occurrence::RemoteWake => Wakeup::ForeignThread,
            Occurrence::Signals => Wakeup::Signal,
            Occurrence::Source(key, readiness) => Wakeup::Readiness(key, readiness),
        }
    }
}

impl From<Key> for Wakeup {
    fn from(key: Key) -> Self {
        if key == ROOT { Wakeup::Root } else { Wakeup::Task(key) }
    }
}

/// The future passed to `run`, which is pinned by the caller and has no row in the task table.
struct Root<'a, F> {
    future: Pin<&'a mut F>,
    header: Arc<TaskWaker>,
    waker: Waker,
}

impl<'a, F: Future> Root<'a, F> {
    /// Prepares the first poll.
    fn new(state: &Loop, future: Pin<&'a mut F>) -> Self {
        let header = state.ready.waker(ROOT);
        let waker = Waker::from(Arc::clone(&header));
        waker.wake_by_ref();
        Root { future, header, waker }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        begin_poll(&self.header);
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::BytesMut;

    use super::*;
    use crate::net::Stream;

    /// Returns the number of allocations of a loop that runs `future` to completion.
    fn allocations_of<F: Future>(future: F) -> u64 {
        allocation_counter::measure(|| drop(run(future).unwrap())).count_total
    }

    /// Two tasks pass a byte back and forth, with a timer each time.
    async fn pass_a_byte(turns: usize) {
        let (mut near, mut far) = Stream::pair().unwrap();
        spawn(async move {
            let mut buffer = BytesMut::with_capacity(16);
            loop {
                buffer.clear();
                poll_fn(|context| far.poll_read_into(context, &mut buffer)).await.unwrap();
                let slice = [io::IoSlice::new(&buffer)];
                poll_fn(|context| far.poll_write_vectored(context, &slice)).await.unwrap();
            }
        })
        .detach();
        let mut buffer = BytesMut::with_capacity(16);
        for _ in 0..turns {
            let slice = [io::IoSlice::new(b"x")];
            poll_fn(|context| near.poll_write_vectored(context, &slice)).await.unwrap();
            buffer.clear();
            poll_fn(|context| near.poll_read_into(context, &mut buffer)).await.unwrap();
            time::timeout(Duration::from_secs(1), yield_now()).await.unwrap();
        }
    }

    #[test]
    fn turns_allocate_nothing() {
        // After about ten turns the tables have grown.
        assert_eq!(allocations_of(pass_a_byte(10)), allocations_of(pass_a_byte(1010)));
    }

    #[test]
    fn a_spawn_allocates_twice_and_an_end_without_output_never() {
        async fn spawn_two_at_a_time(rounds: usize) {
            for _ in 0..rounds {
                let task = spawn(yield_now());
                let now = spawn_now(yield_now());
                task.await;
                now.await;
            }
        }
        // The tables have grown after the first round.
        let first = allocations_of(spawn_two_at_a_time(1));
        assert_eq!(allocations_of(spawn_two_at_a_time(10)) - first, 9 * 4);
    }
}
