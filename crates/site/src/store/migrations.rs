//! The tables, as a series of migrations. Each one is applied once, in one transaction; one that has shipped is never
//! changed.

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;
use super::refusal::{Refusal, refusal};

/// Distinguishes our files from other SQLite files: "shed".
const APPLICATION_ID: i32 = 0x7368_6564;

/// The steps; after the first N the file's `user_version` is N.
pub(super) const STEPS: &[&str] = &[
    // Times are seconds since 1970. An id is kept as a hash, so that a copy of this file opens no session.
    "CREATE TABLE sessions (
         id BLOB PRIMARY KEY,
         proof BLOB NOT NULL,
         begun INTEGER NOT NULL,
         seen INTEGER NOT NULL,
         pending TEXT
     ) WITHOUT ROWID;
     CREATE TABLE attempts (
         who TEXT PRIMARY KEY,
         failures INTEGER NOT NULL,
         last INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE facts (
         name TEXT PRIMARY KEY,
         value TEXT NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE recovery_codes (
         hash BLOB PRIMARY KEY
     ) WITHOUT ROWID;",
    // Who may try a password next under load.
    "CREATE TABLE draws (
         round INTEGER PRIMARY KEY,
         lot BLOB NOT NULL,
         who TEXT NOT NULL,
         is_used INTEGER NOT NULL DEFAULT 0
     );
     CREATE TABLE passes (
         who TEXT PRIMARY KEY,
         until INTEGER NOT NULL
     ) WITHOUT ROWID;",
    // What helps the owner recognize sessions and changes.
    "ALTER TABLE sessions ADD COLUMN browser TEXT NOT NULL DEFAULT '';
     ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
     CREATE TABLE events (
         id INTEGER PRIMARY KEY,
         at INTEGER NOT NULL,
         what TEXT NOT NULL,
         browser TEXT NOT NULL,
         address TEXT NOT NULL
     );",
];

/// The version of the tables this program works with.
const VERSION: i64 = STEPS.len() as i64;

/// Migrates the tables to the current version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Refusal> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let exclusive = TransactionBehavior::Exclusive;
    let transaction = connection.transaction_with_behavior(exclusive).map_err(refusal)?;
    // Another process may have been faster.
    let done = version(&transaction)?;
    if done > VERSION {
        return Err(StoreError::Newer { found: done, known: VERSION }.into());
    }
    for step in STEPS.iter().skip(usize::try_from(done).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(Refusal::broken)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(Refusal::broken)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(Refusal::broken)?;
    transaction.commit().map_err(Refusal::broken)
}

fn version(connection: &Connection) -> Result<i64, Refusal> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(refusal)
}
