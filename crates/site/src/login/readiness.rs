//! Whether this machine can use what the site keeps: what a load balancer wants to know (`/readyz`).
//!
//! A server that restarts is away from all machines at once. If all became unready together, a moment without logins
//! would be a moment without a site; so a machine that was ready stays so for [`GRACE`]. A key that is not that of
//! the other machines does not go away by itself and counts at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_loop::time::timeout;

/// How long the store may be away before a machine that was ready is no longer: more than a server's restart takes.
const GRACE: Duration = Duration::from_secs(15);

/// How long an answer counts, so that many load balancers cost the store no more than one.
const FRESH: Duration = Duration::from_secs(1);

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    looked_at: Option<Instant>,
    worked_at: Option<Instant>,
    is_ready: bool,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Everything works.
    Works,
    /// The store does not answer.
    Unreachable,
    /// This machine is not set up to be one of the site's.
    Unusable,
}

impl Readiness {
    /// Returns whether this machine is ready, by `look` if the last one was a while ago. `look` logs what is wrong.
    pub(super) async fn ask(&self, look: impl Future<Output = Found>) -> bool {
        if let Some(is_ready) = self.state().fresh(Instant::now()) {
            return is_ready;
        }
        let found = timeout(PATIENCE, look).await.unwrap_or(Found::Unreachable);
        self.state().learn(found, Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the last answer if it still counts. Otherwise the caller looks, and meanwhile it counts for others.
    fn fresh(&mut self, now: Instant) -> Option<bool> {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        if self.looked_at.is_some_and(is_fresh) {
            return Some(self.is_ready);
        }
        self.looked_at = Some(now);
        None
    }

    fn learn(&mut self, found: Found, now: Instant) -> bool {
        let was_ready = self.is_ready;
        let in_grace = |at: Instant| now.saturating_duration_since(at) < GRACE;
        self.is_ready = match found {
            Found::Works => true,
            Found::Unreachable => self.worked_at.is_some_and(in_grace),
            Found::Unusable => false,
        };
        if found == Found::Works {
            self.worked_at = Some(now);
        }
        match (was_ready, self.is_ready) {
            (true, false) => tracing::error!(
                "No longer ready: load balancers that ask /readyz send nothing more."
            ),
            (false, true) if self.worked_at.is_some() => tracing::info!("Ready."),
            _ => {}
        }
        self.looked_at = Some(now);
        self.is_ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_the_server_makes_no_machine_unready() {
        use Found::*;
        let start = Instant::now();
        let mut state = State::default();
        for (second, found, expected) in [
            (0, Unreachable, false),
            (2, Works, true),
            (4, Unreachable, true),
            (16, Unreachable, true),
            (18, Unreachable, false),
            (20, Works, true),
            (22, Unusable, false),
            (24, Unreachable, true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(state.fresh(now), None, "{second}");
            assert_eq!(state.learn(found, now), expected, "{second}");
            assert_eq!(state.fresh(now + Duration::from_millis(900)), Some(expected));
        }
    }
}
