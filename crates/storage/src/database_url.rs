//! The URL of a database.

use std::fmt;
use std::str::FromStr;

use postgres_pool::{Pool, Settings};

use crate::error::StoreError;

/// Where a database of PostgreSQL's is, and how to log in: `postgres://USER:PASSWORD@HOST/DATABASE`.
///
/// [`Settings::from_url`](postgres_pool::Settings::from_url) says what it may contain. It is never shown. Stores that are
/// made from clones of one URL share its connections.
#[derive(Clone)]
pub struct DatabaseUrl {
    text: String,
    settings: Settings,
    pub(crate) pool: Pool,
}

impl DatabaseUrl {
    /// Sets the password, unless the URL has one.
    #[must_use]
    pub fn or_password(self, password: &str) -> Self {
        let DatabaseUrl { text, mut settings, .. } = self;
        settings.or_password(password);
        DatabaseUrl::new(text, settings)
    }

    fn new(text: String, settings: Settings) -> Self {
        let pool = Pool::new(settings.clone());
        DatabaseUrl { text, settings, pool }
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Ok(DatabaseUrl::new(text.to_owned(), Settings::from_url(text)?))
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &DatabaseUrl) -> bool {
        self.text == other.text
    }
}

impl Eq for DatabaseUrl {}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It has a password in it.
        formatter.debug_struct("DatabaseUrl").finish_non_exhaustive()
    }
}
