//! An event loop and futures executor for one thread, without starting another.
//!
//! [`run`] builds the loop on the calling thread and runs a future to its end; [`spawn`] starts more.
//! Sockets are in [`net`], timers in [`time`], pipes in [`pipe`], signals in [`signals`]; sockets and pipes speak
//! the traits of `tokio::io` and `hyper::rt`, which need no runtime. Child processes are awaited with the crate
//! `process`.
//!
//! * **No thread is ever started**, and Linux 3.10 is enough.
//! * **Everything that can be awaited is `Send`**, without unsafe code: it holds ids into tables of the
//!   thread, not pointers. On another thread it finds no table. (A test keeps this.) Futures given to
//!   [`spawn`] need not be `Send`.
//! * **Wakers are `Send` and `Sync`**, as std demands: one inlet takes the wakes of other threads.
//! * **Fairness**: after [`POLLS_A_TURN`] polls the sockets are looked at again; a task that wakes itself
//!   goes to the end of the queue; and one whose sockets are always ready waits for its next turn after 32
//!   reads and writes.
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
//! This file is the loop itself: everything that can wake us is one closed enum, `Wakeup`, and a turn
//! goes through what there is of each. The state behind it is in `loop_state.rs`.
#![forbid(unsafe_code)]

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
pub use task::{Panic, Task, spawn, spawn_now, yield_now};
#[cfg(feature = "tokio")]
pub use tokio_host::run_in_tokio;

use loop_state::{Entered, Loop};
use reactor::{Occurrence, Readiness};
use ready_queue::{ROOT, TaskWaker, begin_poll};
use table::Key;

/// How many polls of tasks there are at most between two looks at the sockets.
///
/// A look costs about as much as a few polls, so that a smaller number would be felt; and 128 polls of
/// well-behaved tasks take some 100 µs, so that a larger one would. tokio looks after 61.
pub const POLLS_A_TURN: usize = 128;

/// Builds an event loop on this thread and runs it until `future` is done; then drops the tasks that are
/// left, and returns the output.
///
/// # Errors
///
/// When a loop runs on this thread already, or when the system refuses to wait (the first wait takes two
/// descriptors; a future that waits for nothing takes none). The future is dropped then.
///
/// # Panics
///
/// When `future` panics. Panics of spawned tasks stay in the task.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let state = Entered::new()?;
    let future = pin!(future);
    let mut root = Root::new(&state, future);
    loop {
        let patience = state.patience();
        if let Some(output) = state.turn(&mut root, patience)?.finished {
            return Ok(output);
        }
    }
}

/// Says whether a loop runs on this thread, so that what is awaited by it (timers, sockets) may be used.
pub fn is_running() -> bool {
    loop_state::with_current(|_| ()).is_some()
}

/// Everything that can wake the loop.
enum Wakeup {
    /// Another thread woke tasks.
    ForeignThread,
    /// A signal has come.
    Signal,
    /// A socket or pipe has something to tell.
    Readiness(Key, Readiness),
    /// A timer is due.
    Deadline(Waker),
    /// A task is ready to be polled.
    Task(Key),
    /// The future given to `run` is ready to be polled.
    Root,
}

impl Loop {
    /// One turn: wait, hear what happened, run what is ready.
    fn turn<F: Future>(
        &self,
        root: &mut Root<'_, F>,
        patience: Option<Duration>,
    ) -> io::Result<Turn<F::Output>> {
        let patience = self.hear_threads(patience)?;
        let events = self.reactor.look(patience, self.ready.is_empty())?;
        self.clock.begin_turn();
        counters::count(|counters| &counters.turns);

        let mut heard = false;
        let occurrences = events.iter().map(|event| {
            heard = true;
            Wakeup::from(Occurrence::from(event))
        });
        let deadlines = iter::from_fn(|| {
            let now = self.now_if_timers()?;
            self.timers.borrow_mut().pop_due(now).map(Wakeup::Deadline)
        });
        let ready = iter::from_fn(|| self.ready.pop().map(Wakeup::from)).take(POLLS_A_TURN);

        // Each part is asked only when the one before has nothing more.
        let mut finished = None;
        for wakeup in occurrences.chain(deadlines).chain(ready) {
            match wakeup {
                Wakeup::ForeignThread => self.ready.take_arrivals(),
                Wakeup::Signal => self.signals.deliver(),
                Wakeup::Readiness(key, readiness) => self.reactor.note(key, readiness),
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
        Ok(Turn { finished, heard })
    }
}

/// What a turn has led to.
struct Turn<T> {
    /// The output of the future given to `run`.
    finished: Option<T>,
    /// There was an event, and there may be more.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    heard: bool,
}

impl From<Occurrence> for Wakeup {
    fn from(occurrence: Occurrence) -> Self {
        match occurrence {
            Occurrence::Inlet => Wakeup::ForeignThread,
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

/// The future given to `run`, which stays where it is and is no row of the task table.
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

    /// Allocations of a loop that runs `future` from its start to its end.
    fn allocations_of<F: Future>(future: F) -> u64 {
        allocation_counter::measure(|| drop(run(future).unwrap())).count_total
    }

    /// Some turns of two tasks that throw a byte to one another, with a sleep each.
    async fn throw_a_byte(turns: usize) {
        let (mut near, mut far) = Stream::pair().unwrap();
        spawn(async move {
            let mut buffer = BytesMut::with_capacity(16);
            loop {
                buffer.clear();
                poll_fn(|cx| far.poll_read_into(cx, &mut buffer)).await.unwrap();
                let slice = [io::IoSlice::new(&buffer)];
                poll_fn(|cx| far.poll_write_vectored(cx, &slice)).await.unwrap();
            }
        })
        .detach();
        let mut buffer = BytesMut::with_capacity(16);
        for _ in 0..turns {
            let slice = [io::IoSlice::new(b"x")];
            poll_fn(|cx| near.poll_write_vectored(cx, &slice)).await.unwrap();
            buffer.clear();
            poll_fn(|cx| near.poll_read_into(cx, &mut buffer)).await.unwrap();
            time::timeout(Duration::from_secs(1), yield_now()).await.unwrap();
        }
    }

    #[test]
    fn turns_allocate_nothing() {
        // After some ten the tables have grown.
        assert_eq!(allocations_of(throw_a_byte(10)), allocations_of(throw_a_byte(1010)));
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
