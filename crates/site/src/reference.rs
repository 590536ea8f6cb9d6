//! The id of a failure, as visitors and owners quote it.

/// Makes ids by which failures are found in the log.
///
/// The program sets it as a request extension, so that the site's failures are named as the server's
/// own are. A failure that is the site's (5xx) gets an id in its page and in the log; a visitor's slip
/// (4xx) needs none.
#[derive(Clone, Copy, Debug)]
pub struct References(pub fn() -> String);
