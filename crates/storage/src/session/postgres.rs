//! Runs one statement on PostgreSQL: prepared once per connection.

use std::error::Error;
use std::pin::pin;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use postgres_pool::PooledConnection;
use postgres_pool::tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres_pool::tokio_postgres::{Column, Row as PostgresRow, Statement};

use crate::error::{SqlError, StoreError};
use crate::row::Row;
use crate::value::Value;

/// Runs a query and passes each row to `each`, as it arrives.
pub(super) async fn query(
    connection: &PooledConnection,
    sql: &str,
    parameters: &[Value<'_>],
    mut each: impl FnMut(Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let statement = prepare(connection, sql, parameters).await?;
    let rows = connection.query_raw(&statement, parameters.iter().map(Parameter)).await;
    let mut rows = pin!(rows.map_err(StoreError::postgres)?);
    while let Some(row) = rows.try_next().await.map_err(StoreError::postgres)? {
        let columns = row.columns().iter().enumerate();
        let values = columns.map(|(index, column)| to_value(&row, index, column));
        each(Row::new(values.collect::<Result<_, _>>()?))?;
    }
    Ok(())
}

/// Runs a statement, and returns how many rows it has changed.
pub(super) async fn execute(
    connection: &PooledConnection,
    sql: &str,
    parameters: &[Value<'_>],
) -> Result<u64, StoreError> {
    let statement = prepare(connection, sql, parameters).await?;
    let changed = connection.execute_raw(&statement, parameters.iter().map(Parameter)).await;
    changed.map_err(StoreError::postgres)
}

/// Runs statements without parameters, separated by semicolons.
pub(super) async fn run(connection: &PooledConnection, script: &str) -> Result<(), StoreError> {
    connection.batch_execute(script).await.map_err(StoreError::postgres)
}

async fn prepare(
    connection: &PooledConnection,
    sql: &str,
    parameters: &[Value<'_>],
) -> Result<Statement, StoreError> {
    tracing::trace!(sql, "Statement.");
    let statement = connection.prepare_cached(sql).await.map_err(StoreError::postgres)?;
    let (used, given) = (statement.params().len(), parameters.len());
    if used != given {
        let what = format!("{given} parameters are given and {used} used: {sql}");
        return Err(SqlError::mistake(what).into());
    }
    Ok(statement)
}

/// A parameter, in the type that PostgreSQL expects at its place.
#[derive(Debug)]
struct Parameter<'v>(&'v Value<'v>);

impl ToSql for Parameter<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Boolean(boolean) if *kind == Type::BOOL => boolean.to_sql(kind, out),
            Value::Integer(integer) if *kind == Type::INT8 => integer.to_sql(kind, out),
            Value::Integer(integer) if *kind == Type::INT4 => {
                i32::try_from(*integer)?.to_sql(kind, out)
            }
            Value::Integer(integer) if *kind == Type::INT2 => {
                i16::try_from(*integer)?.to_sql(kind, out)
            }
            Value::Real(real) if *kind == Type::FLOAT8 => real.to_sql(kind, out),
            Value::Text(text) if <&str as ToSql>::accepts(kind) => (&**text).to_sql(kind, out),
            Value::Bytes(bytes) if *kind == Type::BYTEA => (&**bytes).to_sql(kind, out),
            value => Err(format!("it is {}, and {kind} is needed", value.kind()).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn to_value(
    row: &PostgresRow,
    index: usize,
    column: &Column,
) -> Result<Value<'static>, StoreError> {
    macro_rules! read {
        ($type:ty, $value:expr) => {
            row.try_get::<_, Option<$type>>(index).map(|found| found.map_or(Value::Null, $value))
        };
    }
    let value = match *column.type_() {
        Type::BOOL => read!(bool, Value::Boolean),
        Type::INT8 => read!(i64, Value::Integer),
        Type::INT4 => read!(i32, |integer| Value::Integer(integer.into())),
        Type::INT2 => read!(i16, |integer| Value::Integer(integer.into())),
        Type::FLOAT8 => read!(f64, Value::Real),
        Type::FLOAT4 => read!(f32, |real| Value::Real(real.into())),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
            read!(String, |text| Value::Text(text.into()))
        }
        Type::BYTEA => read!(Vec<u8>, |bytes| Value::Bytes(bytes.into())),
        Type::VOID => Ok(Value::Null),
        ref other => {
            let (number, name) = (index + 1, column.name());
            let what = format!(
                "column {number}, {name}, is of type {other}; CAST it to BIGINT, TEXT, BYTEA, BOOLEAN or DOUBLE \
                 PRECISION"
            );
            return Err(SqlError::mistake(what).into());
        }
    };
    value.map_err(StoreError::postgres)
}
