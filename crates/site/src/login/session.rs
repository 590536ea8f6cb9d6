//! Sessions: who is the owner, since when, and until when.
//!
//! The cookie holds a random number, the store its hash and what proves that the password is still the one
//! the session was begun with. So a session ends when it is logged out, when it is too old or idle for too
//! long, when the password changes, and all of them when the owner says so.

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

/// A session is written again when it has not been seen for this long: not with each request.
const SEEN_EVERY: Seconds = 300;

/// How many sessions are kept; the oldest go first. An owner has a few browsers.
const MOST_SESSIONS: i64 = 100;

/// A session of the owner.
#[derive(Debug)]
pub(crate) struct Session {
    hash: Vec<u8>,
    number: String,
    /// When it was last written down.
    seen: Seconds,
    begun: Seconds,
    /// What stands in the owner's forms.
    pub(crate) token: Arc<str>,
}

/// How long a session lasts, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Without a request.
    pub(crate) idle: Seconds,
    /// In all.
    pub(crate) longest: Seconds,
}

impl Session {
    /// Begins a session under a number that was never used before.
    pub(crate) fn begin(
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
            params![now - lifetime.longest, now - lifetime.idle],
        )?;
        store.execute(
            "INSERT INTO sessions (id, proof, begun, seen, browser, address)
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5)",
            params![hash(number), proof, now, origin.browser, origin.address],
        )?;
        store.execute(
            "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions ORDER BY begun DESC, id LIMIT -1 OFFSET ?1)",
            [MOST_SESSIONS],
        )?;
        Ok(())
    }

    /// Finds the session of this number, if it is still one.
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
        Ok(row.and_then(|(kept, begun, seen)| {
            // A clock that was briefly ahead must not prolong anything.
            let begun = begun.min(now);
            let is_fresh = now - seen < lifetime.idle && now - begun < lifetime.longest;
            (is_fresh && bool::from(kept.ct_eq(proof))).then(|| Session {
                token: secrets.code("form", number.as_bytes()).into(),
                number: number.to_owned(),
                hash,
                seen,
                begun,
            })
        }))
    }

    /// Whether to record that it was seen, or what is recorded lies in the future.
    pub(crate) fn is_due(&self, now: Seconds) -> bool {
        self.seen > now || now - self.seen >= SEEN_EVERY
    }

    /// Writes down that it was seen.
    pub(crate) fn see(&self, store: &Transaction<'_>, now: Seconds) -> rusqlite::Result<()> {
        store.execute(
            "UPDATE sessions SET seen = ?2, begun = min(begun, ?2) WHERE id = ?1",
            params![self.hash, now],
        )?;
        Ok(())
    }

    /// For how many seconds its cookie is to be kept.
    pub(crate) fn seconds_left(&self, now: Seconds, lifetime: Lifetime) -> Seconds {
        lifetime.idle.min(self.begun + lifetime.longest - now).max(0)
    }

    /// What the cookie holds.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// What identifies it in the list.
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

    /// Keeps something for the session alone until it is taken back or replaced.
    pub(crate) fn keep(&self, store: &Transaction<'_>, what: Option<&str>) -> rusqlite::Result<()> {
        store
            .execute("UPDATE sessions SET pending = ?2 WHERE id = ?1", params![self.hash, what])?;
        Ok(())
    }

    /// Returns what was kept.
    pub(crate) fn kept(&self, store: &Connection) -> rusqlite::Result<Option<String>> {
        let found = store
            .query_row("SELECT pending FROM sessions WHERE id = ?1", [&self.hash], |row| row.get(0))
            .optional()?;
        Ok(found.flatten())
    }
}

/// Returns what a session keeps of the password: it tells whether this is still the one the session was started
/// with, costs one HMAC, and nobody without the secret key learns anything from it.
pub(crate) fn proof_of(password: &Password, secrets: &Secrets) -> Vec<u8> {
    let (purpose, bytes) = password.identity();
    secrets.mac(purpose, &bytes)
}

/// Makes the number of a new session: 256 random bits.
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
    /// What identifies it in a form: the cookie's number cannot be derived from it.
    pub(crate) id: String,
    pub(crate) origin: Origin,
    pub(crate) begun: Seconds,
    /// When it was last recorded.
    pub(crate) seen: Seconds,
}

/// All sessions, the last seen first.
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
    let since = params![now - lifetime.longest, now - lifetime.idle, proof];
    let rows = rows.query_map(since, |row| {
        Ok(Listed {
            id: BASE64URL_NOPAD.encode(&row.get::<_, Vec<u8>>(0)?),
            origin: Origin { browser: row.get(1)?, address: row.get(2)? },
            begun: row.get(3)?,
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
