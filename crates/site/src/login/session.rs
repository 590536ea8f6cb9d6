//! Sessions: who is the owner, since when, and until when.
//!
//! The cookie holds a random number, the store its hash and a proof that the password is still the one the session was
//! started with. So a session ends by logging out, when it is too old or idle for too long, and when the password
//! changes; the owner can end all of them.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use storage::{FromRow, Row, Snapshot, StoreError, Transaction, params};
use subtle::ConstantTimeEq;

use super::clock::Seconds;
use super::events::Origin;
use super::secrets::Secrets;
use crate::password::Password;
use crate::random::{NoRandomness, random};

/// How often a session's last use is recorded: not on every request.
const SEEN_EVERY: Seconds = 300;

/// How many sessions are kept; the oldest go first. An owner has a few browsers.
const MAX_SESSIONS: i64 = 100;

/// A session of the owner.
#[derive(Debug)]
pub(crate) struct Session {
    hash: Vec<u8>,
    number: String,
    /// When its last use was recorded.
    seen: Seconds,
    started: Seconds,
    /// The token in the owner's forms.
    pub(crate) token: Arc<str>,
}

/// How long a session lasts, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Without any request.
    pub(crate) idle: Seconds,
    /// In total.
    pub(crate) max: Seconds,
}

impl Session {
    /// Starts a session under a number that was never used before.
    pub(crate) async fn start(
        store: &Transaction<'_>,
        number: &str,
        proof: &[u8],
        now: Seconds,
        lifetime: Lifetime,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        store
            .execute(
                "UPDATE sessions SET begun = CASE WHEN begun > $1 THEN $1 ELSE begun END,
                     seen = CASE WHEN seen > $1 THEN $1 ELSE seen END
                 WHERE begun > $1 OR seen > $1",
                params![now],
            )
            .await?;
        store
            .execute(
                "DELETE FROM sessions WHERE begun <= $1 OR seen <= $2",
                params![now - lifetime.max, now - lifetime.idle],
            )
            .await?;
        store
            .execute(
                "INSERT INTO sessions (id, proof, begun, seen, browser, address)
                 VALUES ($1, $2, $3, $3, $4, $5)",
                params![hash(number), proof, now, origin.browser, origin.address],
            )
            .await?;
        store
            .execute(
                "DELETE FROM sessions WHERE id NOT IN
                 (SELECT id FROM sessions ORDER BY begun DESC, id LIMIT $1)",
                params![MAX_SESSIONS],
            )
            .await?;
        Ok(())
    }

    /// Finds the session of this number, if it is still valid.
    pub(crate) async fn find(
        store: &Snapshot<'_>,
        number: &str,
        proof: &[u8],
        now: Seconds,
        lifetime: Lifetime,
        secrets: &Secrets,
    ) -> Result<Option<Session>, StoreError> {
        let hash = hash(number);
        let find = "SELECT proof, begun, seen FROM sessions WHERE id = $1";
        let row: Option<(Vec<u8>, Seconds, Seconds)> = store.query_opt(find, params![hash]).await?;
        Ok(row.and_then(|(stored_proof, started, seen)| {
            // A clock that was briefly ahead must not extend anything.
            let started = started.min(now);
            let is_fresh = now - seen < lifetime.idle && now - started < lifetime.max;
            (is_fresh && bool::from(stored_proof.ct_eq(proof))).then(|| Session {
                token: secrets.code("form", number.as_bytes()).into(),
                number: number.to_owned(),
                hash,
                seen,
                started,
            })
        }))
    }

    /// Returns whether its use is to be recorded again, or the last record is in the future.
    pub(crate) fn is_due(&self, now: Seconds) -> bool {
        self.seen > now || now - self.seen >= SEEN_EVERY
    }

    /// Records that it was used.
    pub(crate) async fn record_use(
        &self,
        store: &Transaction<'_>,
        now: Seconds,
    ) -> Result<(), StoreError> {
        store
            .execute(
                "UPDATE sessions SET seen = $2, begun = CASE WHEN begun > $2 THEN $2 ELSE begun END
                 WHERE id = $1",
                params![self.hash, now],
            )
            .await?;
        Ok(())
    }

