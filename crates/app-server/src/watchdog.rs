//! The watchdog: an application that computes for too long in the server's own process keeps everybody
//! waiting, and nothing but a signal gets through to it.
//!
//! What happens then is the crash guard's: 504 for whoever was running, 503 for the others, one line in the
//! log, and the program starts anew in the same process. The timer is `event_loop::fatal::watch`.

use std::io;
use std::time::Duration;

use event_loop::fatal::{self, Watch};

/// Begins to watch, if there is a limit. It is rounded up to whole seconds.
pub(crate) fn begin(limit: Option<Duration>) -> io::Result<Option<Watch>> {
    let Some(limit) = limit else { return Ok(None) };
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    fatal::watch(u32::try_from(seconds).unwrap_or(u32::MAX))
}
