//! What this thread's loop has done so far, in plain numbers.
//!
//! Every file of the crate counts here; tests read. Counting costs an addition to
//! a thread-local number, no atomic and no allocation. The numbers start at zero with each
//! [`run`](crate::run) and can still be read after it.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// A reading of the loop's counters; all of them count since the last [`run`](crate::run) began.
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
    /// Looks at the sockets: calls of `epoll_wait(2)`.
    waits,
    /// Looks that were allowed to sleep, for nothing was ready to run.
    idle_waits,
    /// Events that `epoll_wait(2)` brought.
    events,
    /// Tasks spawned.
    spawned,
    /// Polls of tasks, the future given to `run` included.
    polls,
    /// Tasks whose poll panicked.
    panics,
    /// Wakes that came from another thread.
    foreign_wakes,
    /// Readings of the clock.
    clock_reads,
    /// Timers set, moved ones included.
    timers_set,
    /// Timers that came due.
    timers_fired,
    /// Descriptors added to the poll set.
    registrations,
    /// Changes of what is asked of a descriptor in the poll set.
    modifications,
    /// Descriptors taken out of the poll set.
    deregistrations,
    /// Calls of `accept4(2)`.
    accepts,
    /// Calls of `accept4(2)` that found no connection waiting.
    accepts_in_vain,
    /// Calls of `read(2)` on sockets and pipes.
    reads,
    /// Calls of `read(2)` that would have blocked.
    reads_in_vain,
    /// Calls of `write(2)` and `writev(2)` on sockets and pipes.
    writes,
    /// Calls of `write(2)` and `writev(2)` that would have blocked.
    writes_in_vain,
    /// Signals that were handed to a listener.
    signals,
}

/// Returns what this thread's loop has done since its last [`run`](crate::run) began.
///
/// All zero on a thread that never ran a loop.
pub fn counters() -> Counters {
    CELLS.try_with(Cells::read).unwrap_or_default()
}

/// Adds one to a counter: `count(|counters| &counters.polls)`.
pub(crate) fn count(which: impl FnOnce(&Cells) -> &Cell<u64>) {
    count_many(1, which);
}

/// Adds `number` to a counter.
pub(crate) fn count_many(number: u64, which: impl FnOnce(&Cells) -> &Cell<u64>) {
    // A thread at its end counts no more.
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
