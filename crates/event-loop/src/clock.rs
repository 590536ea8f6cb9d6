//! The clock of a loop: read at most once a turn, unless a wait is about to begin.

use std::cell::Cell;
use std::time::Instant;

use crate::counters::count;

/// The clock of one loop.
pub(crate) struct Clock {
    turn: Cell<Option<Instant>>,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Clock { turn: Cell::new(None) }
    }

    /// Forgets the time, for a new turn has begun.
    pub(crate) fn begin_turn(&self) {
        self.turn.set(None);
    }

    /// Returns the turn's time; reads the clock for the first who asks.
    pub(crate) fn now(&self) -> Instant {
        self.turn.get().unwrap_or_else(|| {
            let now = self.read();
            self.turn.set(Some(now));
            now
        })
    }

    /// Reads the clock.
    pub(crate) fn read(&self) -> Instant {
        count(|counters| &counters.clock_reads);
        Instant::now()
    }
}
