//! Sessions: who is the owner, since when, and until when.
//!
//! The cookie holds a random number, the store its hash and a proof that the password is still the one the session was
//! started with. So a session ends by logging out, when it is too old or idle for too long, and when the password
//! changes; the owner can end all of them.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
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
    pub(crate) fn start(
        store: &Transaction<'_>,
        number: &str,
        proof: &[u8],
        now: Seconds,
        lifetime: Lifetime,
        origin: &Origin,
    ) -> rusqlite::Result<()> {
        store.execute(
            "UPDATE sessions SET begun = min(begun, ?1), seen = min(seen, ?1) WHERE max(begun, seen) > ?1",
            [now],
        )?;
        store.execute(
            "DELETE FROM sessions WHERE begun <= ?1 OR seen <= ?2",
            params![now - lifetime.max, now - lifetime.idle],
        )?;
        store.execute(
            "INSERT INTO sessions (id, proof, begun, seen, browser, address)
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5)",
            params![hash(number), proof, now, origin.browser, origin.address],
        )?;
        store.execute(
            "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions ORDER BY begun DESC, id LIMIT -1 OFFSET ?1)",
            [MAX_SESSIONS],
        )?;
        Ok(())
    }

    /// Finds the session of this number, if it is still valid.
    pub(crate) fn find(
        store: &Connection,
        number: &str,
        proof: &[u8],
        now: Seconds,
        lifetime: Lifetime,
        secrets: &Secrets,
    ) -> rusqlite::Result<Option<Session>> {
        let hash = hash(number);
        let row = store
            .query_row("SELECT proof, begun, seen FROM sessions WHERE id = ?1", [&hash], |row| {
                Ok((
                    row.get::<_, Vec<u8>>(0)?,
                    row.get::<_, Seconds>(1)?,
                    row.get::<_, Seconds>(2)?,
                ))
            })
            .optional()?;
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
    pub(crate) fn record_use(&self, store: &Transaction<'_>, now: Seconds) -> rusqlite::Result<()> {
        store.execute(
            "UPDATE sessions SET seen = ?2, begun = min(begun, ?2) WHERE id = ?1",
            params![self.hash, now],
        )?;
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
    pub(crate) fn end(&self, store: &Transaction<'_>) -> rusqlite::Result<()> {
        end(store, &self.number)
    }

    /// Ends all others.
    pub(crate) fn end_others(&self, store: &Transaction<'_>) -> rusqlite::Result<()> {
        store.execute("DELETE FROM sessions WHERE id <> ?1", [&self.hash])?;
        Ok(())
    }

    /// Stores a pending value with the session, or removes it.
    pub(crate) fn set_pending(
        &self,
        store: &Transaction<'_>,
        what: Option<&str>,
    ) -> rusqlite::Result<()> {
        store
            .execute("UPDATE sessions SET pending = ?2 WHERE id = ?1", params![self.hash, what])?;
        Ok(())
    }

    /// Returns the session's pending value.
    pub(crate) fn pending(&self, store: &Connection) -> rusqlite::Result<Option<String>> {
        let found = store
            .query_row("SELECT pending FROM sessions WHERE id = ?1", [&self.hash], |row| row.get(0))
            .optional()?;
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
pub(crate) fn end(store: &Transaction<'_>, number: &str) -> rusqlite::Result<()> {
    store.execute("DELETE FROM sessions WHERE id = ?1", [hash(number)])?;
    Ok(())
}

/// Ends all sessions.
pub(crate) fn end_all(store: &Transaction<'_>) -> rusqlite::Result<()> {
    store.execute("DELETE FROM sessions", [])?;
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
pub(crate) fn list(
    store: &Connection,
    proof: &[u8],
    now: Seconds,
    lifetime: Lifetime,
) -> rusqlite::Result<Vec<Listed>> {
    let mut rows = store.prepare(
        "SELECT id, browser, address, begun, seen FROM sessions
             WHERE begun > ?1 AND seen > ?2 AND proof = ?3 ORDER BY seen DESC, id",
    )?;
    let since = params![now - lifetime.max, now - lifetime.idle, proof];
    let rows = rows.query_map(since, |row| {
        Ok(Listed {
            id: BASE64URL_NOPAD.encode(&row.get::<_, Vec<u8>>(0)?),
            origin: Origin { browser: row.get(1)?, address: row.get(2)? },
            started: row.get(3)?,
            seen: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// Ends the session with this id in the list; returns whether there was one.
pub(crate) fn end_listed(store: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    let hash = BASE64URL_NOPAD.decode(id.as_bytes()).unwrap_or_default();
    Ok(store.execute("DELETE FROM sessions WHERE id = ?1", [hash])? > 0)
}

fn hash(number: &str) -> Vec<u8> {
    digest(&SHA256, number.as_bytes()).as_ref().to_vec()
}
