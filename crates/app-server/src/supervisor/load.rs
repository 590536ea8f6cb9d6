//! Whether there should be more workers or fewer: values in, a decision out.

use std::ops::RangeInclusive;

/// The processor's share of one worker in one second, in hundredths, from which it is busy.
const BUSY: u64 = 75;

/// All of them busy, or connections waiting with nobody to take them, for so many seconds in a row: one
/// more. A second may be a single large request.
const SECONDS_TO_GROW: u32 = 2;

/// The same work would leave one worker fewer half idle for so many seconds in a row: one fewer. Starting
/// one costs little, but each start and end disturbs.
const SECONDS_TO_SHRINK: u32 = 60;

/// What the last seconds were like.
#[derive(Debug, Default)]
pub(super) struct Load {
    crowded: u32,
    spare: u32,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadChange {
    /// Start one more.
    More,
    /// End one.
    Fewer,
}

impl Load {
    /// Takes in one second: the processor's share of each worker, in hundredths, whether connections waited
    /// at its end, and how many workers are to be started for others that ended. While there are any,
    /// nothing is changed: who waits then waits for them, and they may be held back because they die early.
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
    fn busy_workers_get_company_up_to_the_most() {
        assert_eq!(after(1, &[99], false), None);
        assert_eq!(after(2, &[99], false), Some(LoadChange::More));
        assert_eq!(after(2, &[99, 80], false), Some(LoadChange::More));
        assert_eq!(after(2, &[99, 10], false), None);
        assert_eq!(after(9, &[99, 99, 99], true), None);
    }

    #[test]
    fn connections_that_wait_count_as_load_whatever_the_processor_does() {
        assert_eq!(after(2, &[0], true), Some(LoadChange::More));
        assert_eq!(after(1, &[0], true), None);
    }

    #[test]
    fn idle_workers_leave_after_a_minute_down_to_the_least() {
        assert_eq!(after(59, &[0, 0], false), None);
        assert_eq!(after(60, &[0, 0], false), Some(LoadChange::Fewer));
        assert_eq!(after(60, &[20, 17], false), Some(LoadChange::Fewer));
        assert_eq!(after(60, &[20, 18], false), None);
        assert_eq!(after(600, &[0], false), None);
    }

    #[test]
    fn workers_that_die_early_are_not_multiplied_by_who_waits_for_them() {
        let mut load = Load::default();
        for _ in 0..100 {
            assert_eq!(load.observe(&[], true, 1, &(1..=3)), None);
        }
        // Only what waits although all are there counts.
        assert_eq!(load.observe(&[0], true, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[0], true, 0, &(1..=3)), Some(LoadChange::More));
    }

    #[test]
    fn one_calm_second_begins_the_count_anew() {
        let mut load = Load::default();
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[10], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), None);
        assert_eq!(load.observe(&[99], false, 0, &(1..=3)), Some(LoadChange::More));
    }
}
