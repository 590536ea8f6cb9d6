//! Runs one statement on SQLite: prepared once per connection, with PostgreSQL's placeholders.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection};

use super::refusal::broken;
use crate::error::{SqlError, StoreError};
use crate::row::Row;
use crate::value::Value;

/// Runs a query and passes each row to `each`.
pub(super) fn query(
    connection: &Connection,
    sql: &str,
    parameters: &[Value<'_>],
    may_write: bool,
    mut each: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = prepare(connection, sql, parameters)?;
    if !may_write && !statement.readonly() {
        return Err(SqlError::mistake(format!("a read cannot change anything: {sql}")).into());
    }
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(broken)? {
        let column = |at| row.get_ref(at).map_err(broken).and_then(to_value);
        each(Row::new((0..columns).map(column).collect::<Result<_, _>>()?))?;
    }
    Ok(())
}

/// Runs a statement, and returns how many rows it has changed.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: &[Value<'_>],
) -> Result<u64, StoreError> {
    let changed = prepare(connection, sql, parameters)?.raw_execute().map_err(broken)?;
    Ok(changed as u64)
}

/// Runs statements without parameters, separated by semicolons.
pub(super) fn run(connection: &Connection, script: &str) -> Result<(), StoreError> {
    connection.execute_batch(script).map_err(broken)
}

fn prepare<'c>(
    connection: &'c Connection,
    sql: &str,
    parameters: &[Value<'_>],
) -> Result<CachedStatement<'c>, StoreError> {
    tracing::trace!(sql, "Statement.");
    let mut statement = connection.prepare_cached(sql).map_err(broken)?;
    let count = statement.parameter_count();
    // SQLite numbers names in the order in which they appear first.
    for index in 1..=count {
        let name = statement.parameter_name(index).unwrap_or("?");
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let value = number.and_then(|number| parameters.get(number.checked_sub(1)?));
        let Some(value) = value else {
            let given = parameters.len();
            return Err(
                SqlError::mistake(format!("{name} is none of {given} parameters: {sql}")).into()
            );
        };
        statement.raw_bind_parameter(index, to_sql(value)).map_err(broken)?;
    }
    if count < parameters.len() {
        let given = parameters.len();
        let what = format!("{given} parameters are given and {count} used: {sql}");
        return Err(SqlError::mistake(what).into());
    }
    Ok(statement)
}

fn to_sql<'v>(value: &'v Value<'_>) -> ToSqlOutput<'v> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Boolean(boolean) => ValueRef::Integer(i64::from(*boolean)),
        Value::Integer(integer) => ValueRef::Integer(*integer),
        Value::Real(real) => ValueRef::Real(*real),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Bytes(bytes) => ValueRef::Blob(bytes),
    })
}

fn to_value(value: ValueRef<'_>) -> Result<Value<'static>, StoreError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned().into()),
            Err(_) => return Err(SqlError::mistake("a text is not UTF-8").into()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_owned().into()),
    })
}
