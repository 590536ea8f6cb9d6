//! Deadlines and the wakers to wake at them. Reads no clock: the time is an argument.
//!
//! An indexed binary heap: setting, changing and removing a timer take O(log n) comparisons and no allocation once
//! the heap has grown; the next deadline is the first entry. `time.rs` has the futures; the turn of the loop pops
//! the timers that are due.

use std::task::Waker;
use std::time::Instant;

use crate::table::{Key, Table};

/// All timers of one loop.
#[derive(Debug)]
pub(crate) struct Timers {
    /// `heap[0]` is the earliest; `heap[(i - 1) / 2].deadline <= heap[i].deadline`.
    heap: Vec<Entry>,
    rows: Table<TimerRow>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    key: Key,
}

#[derive(Debug)]
struct TimerRow {
    /// The index of the timer's entry: `heap[position].key` is the row's key.
    position: usize,
    waker: Waker,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers { heap: Vec::new(), rows: Table::new() }
    }

    /// Sets a timer.
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> Key {
        let position = self.heap.len();
        let key = self.rows.insert(TimerRow { position, waker });
        self.heap.push(Entry { deadline, key });
        self.sift_up(position);
        key
    }

    /// Changes a timer's deadline; returns whether the timer still exists.
    pub(crate) fn set_deadline(&mut self, key: Key, deadline: Instant) -> bool {
        let Some(row) = self.rows.get(key) else { return false };
        let position = row.position;
        self.heap[position].deadline = deadline;
        self.sift_up(position);
        self.sift_down(position);
        true
    }

    /// Returns whether the timer wakes the same task as `waker`; `None` if it no longer exists.
    pub(crate) fn will_wake(&self, key: Key, waker: &Waker) -> Option<bool> {
        Some(self.rows.get(key)?.waker.will_wake(waker))
    }

    /// Replaces the timer's waker; returns the one to be dropped.
    pub(crate) fn replace_waker(&mut self, key: Key, waker: Waker) -> Waker {
        match self.rows.get_mut(key) {
            Some(row) => std::mem::replace(&mut row.waker, waker),
            None => waker,
        }
    }

    /// Removes a timer; returns its waker to be dropped, or `None` if it no longer exists.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Waker> {
        let row = self.rows.remove(key)?;
        self.heap.swap_remove(row.position);
        if row.position < self.heap.len() {
            self.record_position(row.position);
            self.sift_up(row.position);
            self.sift_down(row.position);
        }
        Some(row.waker)
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        Some(self.heap.first()?.deadline)
    }

    /// Removes the earliest timer if its deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.heap.first()?;
        if first.deadline > now {
            return None;
        }
        self.remove(first.key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].deadline <= self.heap[position].deadline {
                break;
            }
            self.heap.swap(parent, position);
            self.record_position(position);
            position = parent;
        }
        self.record_position(position);
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            let Some(left_entry) = self.heap.get(left) else { break };
            let earlier = match self.heap.get(left + 1) {
                Some(right_entry) if right_entry.deadline < left_entry.deadline => left + 1,
                _ => left,
            };
            if self.heap[position].deadline <= self.heap[earlier].deadline {
                break;
            }
            self.heap.swap(position, earlier);
            self.record_position(position);
            position = earlier;
        }
        self.record_position(position);
    }

    fn record_position(&mut self, position: usize) {
        if let Some(row) = self.rows.get_mut(self.heap[position].key) {
            row.position = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pop_all(timers: &mut Timers, now: Instant) -> usize {
        std::iter::from_fn(|| timers.pop_due(now)).count()
    }

    fn check_order(timers: &Timers) {
        for (position, entry) in timers.heap.iter().enumerate() {
            assert!(timers.heap[position.saturating_sub(1) / 2].deadline <= entry.deadline);
            assert_eq!(timers.rows.get(entry.key).unwrap().position, position);
        }
        assert_eq!(timers.heap.len(), timers.rows.len());
    }

    #[test]
    fn due_timers_are_popped_and_others_stay() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for milliseconds in [30, 10, 20, 10] {
            timers.insert(start + Duration::from_millis(milliseconds), Waker::noop().clone());
        }
        assert_eq!(timers.next_deadline(), Some(start + Duration::from_millis(10)));
        assert_eq!(pop_all(&mut timers, start), 0);
        assert_eq!(pop_all(&mut timers, start + Duration::from_millis(10)), 2);
        assert_eq!(timers.next_deadline(), Some(start + Duration::from_millis(20)));
        assert_eq!(pop_all(&mut timers, start + Duration::from_secs(1)), 2);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_fired_timer_is_not_found_by_its_key() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let key = timers.insert(start, Waker::noop().clone());
        assert!(timers.will_wake(key, Waker::noop()).is_some());
        assert!(timers.pop_due(start).is_some());
        assert_eq!(timers.will_wake(key, Waker::noop()), None);
        assert!(!timers.set_deadline(key, start));
        assert!(timers.remove(key).is_none());
    }

    /// Any mixture of insertions, changes and removals keeps the heap in order.
    #[test]
    fn ten_thousand_random_operations() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut keys = Vec::new();
        // A xorshift generator: the same operations in each run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for step in 0..10_000 {
            let deadline = start + Duration::from_millis(random(1_000));
            match random(3) {
                0 if !keys.is_empty() => {
                    let key = keys.swap_remove(random(keys.len() as u64) as usize);
                    assert!(timers.remove(key).is_some());
                }
                1 if !keys.is_empty() => {
                    assert!(
                        timers.set_deadline(keys[random(keys.len() as u64) as usize], deadline)
                    );
                }
                _ => keys.push(timers.insert(deadline, Waker::noop().clone())),
            }
            if step % 100 == 0 {
                check_order(&timers);
            }
        }
        let mut last = start;
        while let Some(deadline) = timers.next_deadline() {
            assert!(last <= deadline);
            last = deadline;
            assert!(timers.pop_due(deadline).is_some());
        }
        assert!(timers.is_empty());
    }
}
