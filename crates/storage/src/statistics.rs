//! How large a store is and what is in it, for its owner.

use std::fmt;

use crate::error::StoreError;
use crate::migrations::{self, Schema};
use crate::postgres::rights;
use crate::session::{Dialect, quoted};
use crate::tables::tables_of;
use crate::transaction::Snapshot;

/// How large a store is and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The size in bytes, with indexes; for a file, without its journal.
    pub bytes: u64,
    /// How many of them hold nothing and will be used again. PostgreSQL does not say.
    pub free_bytes: Option<u64>,
    /// The schemas in it, in the order of their names.
    pub schemas: Vec<SchemaStatistics>,
    /// The tables that belong to none of the known schemas.
    pub other_tables: Vec<TableStatistics>,
}

/// What one schema has in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStatistics {
    /// Its name.
    pub name: String,
    /// How many of its migrations were applied.
    pub applied: u64,
    /// How many there are; `None` if the schema is not known.
    pub known: Option<usize>,
    /// Its tables, in the order in which they were created.
    pub tables: Vec<TableStatistics>,
}

/// How many rows a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatistics {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: Rows,
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// So many.
    Exactly(u64),
    /// More than [`MAX_COUNTED`](Rows::MAX_COUNTED): counting on would take too long.
    Many,
    /// The user of the database server may not read the table.
    Hidden,
}

impl Rows {
    /// Up to how many rows of a table are counted: 100,000, some milliseconds' work.
    pub const MAX_COUNTED: u64 = 100_000;
}

impl fmt::Display for Rows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rows::Exactly(rows) => rows.fmt(formatter),
            Rows::Many => write!(formatter, "more than {}", Rows::MAX_COUNTED),
            Rows::Hidden => formatter.write_str("not readable"),
        }
    }
}

/// Looks through a store of any version.
pub(crate) async fn look(store: &Snapshot<'_>, known: &[Schema]) -> Result<Statistics, StoreError> {
    let (bytes, free_bytes): (i64, Option<i64>) =
        store.query_one(store.dialect().sizes(), &[]).await?;
    let mut names: Vec<String> = store.query(store.dialect().tables(), &[]).await?;
    let mut applied: Vec<(String, i64)> = Vec::new();
    if names.iter().any(|name| name == migrations::TABLE_NAME) {
        migrations::refuse_moved(store).await?;
        let count = "SELECT schema, count(*) FROM migrations GROUP BY schema ORDER BY schema";
        applied = store.query(count, &[]).await?;
        applied.retain(|(name, _)| !migrations::ENGINE_TABLES.contains(&name.as_str()));
    }
    let mut schemas = Vec::new();
    for (name, applied) in applied {
        let known = known.iter().find(|schema| schema.name == name);
        let own = known.map_or(Ok(Vec::new()), |&schema| tables_of(schema))?;
        let own = names.extract_if(.., |name| own.contains(name)).collect();
        schemas.push(SchemaStatistics {
            name,
            applied: applied.cast_unsigned(),
            known: known.map(|schema| schema.migrations.len()),
            tables: count_all(store, own).await?,
        });
    }
    names.retain(|name| !migrations::ENGINE_TABLES.contains(&name.as_str()));
    Ok(Statistics {
        bytes: bytes.cast_unsigned(),
        free_bytes: free_bytes.map(i64::cast_unsigned),
        schemas,
        other_tables: count_all(store, names).await?,
    })
}

async fn count_all(
    store: &Snapshot<'_>,
    names: Vec<String>,
) -> Result<Vec<TableStatistics>, StoreError> {
    let unreadable = unreadable_tables(store).await?;
    let mut tables = Vec::new();
    for name in names {
        let rows = match unreadable.contains(&name) {
            true => Rows::Hidden,
            false => count(store, &name).await?,
        };
        tables.push(TableStatistics { name, rows });
    }
    Ok(tables)
}

async fn unreadable_tables(store: &Snapshot<'_>) -> Result<Vec<String>, StoreError> {
    match store.dialect() {
        Dialect::Sqlite => Ok(Vec::new()),
        Dialect::Postgres => rights::tables_without(store, &["SELECT"]).await,
    }
}

async fn count(store: &Snapshot<'_>, table: &str) -> Result<Rows, StoreError> {
    let (table, limit) = (quoted(table), Rows::MAX_COUNTED + 1);
    let count = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {limit}) AS counted");
    let found: i64 = store.query_one(&count, &[]).await?;
    let found = found.cast_unsigned();
    Ok(if found > Rows::MAX_COUNTED { Rows::Many } else { Rows::Exactly(found) })
}
