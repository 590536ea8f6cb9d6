//! The tables of the login.

use storage::{Migration, Schema};

/// The site's tables. Times are seconds since 1970.
pub(super) const SCHEMA: Schema = Schema {
    name: "site",
    migrations: &[
        // An id is kept as a hash, so that a copy of the store opens no session.
        Migration::contract(
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
        ),
        // Who may try a password next under load.
        Migration::contract(
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
        ),
        // What helps the owner recognize sessions and changes.
        Migration::contract(
            "ALTER TABLE sessions ADD COLUMN browser TEXT NOT NULL DEFAULT '';
             ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
             CREATE TABLE events (
                 id INTEGER PRIMARY KEY,
                 at INTEGER NOT NULL,
                 what TEXT NOT NULL,
                 browser TEXT NOT NULL,
                 address TEXT NOT NULL
             );",
        ),
    ],
};
