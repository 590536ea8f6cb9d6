//! How long to wait before a worker that ended is replaced: values in, a duration out.

use std::time::Duration;

/// A worker that has lived this long started well: what ended it came later, and the next may start at
/// once.
const GOOD_START: Duration = Duration::from_secs(10);

/// The wait after the first failed start. It doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait. Once the cause is fixed, a worker starts within this time.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Counts failed starts in a row.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    bad_starts: u32,
}

impl BackOff {
    /// Records that a worker ended after `lifetime` without having been asked to. Returns how long to
    /// wait before the next is started.
    pub(super) fn ended(&mut self, lifetime: Duration) -> Duration {
        if lifetime >= GOOD_START {
            self.bad_starts = 0;
            return Duration::ZERO;
        }
        let wait = FIRST.saturating_mul(1 << self.bad_starts.min(16));
        self.bad_starts += 1;
        wait.min(MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_double_the_wait_and_a_good_start_resets_it() {
        let mut back_off = BackOff::default();
        let at_once = Duration::from_millis(5);
        let waits: Vec<u128> = (0..9).map(|_| back_off.ended(at_once).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(back_off.ended(GOOD_START), Duration::ZERO);
        assert_eq!(back_off.ended(at_once), FIRST);
        (0..100).for_each(|_| assert!(back_off.ended(at_once) <= MAX_WAIT));
        assert_eq!(back_off.ended(at_once), MAX_WAIT);
    }
}
