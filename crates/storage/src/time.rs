//! Time as the store keeps it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time to store: seconds since 1970, in a column of type `BIGINT`.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
