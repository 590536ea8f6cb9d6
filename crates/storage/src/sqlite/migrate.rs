//! Brings a schema in a file up to date.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{at_once, begin_read, schema_version};
use crate::error::StoreError;
use crate::migrations::{self, Expected, Schema};
use crate::session::refusal::{Refusal, refusal};
use crate::session::{Session, next_statement};
use crate::time::now;
use crate::transaction::{Snapshot, Transaction};

/// Distinguishes our files from other SQLite files: "shed".
pub(super) const APPLICATION_ID: i32 = 0x7368_6564;

/// The schema whose migrations `user_version` counted before there was a table of them. Programs from that time refuse
/// a greater number than they know, so it stays the number that one has to know.
const FIRST_SCHEMA: &str = "site";

/// Changes the version of the tables.
const BUMP: &str = "CREATE VIEW migrating AS SELECT 1; DROP VIEW migrating";

/// Applies what is missing, in one transaction. Returns the version of the tables ([`schema_version`]).
pub(crate) fn migrate(connection: &mut Connection, schema: Schema) -> Result<i64, Refusal> {
    if has_table(connection)? {
        let (transaction, version) = begin_read(connection)?;
        let snapshot = Snapshot::new(Session::Sqlite(&transaction));
        if at_once(schema.are_applied(&snapshot))?.is_some() {
            return Ok(version);
        }
    }
    next_statement()?;
    let exclusive = TransactionBehavior::Exclusive;
    let transaction = connection.transaction_with_behavior(exclusive).map_err(refusal)?;
    let is_first = schema.name == FIRST_SCHEMA;
    let earlier = if is_first { earlier(&transaction, schema)? } else { 0 };
    let writing = Transaction::new(Session::Sqlite(&transaction));
    at_once(schema.apply(&writing, earlier, now()))?;
    if is_first {
        let oldest = schema.oldest() as i64;
        transaction.pragma_update(None, "user_version", oldest).map_err(Refusal::broken)?;
        let id = APPLICATION_ID;
        transaction.pragma_update(None, "application_id", id).map_err(Refusal::broken)?;
    }
    // So that other processes notice even a migration that changes nothing but rows.
    at_once(writing.run(BUMP))?;
    let version = schema_version(&transaction)?;
    next_statement()?;
    transaction.commit().map_err(Refusal::broken)?;
    Ok(version)
}

/// Refuses a store that has moved, of a program that is newer than this one, or whose tables are others. Returns whether it
/// is a store at all.
pub(super) fn refuse_unknown(connection: &Connection, known: &[Expected]) -> Result<bool, Refusal> {
    let snapshot = Snapshot::new(Session::Sqlite(connection));
    let present: Vec<String> = at_once(snapshot.query(snapshot.dialect().tables(), &[]))?;
    if has_table(connection)? {
        at_once(migrations::refuse_moved(&snapshot))?;
        for expected in known {
            at_once(expected.examine(&snapshot, &present, 0))?;
        }
        return Ok(true);
    }
    let first = known.iter().find(|expected| expected.schema.name == FIRST_SCHEMA);
    if let Some(Expected { schema, tables }) = first
        && earlier(connection, *schema)? == 0
        && let Some(taken) = tables.iter().find(|table| present.contains(table))
    {
        return Err(StoreError::ForeignTable(taken.clone()).into());
    }
    let id = "PRAGMA application_id";
    let id: i32 = connection.query_row(id, [], |row| row.get(0)).map_err(refusal)?;
    Ok(id == APPLICATION_ID)
}

/// Returns how many migrations were applied if that was before there was a table of them.
fn earlier(transaction: &Connection, schema: Schema) -> Result<usize, Refusal> {
    let version = "PRAGMA user_version";
    let found: i64 = transaction.query_row(version, [], |row| row.get(0)).map_err(refusal)?;
    let known = schema.migrations.len() as i64;
    if found > known {
        return Err(StoreError::Newer { schema: schema.name.to_owned(), found, known }.into());
    }
    Ok(usize::try_from(found).unwrap_or(0))
}

fn has_table(connection: &Connection) -> Result<bool, Refusal> {
    let find = "SELECT 1 FROM sqlite_schema WHERE name = 'migrations'";
    let found = connection.query_row(find, [], |_| Ok(())).optional().map_err(refusal)?;
    Ok(found.is_some())
}
