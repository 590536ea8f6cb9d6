//! Which tables a schema consists of: its migrations are applied to an SQLite in memory.

use rusqlite::Connection;

use crate::error::StoreError;
use crate::migrations::{self, Expected, Schema};
use crate::session::Session;
use crate::session::refusal::{Refusal, broken};
use crate::sqlite::{at_once, migrate};
use crate::transaction::Snapshot;

/// Returns schemas with their tables.
pub(crate) fn expected(known: &[Schema]) -> Result<Vec<Expected>, StoreError> {
    known.iter().map(|&schema| Ok(Expected { schema, tables: tables_of(schema)? })).collect()
}

/// Returns the tables that a schema consists of, in the order in which they are created.
pub(crate) fn tables_of(schema: Schema) -> Result<Vec<String>, StoreError> {
    let mut connection = Connection::open_in_memory().map_err(broken)?;
    migrate::migrate(&mut connection, schema).map_err(|refusal| match refusal {
        Refusal::Busy => StoreError::Busy,
        Refusal::Failed(error) => error,
    })?;
    let session = Session::Sqlite(&connection);
    let tables = at_once(Snapshot::new(session).query(session.dialect().tables(), &[]))?;
    Ok(tables.into_iter().filter(|table| table != migrations::TABLE_NAME).collect())
}
