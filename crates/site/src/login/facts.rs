//! Single values that the login stores, by name.

use std::borrow::Cow;

use storage::{Snapshot, StoreError, Transaction, params};

use crate::password::Password;

/// The name of the hash of a password that the set-up page has set.
pub(super) const PASSWORD: &str = "password_hash";

/// Returns a value.
pub(super) async fn fact(store: &Snapshot<'_>, name: &str) -> Result<Option<String>, StoreError> {
    store.query_opt("SELECT value FROM facts WHERE name = $1", params![name]).await
}

/// Sets a value, or removes it.
pub(super) async fn set_fact(
    store: &Transaction<'_>,
    name: &str,
    value: Option<&str>,
) -> Result<(), StoreError> {
    match value {
        Some(value) => {
            store
                .execute(
                    "INSERT INTO facts (name, value) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    params![name, value],
                )
                .await
        }
        None => store.execute("DELETE FROM facts WHERE name = $1", params![name]).await,
    }
    .map(drop)
}

/// Returns the configured password, else the one of the set-up page.
pub(super) async fn or_set_up<'p>(
    store: &Snapshot<'_>,
    configured: Option<&'p Password>,
) -> Result<Option<Cow<'p, Password>>, StoreError> {
    if let Some(password) = configured {
        return Ok(Some(Cow::Borrowed(password)));
    }
    Ok(set_up_password(store).await?.map(Cow::Owned))
}

/// Returns the password of the set-up page.
pub(super) async fn set_up_password(store: &Snapshot<'_>) -> Result<Option<Password>, StoreError> {
    let hash = fact(store, PASSWORD).await?;
    Ok(hash.and_then(|hash| Password::from_hash(&hash).ok()))
}
