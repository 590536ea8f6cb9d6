//! Single values that the login stores, by name.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::password::Password;

/// The name of the hash of a password that the set-up page has set.
pub(super) const PASSWORD: &str = "password_hash";

/// Returns a value.
pub(super) fn fact(store: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    store.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Sets a value, or removes it.
pub(super) fn set_fact(
    store: &Transaction<'_>,
    name: &str,
    value: Option<&str>,
) -> rusqlite::Result<()> {
    match value {
        Some(value) => store.execute(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)",
            params![name, value],
        ),
        None => store.execute("DELETE FROM facts WHERE name = ?1", [name]),
    }
    .map(drop)
}

/// Returns the configured password, else the one of the set-up page.
pub(super) fn or_set_up(
    store: &Connection,
    configured: Option<Password>,
) -> rusqlite::Result<Option<Password>> {
    match configured {
        Some(password) => Ok(Some(password)),
        None => Ok(fact(store, PASSWORD)?.and_then(|hash| Password::from_hash(&hash).ok())),
    }
}
