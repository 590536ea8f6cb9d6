//! Ids of rows, made by the program, so that every engine has the same and several machines can make them at once.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Builder;

use crate::error::StoreError;

/// Returns an id that nothing else has, for a column of type `TEXT`: a UUID of version 7 (RFC 9562 §5.7), 36 characters.
/// Later ids are greater, to the millisecond and as far as clocks agree.
///
/// # Errors
///
/// If the system provides no random numbers.
pub fn new_id() -> Result<String, StoreError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Ok(Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_differ_and_are_in_the_order_of_time() {
        let ids: Vec<_> = (0..1000).map(|_| new_id().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1000);
        let last = ids.iter().max().unwrap();
        sleep(Duration::from_millis(2));
        assert!(new_id().unwrap() > *last);
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{last}");
    }
}