    /// Returns for how many seconds its cookie is valid.
    pub(crate) fn seconds_left(&self, now: Seconds, lifetime: Lifetime) -> Seconds {
        lifetime.idle.min(self.started + lifetime.max - now).max(0)
    }

    /// Returns the number in the cookie.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// Returns what identifies it in the list.
    pub(crate) fn id(&self) -> String {
        BASE64URL_NOPAD.encode(&self.hash)
    }

    /// Ends it.
    pub(crate) async fn end(&self, store: &Transaction<'_>) -> Result<(), StoreError> {
        end(store, &self.number).await
    }

    /// Ends all others.
    pub(crate) async fn end_others(&self, store: &Transaction<'_>) -> Result<(), StoreError> {
        store.execute("DELETE FROM sessions WHERE id <> $1", params![self.hash]).await?;
        Ok(())
    }

    /// Stores a pending value with the session, or removes it.
    pub(crate) async fn set_pending(
        &self,
        store: &Transaction<'_>,
        what: Option<&str>,
    ) -> Result<(), StoreError> {
        store
            .execute("UPDATE sessions SET pending = $2 WHERE id = $1", params![self.hash, what])
            .await?;
        Ok(())
    }

    /// Returns the session's pending value.
    pub(crate) async fn pending(&self, store: &Snapshot<'_>) -> Result<Option<String>, StoreError> {
        let find = "SELECT pending FROM sessions WHERE id = $1";
        let found: Option<Option<String>> = store.query_opt(find, params![self.hash]).await?;
        Ok(found.flatten())
    }
}

/// Returns the proof of the password that a session stores. It shows whether the password is still the one the session
/// was started with, costs one HMAC, and reveals nothing to anybody without the secret key.
pub(crate) fn proof_of(password: &Password, secrets: &Secrets) -> Vec<u8> {
    let (purpose, bytes) = password.identity();
    secrets.mac(purpose, &bytes)
}

/// Generates the number of a new session: 256 random bits.
pub(crate) fn new_number() -> Result<String, NoRandomness> {
    Ok(BASE64URL_NOPAD.encode(&random::<32>()?))
}

/// Ends the session of this number, if there is one.
pub(crate) async fn end(store: &Transaction<'_>, number: &str) -> Result<(), StoreError> {
    store.execute("DELETE FROM sessions WHERE id = $1", params![hash(number)]).await?;
    Ok(())
}

/// Ends all sessions.
pub(crate) async fn end_all(store: &Transaction<'_>) -> Result<(), StoreError> {
    store.execute("DELETE FROM sessions", &[]).await?;
    Ok(())
}

/// A session as its owner sees it.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Identifies it in a form; the cookie's number cannot be derived from it.
    pub(crate) id: String,
    pub(crate) origin: Origin,
    pub(crate) started: Seconds,
    /// When its last use was recorded.
    pub(crate) seen: Seconds,
}

/// Returns all sessions, the most recently used first.
pub(crate) async fn list(
    store: &Snapshot<'_>,
    proof: &[u8],
    now: Seconds,
    lifetime: Lifetime,
) -> Result<Vec<Listed>, StoreError> {
    let list = "SELECT id, browser, address, begun, seen FROM sessions
                    WHERE begun > $1 AND seen > $2 AND proof = $3 ORDER BY seen DESC, id";
    store.query(list, params![now - lifetime.max, now - lifetime.idle, proof]).await
}

impl FromRow for Listed {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Listed {
            id: BASE64URL_NOPAD.encode(&row.read::<Vec<u8>>()?),
            origin: Origin { browser: row.read()?, address: row.read()? },
            started: row.read()?,
            seen: row.read()?,
        })
    }
}

/// Ends the session with this id in the list; returns whether there was one.
pub(crate) async fn end_listed(store: &Transaction<'_>, id: &str) -> Result<bool, StoreError> {
    let hash = BASE64URL_NOPAD.decode(id.as_bytes()).unwrap_or_default();
    Ok(store.execute("DELETE FROM sessions WHERE id = $1", params![hash]).await? > 0)
}

fn hash(number: &str) -> Vec<u8> {
    digest(&SHA256, number.as_bytes()).as_ref().to_vec()
}
