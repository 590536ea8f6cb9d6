//! How many messages of one kind are written: visitors cause some, and could fill a disk with them.
//!
//! Values and `now` in, a decision out. A kind is a place in the code that logs (tracing's call site), so the
//! number of kinds is fixed, and a flood of one hides no other.
//!
//! Each process counts for itself. *Absent on purpose*: a limit across processes, for plain CGI, where each
//! serves one request. It would need a file per kind in the log's folder, could not count what it suppresses
//! without another write, and would still let through processes that check at the same moment. `log_bytes`
//! limits them together.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Messages of one kind that may come in a burst …
const BURST: u32 = 100;

/// … and how long each further one has to wait: some 2 MiB a day of lines of 120 bytes.
const REFILL: Duration = Duration::from_secs(5);

/// What is known about each kind.
#[derive(Debug)]
pub(super) struct Rates<K>(HashMap<K, Budget>);

/// What one kind may still write.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// The time up to which refills are counted in `left`.
    refilled: Instant,
    suppressed: Suppressed,
}

/// Messages of one kind that were suppressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) count: u64,
    /// When the first of them came.
    pub(super) since: Option<Instant>,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Rates(HashMap::new())
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// Decides on a message: `None` to suppress it; otherwise how many before it were suppressed.
    pub(super) fn admit(&mut self, kind: K, now: Instant) -> Option<Suppressed> {
        let budget = self.0.entry(kind).or_insert(Budget {
            left: BURST,
            refilled: now,
            suppressed: Suppressed::default(),
        });
        budget.refill(now);
        if budget.left == 0 {
            budget.suppressed.count += 1;
            budget.suppressed.since.get_or_insert(now);
            return None;
        }
        budget.left -= 1;
        Some(std::mem::take(&mut budget.suppressed))
    }
}

impl Budget {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        let refills = u32::try_from(passed.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if refills >= BURST - self.left {
            self.left = BURST;
            self.refilled = now;
        } else {
            self.left += refills;
            self.refilled += REFILL * refills;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_messages_are_limited_and_the_suppressed_are_counted() {
        let mut rates = Rates::default();
        let begin = Instant::now();
        for _ in 0..BURST {
            assert_eq!(rates.admit("login", begin), Some(Suppressed::default()));
        }
        for _ in 0..7 {
            assert_eq!(rates.admit("login", begin), None);
        }
        assert_eq!(rates.admit("another", begin), Some(Suppressed::default()), "a kind of its own");
        let almost = begin + REFILL - Duration::from_millis(1);
        assert_eq!(rates.admit("login", almost), None);
        let admitted = rates.admit("login", begin + REFILL);
        assert_eq!(admitted, Some(Suppressed { count: 8, since: Some(begin) }));
        assert_eq!(rates.admit("login", begin + REFILL), None);
        // After a long pause, a burst is allowed again.
        let later = begin + REFILL * BURST * 2;
        let admitted = rates.admit("login", later);
        assert_eq!(admitted, Some(Suppressed { count: 1, since: Some(begin + REFILL) }));
        let written = (0..2 * BURST).filter(|_| rates.admit("login", later).is_some()).count();
        assert_eq!(written as u32, BURST - 1);
    }

    #[test]
    fn a_flood_of_a_day_writes_some_thousand_lines() {
        let mut rates = Rates::default();
        let begin = Instant::now();
        let moments = (0..86_400).flat_map(|second| [second; 10]);
        let written = moments
            .filter(|second| rates.admit((), begin + Duration::from_secs(*second)).is_some());
        assert_eq!(written.count() as u64, u64::from(BURST) + 86_399 / REFILL.as_secs());
    }
}
