//! What a closure of [`Store::read`](crate::Store::read) and [`Store::write`](crate::Store::write) works with.
//!
//! Statements are SQL that SQLite and PostgreSQL both know: parameters are `$1`, `$2` …; an upsert is
//! `ON CONFLICT (…) DO UPDATE SET x = excluded.x`; rows come back from `RETURNING`; a page of a list is
//! `WHERE key > $1 ORDER BY key LIMIT $2`. `docs/storing.md` has the list of what is and is not portable.

use std::cell::Cell;
use std::ops::Deref;

use crate::error::{SqlError, StoreError};
use crate::params;
use crate::row::{FromRow, Row};
use crate::session::{Dialect, Session};
use crate::value::Value;

/// The most memory that the rows of one result may take: 16 MiB.
pub const MAX_RESULT_BYTES: usize = 16 << 20;

/// One snapshot of the store, to read from.
#[derive(Debug)]
pub struct Snapshot<'a> {
    session: Session<'a>,
    may_write: bool,
    failed: Cell<Option<Failed>>,
}

/// How a statement has failed.
#[derive(Clone, Copy, Debug)]
enum Failed {
    Conflict,
    Otherwise,
}

/// One change of the store: a snapshot that can be written to.
#[derive(Debug)]
pub struct Transaction<'a> {
    snapshot: Snapshot<'a>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(session: Session<'a>) -> Self {
        Snapshot { session, may_write: false, failed: Cell::new(None) }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.session.dialect()
    }

    /// Remembers whether a statement has failed.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            let failed = if error.is_conflict() { Failed::Conflict } else { Failed::Otherwise };
            self.failed.set(Some(failed));
        }
        result
    }

    /// Returns the result of the closure, unless a statement has failed and the closure has not said so: PostgreSQL
    /// ignores everything after a failure.
    pub(crate) fn outcome<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match (self.failed.get(), result) {
            (Some(Failed::Conflict), _) => Err(StoreError::Conflict),
            (Some(Failed::Otherwise), Ok(_)) => {
                let what = "a statement failed, and the transaction went on";
                Err(SqlError::mistake(what).into())
            }
            (_, result) => result,
        }
    }

    /// Runs a query and returns all its rows.
    ///
    /// # Errors
    ///
    /// If the statement fails or, in a snapshot, would change something; if a row is not a `T`; if the rows take more
    /// than [`MAX_RESULT_BYTES`].
    pub async fn query<T: FromRow>(
        &self,
        sql: &str,
        parameters: &[Value<'_>],
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Rows { read: Vec::new(), bytes: 0 };
        self.note(self.session.query(sql, parameters, self.may_write, |row| rows.add(row)).await)?;
        Ok(rows.read)
    }

    /// Runs a query of which there is one row.
    ///
    /// # Errors
    ///
    /// As for [`query`](Self::query); if there is no row, or more than one.
    pub async fn query_one<T: FromRow>(
        &self,
        sql: &str,
        parameters: &[Value<'_>],
    ) -> Result<T, StoreError> {
        let found = self.query_opt(sql, parameters).await?;
        found.ok_or_else(|| SqlError::mistake(format!("no row was found by: {sql}")).into())
    }

    /// Returns whether there is a table of this name.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn has_table(&self, name: &str) -> Result<bool, StoreError> {
        self.query_one(self.session.has_table(), params![name]).await
    }

    /// Runs a query of which there is one row or none.
    ///
    /// # Errors
    ///
    /// As for [`query`](Self::query); if there is more than one row.
    pub async fn query_opt<T: FromRow>(
        &self,
        sql: &str,
        parameters: &[Value<'_>],
    ) -> Result<Option<T>, StoreError> {
        let mut rows = self.query(sql, parameters).await?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            found => {
                Err(SqlError::mistake(format!("{found} rows instead of one were found by: {sql}"))
                    .into())
            }
        }
    }
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(session: Session<'a>) -> Self {
        Transaction { snapshot: Snapshot { may_write: true, ..Snapshot::new(session) } }
    }

    /// Runs a statement, and returns how many rows it has changed.
    ///
    /// # Errors
    ///
    /// If the statement fails.
    pub async fn execute(&self, sql: &str, parameters: &[Value<'_>]) -> Result<u64, StoreError> {
        self.note(self.session.execute(sql, parameters).await)
    }

    /// Runs statements without parameters, separated by semicolons.
    pub(crate) async fn run(&self, script: &str) -> Result<(), StoreError> {
        self.note(self.session.run(script).await)
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = Snapshot<'a>;

    fn deref(&self) -> &Snapshot<'a> {
        &self.snapshot
    }
}

/// The rows of a result so far.
struct Rows<T> {
    read: Vec<T>,
    bytes: usize,
}

impl<T: FromRow> Rows<T> {
    fn add(&mut self, mut row: Row) -> Result<(), StoreError> {
        self.bytes += row.bytes();
        if self.bytes > MAX_RESULT_BYTES {
            let what = format!("a result takes more than {MAX_RESULT_BYTES} bytes; add a LIMIT");
            return Err(SqlError::mistake(what).into());
        }
        self.read.push(T::from_row(&mut row)?);
        Ok(())
    }
}
