//! The id of an exchange, as visitors and owners quote it.

use std::sync::Arc;

/// The id by which an exchange is found in the log.
///
/// The program sets it as a request extension; error pages show it, so that a visitor can tell the
/// owner which failure was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(Arc<str>);

impl Reference {
    /// Makes a reference of the id the log uses.
    pub fn new(id: &str) -> Self {
        Reference(id.into())
    }

    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
