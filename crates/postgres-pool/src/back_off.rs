//! When to connect again after a failure: values in, values out.

use std::time::{Duration, Instant};

use crate::error::PoolError;

/// Whether connections can be opened. Without a failure, as many at once as there is need for; after one, a single
/// attempt, after a pause that doubles with each failure. Meanwhile callers get the last error at once.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    error: PoolError,
    pause: Duration,
    until: Instant,
    /// Whether somebody tries again.
    is_tried: bool,
}

impl BackOff {
    /// Asks for an attempt, whose result has to be reported.
    ///
    /// # Errors
    ///
    /// The last failure, if it is too early for another attempt, or one is being made.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), PoolError> {
        match &mut self.failure {
            None => Ok(()),
            Some(failure) if failure.is_tried || now < failure.until => Err(failure.error.clone()),
            Some(failure) => {
                failure.is_tried = true;
                Ok(())
            }
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.failure = None;
    }

    pub(crate) fn failed(&mut self, now: Instant, error: PoolError) {
        let pause = match &self.failure {
            Some(last) if last.is_tried => (last.pause * 2).min(MAX_PAUSE),
            // One of those that began before the first of them failed.
            Some(last) => last.pause,
            None => FIRST_PAUSE,
        };
        self.failure = Some(Failure { error, pause, until: now + pause, is_tried: false });
    }

    /// Reports that nobody waits for the attempt's result any longer.
    pub(crate) fn abandoned(&mut self) {
        if let Some(failure) = &mut self.failure {
            failure.is_tried = false;
        }
    }
}

/// About the time that PostgreSQL takes to restart.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How late the end of an outage may be noticed.
const MAX_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_at_a_time_after_a_failure() {
        let error = |max| PoolError::Busy { max };
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut back_off = BackOff::default();
        // Several at once, until one fails.
        back_off.begin(at(0)).unwrap();
        back_off.begin(at(0)).unwrap();
        back_off.failed(at(0), error(1));
        back_off.failed(at(10), error(2));
        assert_eq!(back_off.begin(at(109)), Err(error(2)));
        back_off.begin(at(110)).unwrap();
        assert_eq!(back_off.begin(at(111)), Err(error(2)));
        back_off.failed(at(120), error(3));
        assert_eq!(back_off.begin(at(319)), Err(error(3)));
        back_off.begin(at(320)).unwrap();
        back_off.abandoned();
        back_off.begin(at(321)).unwrap();
        let mut now = 330;
        for pause in [400, 800, 1000, 1000] {
            back_off.failed(at(now), error(4));
            now += pause;
            assert_eq!(back_off.begin(at(now - 1)), Err(error(4)));
            back_off.begin(at(now)).unwrap();
        }
        back_off.succeeded();
        back_off.begin(at(now)).unwrap();
        back_off.begin(at(now)).unwrap();
    }
}
