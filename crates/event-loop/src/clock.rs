//! The clock of a loop: read at most once per turn, except right before a wait.

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

    /// Forgets the time at the start of a turn.
    pub(crate) fn begin_turn(&self) {
        self.turn.set(None);
    }

    /// Returns the turn's time; the first call in a turn reads the clock.
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
