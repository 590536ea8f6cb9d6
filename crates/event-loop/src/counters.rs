//! Counters of what this thread's loop has done, for tests.
//!
//! Counting costs an addition to a thread-local number, no atomic operation and no allocation. Each
//! [`run`](crate::run) resets the counters; they can still be read after it.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// The loop's counters since the last [`run`](crate::run) started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$documentation])* pub $name: u64,)*
        }

        pub(crate) struct Cells {
            $(pub(crate) $name: Cell<u64>,)*
        }

        thread_local! {
            static CELLS: Cells = const { Cells { $($name: Cell::new(0),)* } };
        }

        impl Cells {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.get(),)* }
            }

            fn reset(&self) {
                $(self.$name.set(0);)*
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Calls of `epoll_wait(2)`.
    waits,
    /// Calls of `epoll_wait(2)` that were allowed to sleep, because nothing was ready to run.
    idle_waits,
    /// Events returned by `epoll_wait(2)`.
    events,
    /// Tasks spawned.
    spawned,
    /// Polls of tasks, including the future passed to `run`.
    polls,
    /// Tasks whose poll panicked.
    panics,
    /// Wakes by other threads.
    foreign_wakes,
    /// Reads of the clock.
    clock_reads,
    /// Timers set, including rescheduled ones.
    timers_set,
    /// Timers that fired.
    timers_fired,
    /// Descriptors added to the poll set.
    registrations,
    /// Changes of a descriptor's interest in the poll set.
    modifications,
    /// Descriptors removed from the poll set.
    deregistrations,
    /// Calls of `accept4(2)`.
    accepts,
    /// Calls of `accept4(2)` that found no connection.
    empty_accepts,
    /// Calls of `read(2)` on sockets and pipes.
    reads,
    /// Calls of `read(2)` that would have blocked.
    blocked_reads,
    /// Calls of `write(2)` and `writev(2)` on sockets and pipes.
    writes,
    /// Calls of `write(2)` and `writev(2)` that would have blocked.
    blocked_writes,
    /// Signals delivered to a listener.
    signals,
}

/// Returns what this thread's loop has done since its last [`run`](crate::run) started.
///
/// All zero on a thread that has never run a loop.
pub fn counters() -> Counters {
    CELLS.try_with(Cells::read).unwrap_or_default()
}

/// Adds one to a counter: `count(|counters| &counters.polls)`.
pub(crate) fn count(which: impl FnOnce(&Cells) -> &Cell<u64>) {
    count_many(1, which);
}

/// Adds `number` to a counter.
pub(crate) fn count_many(number: u64, which: impl FnOnce(&Cells) -> &Cell<u64>) {
    // Fails while the thread exits: nothing is counted then.
    let _ = CELLS.try_with(|cells| {
        let counter = which(cells);
        counter.set(counter.get().wrapping_add(number));
    });
}

/// Sets all counters to zero.
pub(crate) fn reset() {
    let _ = CELLS.try_with(Cells::reset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_resets() {
        reset();
        count(|counters| &counters.polls);
        count_many(3, |counters| &counters.polls);
        assert_eq!(counters(), Counters { polls: 4, ..Counters::default() });
        reset();
        assert_eq!(counters(), Counters::default());
    }
}
