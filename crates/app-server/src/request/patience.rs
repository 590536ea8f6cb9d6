//! How long a peer may keep the server waiting: neither with one long pause nor forever, one byte at a
//! time.
//!
//! [`Pace`] reads no clock and knows no socket; [`Alarm`] and [`Patience`] wake a task when time is up.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use event_loop::time::{self, Sleep};

/// How much time a peer has left before it is too slow.
///
/// It starts with its full patience. Time spent waiting for it is subtracted; each byte earns back the
/// time that a byte takes at the minimum rate, up to the full patience. Silence therefore ends after the
/// patience and a trickle soon after, while a sender that keeps the rate may pause again and again. Time
/// during which nothing is awaited is free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    patience: Duration,
    /// Bytes per second. 0: any byte earns back the full patience.
    min_rate: u32,
    left: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(patience: Duration, min_rate: u32) -> Self {
        Pace { patience, min_rate, left: patience, waiting_since: None }
    }

    /// Starts waiting, unless already waiting. Returns the deadline.
    pub(crate) fn wait(&mut self, now: Instant) -> Instant {
        *self.waiting_since.get_or_insert(now) + self.left
    }

    /// Stops waiting for now.
    pub(crate) fn pause(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
    }

    /// Records that bytes arrived or were read.
    #[inline]
    pub(crate) fn progress(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if !self.is_full() {
            self.earn(bytes, now());
        }
    }

    /// Whether the peer has its full patience again, and nothing is awaited.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting_since.is_none() && self.left == self.patience
    }

    fn earn(&mut self, bytes: usize, now: Instant) {
        self.pause(now);
        self.left = match self.min_rate {
            0 => self.patience,
            rate => {
                let earned = Duration::from_secs_f64(bytes as f64 / f64::from(rate));
                (self.left + earned).min(self.patience)
            }
        };
    }

    /// How far behind the peer is: how much of the patience it has used up.
    pub(crate) fn behind(&self, now: Instant) -> Duration {
        let waited = self
            .waiting_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since).min(self.left));
        self.patience - self.left + waited
    }
}

/// Wakes a task at a deadline that usually moves before it is reached. The timer is reset only after it
/// fired or if it would fire too late.
#[derive(Default)]
pub(crate) struct Alarm(Option<Sleep>);

impl Alarm {
    pub(crate) fn stop(&mut self) {
        self.0 = None;
    }

    /// Whether the deadline has passed; if not, wakes the context when it has.
    pub(crate) fn poll_past(&mut self, context: &mut Context<'_>, deadline: Instant) -> bool {
        loop {
            let sleep = match &mut self.0 {
                Some(sleep) if sleep.deadline() <= deadline => sleep,
                other => other.insert(time::sleep_until(deadline)),
            };
            if Future::poll(Pin::new(sleep), context).is_pending() {
                return false;
            }
            self.0 = None;
            if time::now() >= deadline {
                return true;
            }
        }
    }
}

/// A [`Pace`] with its alarm.
pub(crate) struct Patience {
    pace: Pace,
    alarm: Alarm,
}

impl Patience {
    pub(crate) fn new(limit: Duration, min_rate: u32) -> Self {
        Patience { pace: Pace::new(limit, min_rate), alarm: Alarm::default() }
    }

    /// How long the peer may be silent.
    pub(crate) fn limit(&self) -> Duration {
        self.pace.patience
    }

    /// Records that bytes arrived or were read.
    pub(crate) fn progress(&mut self, bytes: usize) {
        self.pace.progress(bytes, time::now);
    }

    /// Stops waiting for now.
    pub(crate) fn pause(&mut self) {
        self.pace.pause(time::now());
    }

    /// Whether waiting has taken too long; if not, wakes the context when it has.
    pub(crate) fn poll_over(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.pace.wait(time::now());
        self.alarm.poll_past(context, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sender does, as (seconds of waiting, bytes that then arrive), and after how many seconds it
    /// is too slow, if ever. Patience is 60 s, the rate 100 bytes/s.
    #[test]
    fn detects_slow_senders() {
        let phone = [(15, 2048), (1, 2048)].repeat(500);
        let bursts = [(59, 6000)].repeat(500);
        type Steps<'a> = &'a [(u64, usize)];
        let cases: [(&str, Steps<'_>, Option<u64>); 8] = [
            ("silence", &[], Some(60)),
            ("silence after much", &[(1, 1 << 30)], Some(61)),
            ("a byte in 10 s", &[(10, 1)].repeat(500), Some(60)),
            ("a byte a second", &[(1, 1)].repeat(5000), Some(60)),
            ("half the rate", &[(1, 50)].repeat(5000), Some(119)),
            ("the rate", &[(1, 100)].repeat(5000), None),
            ("a phone: 2 KiB/s and pauses of 15 s", &phone, None),
            ("long pauses between bursts", &bursts, None),
        ];
        for (name, steps, expected) in cases {
            let start = Instant::now();
            let (mut pace, mut now) = (Pace::new(Duration::from_secs(60), 100), start);
            let mut end = None;
            for (seconds, bytes) in steps {
                let (deadline, next) = (pace.wait(now), now + Duration::from_secs(*seconds));
                if deadline <= next {
                    end = Some(deadline);
                    break;
                }
                now = next;
                pace.progress(*bytes, || now);
            }
            if expected.is_some() {
                end = end.or_else(|| Some(pace.wait(now)));
            }
            let end = end.map(|end| end.duration_since(start).as_secs());
            assert_eq!(end, expected, "{name}");
        }
    }

    #[test]
    fn time_not_spent_waiting_is_free() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(Duration::from_secs(60), 100);
        assert_eq!(pace.wait(at(0)), at(60));
        pace.pause(at(20));
        assert_eq!(pace.behind(at(500)), Duration::from_secs(20));
        assert_eq!(pace.wait(at(1000)), at(1040));
        assert_eq!(pace.behind(at(1010)), Duration::from_secs(30));
        pace.progress(1000, || at(1010));
        assert_eq!(pace.behind(at(2000)), Duration::from_secs(20));
        let mut any_byte = Pace::new(Duration::from_secs(60), 0);
        any_byte.wait(at(0));
        any_byte.progress(1, || at(59));
        assert_eq!(any_byte.wait(at(59)), at(119));
    }
}
