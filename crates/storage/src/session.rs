//! Where the statements of one transaction go: a connection of an engine that is in a transaction.

mod postgres;
pub(crate) mod refusal;
mod sqlite;

use postgres_pool::PooledConnection;

use crate::error::StoreError;
use crate::row::Row;
use crate::value::Value;

#[cfg(feature = "faults")]
pub(crate) use crate::faults::next_statement;

/// Says whether a test wants the next statement to fail.
#[cfg(not(feature = "faults"))]
pub(crate) fn next_statement() -> Result<(), StoreError> {
    Ok(())
}

/// A connection in a transaction.
///
/// What runs on PostgreSQL is boxed: it is large, and would make the futures of every request large, which are moved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Session<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a PooledConnection),
}

/// Whose SQL a connection understands, where it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Session<'_> {
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Session::Sqlite(_) => Dialect::Sqlite,
            Session::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a query and passes each row to `each`. Unless it may write, a statement that would change something is
    /// refused.
    pub(crate) async fn query(
        self,
        sql: &str,
        parameters: &[Value<'_>],
        may_write: bool,
        each: impl FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        next_statement()?;
        match self {
            Session::Sqlite(connection) => {
                sqlite::query(connection, sql, parameters, may_write, each)
            }
            // PostgreSQL knows itself whether the transaction may write.
            Session::Postgres(connection) => {
                Box::pin(postgres::query(connection, sql, parameters, each)).await
            }
        }
    }

    /// Runs a statement, and returns how many rows it has changed.
    pub(crate) async fn execute(
        self,
        sql: &str,
        parameters: &[Value<'_>],
    ) -> Result<u64, StoreError> {
        next_statement()?;
        match self {
            Session::Sqlite(connection) => sqlite::execute(connection, sql, parameters),
            Session::Postgres(connection) => {
                Box::pin(postgres::execute(connection, sql, parameters)).await
            }
        }
    }

    /// Runs statements without parameters, separated by semicolons.
    pub(crate) async fn run(self, script: &str) -> Result<(), StoreError> {
        next_statement()?;
        match self {
            Session::Sqlite(connection) => sqlite::run(connection, script),
            Session::Postgres(connection) => Box::pin(postgres::run(connection, script)).await,
        }
    }

    /// Returns the query that tells whether there is a table of the name `$1`.
    pub(crate) fn has_table(self) -> &'static str {
        match self {
            Session::Sqlite(_) => "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = $1)",
            Session::Postgres(_) => "SELECT to_regclass($1) IS NOT NULL",
        }
    }
}

impl Dialect {
    /// Returns the query for the names of all tables, in the order in which they were created.
    pub(crate) fn tables(self) -> &'static str {
        match self {
            Dialect::Sqlite => {
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^'
                     ORDER BY rowid"
            }
            Dialect::Postgres => {
                "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                     WHERE nspname = current_schema() AND relkind IN ('r', 'p') ORDER BY pg_class.oid"
            }
        }
    }

    /// Returns the query for the size of the store in bytes, and how many of them hold nothing, if that is known.
    pub(crate) fn sizes(self) -> &'static str {
        match self {
            Dialect::Sqlite => {
                "SELECT page_count * page_size, freelist_count * page_size
                     FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
            }
            Dialect::Postgres => {
                "SELECT CAST(coalesce(sum(pg_total_relation_size(pg_class.oid)), 0) AS BIGINT),
                        CAST(NULL AS BIGINT)
                     FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                     WHERE nspname = current_schema() AND relkind = 'r'"
            }
        }
    }
}

/// Returns a name as SQL takes it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
