//! The time as the login's tables keep it.

pub(super) use storage::now;

/// Seconds since 1970.
pub(crate) type Seconds = i64;
