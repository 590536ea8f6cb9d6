//! How long to wait before something that others were in the way of is tried again.

use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_loop::time::pause;

/// The first pause. Each one is twice as long as the one before, up to [`MAX`].
const FIRST: Duration = Duration::from_millis(1);

/// The longest pause.
const MAX: Duration = Duration::from_millis(40);

/// The pauses between attempts.
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Pauses { next: FIRST }
    }

    /// Waits, up to twice as long as it is this one's turn.
    pub(crate) async fn pause(&mut self) {
        pause(self.next + jitter(self.next)).await;
        self.next = (self.next * 2).min(MAX);
    }
}

/// Returns up to as much again, so that processes that were refused together do not retry together.
fn jitter(length: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let noise = now.map_or(0, |now| now.subsec_nanos()).wrapping_mul(process::id() | 1);
    length.mul_f64(f64::from(noise % 1024) / 1024.0)
}
