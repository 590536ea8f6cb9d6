//! Whether there should be more or fewer workers: values in, a decision out.

use std::ops::RangeInclusive;

/// From this share of a processor, in hundredths over one second, a worker is busy.
const BUSY: u64 = 75;

/// Add a worker after all workers have been busy, or connections have waited unaccepted, for this many
/// seconds in a row. A single large request may take a second.
const SECONDS_TO_GROW: u32 = 2;

/// Remove a worker when one fewer would have been half idle for this many seconds in a row. Starting one
/// is cheap, but each start and exit disturbs.
const SECONDS_TO_SHRINK: u32 = 60;

/// What the last seconds were like.
#[derive(Debug, Default)]
pub(super) struct Load {
    crowded: u32,
    spare: u32,
}

/// What to do about the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadChange {
    /// Start one more.
    More,
    /// End one.
    Fewer,
}

impl Load {
    /// Records one second: each worker's share of a processor, in hundredths; whether connections were
    /// waiting at its end; and how many replacements are still to be started. While there are any,
    /// nothing changes: connections are waiting for those, and they may be delayed because workers die
    /// early.
    pub(super) fn observe(
        &mut self,
        shares: &[u64],
        waiting: bool,
        to_be_replaced: usize,
        allowed: &RangeInclusive<usize>,
    ) -> Option<LoadChange> {
        if to_be_replaced > 0 {
            *self = Load::default();
            return None;
        }
        let count = shares.len();
        let total: u64 = shares.iter().sum();
        let is_crowded = waiting || (count > 0 && shares.iter().all(|share| *share >= BUSY));
        let is_spare = !waiting && count > 1 && total * 2 < (count as u64 - 1) * BUSY;
        self.crowded = if is_crowded { self.crowded + 1 } else { 0 };
        self.spare = if is_spare { self.spare + 1 } else { 0 };
        if self.crowded >= SECONDS_TO_GROW && count < *allowed.end() {
            *self = Load::default();
            return Some(LoadChange::More);
        }
        if self.spare >= SECONDS_TO_SHRINK && count > *allowed.start() {
            *self = Load::default();
            return Some(LoadChange::Fewer);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u32, shares: &[u64], waiting: bool) -> Option<LoadChange> {
        let mut load = Load::default();
        (0..seconds).fold(None, |_, _| load.observe(shares, waiting, 0, &(1..=3)))
    }

    #[test]
    fn busy_workers_are_added_up_to_the_maximum() {
        assert_eq!(after(1, &[99], false), None);
        assert_eq!(after(2, &[99], false), Some(LoadChange::More));
        assert_eq!(after(2, &[99, 80], false), Some(LoadChange::More));
        assert_eq!(after(2, &[99, 10], false), None);
        assert_eq!(after(9, &[99, 99, 99], true), None);
    }

    #[test]
    fn waiting_connections_count_as_load() {
        assert_eq!(after(2, &[0], true), Some(LoadChange::More));
        assert_eq!(after(1, &[0], true), None);
    }

    #[test]
    fn idle_workers_stop_after_a_minute_down_to_the_minimum() {
        assert_eq!(after(59, &[0, 0], false), None);
        assert_eq!(after(60, &[0, 0], false), Some(LoadChange::Fewer));
        assert_eq!(after(60, &[20, 17], false), Some(LoadChange::Fewer));
        assert_eq!(after(60, &[20, 18], false), None);
        assert_eq!(after(600, &[0], false), None);
    }

    #[test]
    fn waiting_connections_do_not_multiply_workers_that_die_early() {
        let mut load = Load::default();
        for _ in 0..100 {
            assert_eq!(load.observe(&[], true, 1, &(1..=3)), None);
        }
        // Waiting counts only while all workers are running.
        assert_eq!(load.observe(&[0], true, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[0], true, 0, &(1..=3)), Some(LoadChange::More));
    }

    #[test]
    fn one_calm_second_resets_the_count() {
        let mut load = Load::default();
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[10], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), Some(LoadChange::More));
    }
}
