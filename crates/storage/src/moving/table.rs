//! Copies one table, and compares what has arrived.

use futures_util::future::try_join_all;
use ring::digest::{SHA256, digest};

use super::Progress;
use super::side::Side;
use crate::error::StoreError;
use crate::params;
use crate::row::Row;
use crate::session::{Dialect, Session, quoted};
use crate::transaction::Snapshot;
use crate::value::Value;

/// How many rows the first page has, and any other at most; and how large one should be.
const FIRST_ROWS: usize = 16;
const MAX_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// Copies all rows, and returns how many there are.
pub(super) async fn copy(
    source: &Side,
    target: &Side,
    name: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<u64, StoreError> {
    let failed = |why: String| StoreError::NotMovable { table: name.to_owned(), why };
    let table = Table::of(target.session(), name).await?;
    let own = Table::of(source.session(), name).await?;
    if own.names() != table.names() {
        return Err(failed(format!(
            "it has the columns {}, and {} in the target",
            own.names(),
            table.names()
        )));
    }
    if table.key.is_empty() {
        return Err(failed("it has no primary key".to_owned()));
    }
    let mut pages = Pages::new(&table);
    while let Some(rows) = pages.next(source.session()).await? {
        let rows: Vec<Vec<Value<'_>>> = rows.into_iter().map(|row| table.adapt(row)).collect();
        let session = target.session();
        // Over a network, one after the other would wait for each.
        try_join_all(rows.iter().map(|row| session.execute(&table.insert, row))).await?;
        progress(Progress { table: name, rows: pages.sum.rows });
    }
    let count = format!("SELECT count(*) FROM {}", quoted(name));
    let count: i64 = Snapshot::new(source.session()).query_one(&count, &[]).await?;
    let mut arrived = Pages::new(&table);
    while arrived.next(target.session()).await?.is_some() {}
    if pages.sum != arrived.sum || count.cast_unsigned() != pages.sum.rows {
        let (sent, arrived) = (pages.sum.rows, arrived.sum.rows);
        return Err(failed(format!(
            "it has {count} rows, of which {sent} were copied, and {arrived} have arrived; or their values differ"
        )));
    }
    for column in table.columns.iter().filter(|column| column.is_numbered) {
        let next = format!(
            "SELECT setval(pg_get_serial_sequence($1, $2), coalesce(max({0}), 0) + 1, false) FROM {1}",
            quoted(&column.name),
            quoted(name)
        );
        let snapshot = Snapshot::new(target.session());
        snapshot.query_one::<i64>(&next, params![quoted(name), column.name]).await?;
    }
    Ok(pages.sum.rows)
}

struct Column {
    name: String,
    is_boolean: bool,
    /// PostgreSQL gives out the next number.
    is_numbered: bool,
}

/// A table, and the statements to copy it.
struct Table {
    /// In the order of their names.
    columns: Vec<Column>,
    /// Which of them are the primary key.
    key: Vec<usize>,
    first: String,
    next: String,
    insert: String,
}

impl Table {
    async fn of(session: Session<'_>, name: &str) -> Result<Table, StoreError> {
        let columns = match session.dialect() {
            Dialect::Sqlite => {
                "SELECT name, pk, upper(type) = 'BOOLEAN', 0 FROM pragma_table_info($1) ORDER BY name"
            }
            Dialect::Postgres => {
                "SELECT attname, CAST(coalesce(array_position(CAST(indkey AS int2[]), attnum) + 1, 0) AS BIGINT),
                        atttypid = CAST('boolean' AS regtype), attidentity <> ''
                     FROM pg_attribute LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
                     WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
                     ORDER BY CAST(attname AS TEXT) COLLATE \"C\""
            }
        };
        let found: Vec<(String, i64, bool, bool)> =
            Snapshot::new(session).query(columns, params![name]).await?;
        let mut key: Vec<usize> = (0..found.len()).filter(|&at| found[at].1 > 0).collect();
        key.sort_by_key(|&at| found[at].1);
        let columns: Vec<Column> = found
            .into_iter()
            .map(|(name, _, is_boolean, is_numbered)| Column { name, is_boolean, is_numbered })
            .collect();
        let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
        let name = quoted(name);
        let all = list(&mut columns.iter().map(|column| quoted(&column.name)));
        let keys = list(&mut key.iter().map(|&at| quoted(&columns[at].name)));
        let numbers = |count| list(&mut (1..=count).map(|number: usize| format!("${number}")));
        let (of_key, of_row, limit) = (numbers(key.len()), numbers(columns.len()), key.len() + 1);
        Ok(Table {
            first: format!("SELECT {all} FROM {name} ORDER BY {keys} LIMIT $1"),
            next: format!(
                "SELECT {all} FROM {name} WHERE ({keys}) > ({of_key}) ORDER BY {keys} LIMIT ${limit}"
            ),
            insert: format!("INSERT INTO {name} ({all}) VALUES ({of_row})"),
            columns,
            key,
        })
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Makes the values those of this table's columns: SQLite has numbers for booleans.
    fn adapt(&self, row: Vec<Value<'static>>) -> Vec<Value<'static>> {
        let adapt = |(value, column): (Value<'static>, &Column)| match value {
            Value::Integer(integer @ 0..=1) if column.is_boolean => Value::Boolean(integer == 1),
            value => value,
        };
        row.into_iter().zip(&self.columns).map(adapt).collect()
    }
}

/// The rows of a table, page by page in the order of the primary key, and their sum so far.
struct Pages<'t> {
    table: &'t Table,
    /// The key of the last row.
    last: Option<Vec<Value<'static>>>,
    rows: usize,
    sum: Sum,
}

impl<'t> Pages<'t> {
    fn new(table: &'t Table) -> Self {
        Pages { table, last: None, rows: FIRST_ROWS, sum: Sum::default() }
    }

    async fn next(
        &mut self,
        session: Session<'_>,
    ) -> Result<Option<Vec<Vec<Value<'static>>>>, StoreError> {
        let mut parameters = self.last.clone().unwrap_or_default();
        parameters.push(Value::Integer(self.rows as i64));
        let sql = if self.last.is_some() { &self.table.next } else { &self.table.first };
        let (mut page, mut bytes) = (Vec::new(), 1);
        let each = |row: Row| {
            bytes += row.bytes();
            page.push(row.into_values());
            Ok(())
        };
        session.query(sql, &parameters, false, each).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.last = Some(self.table.key.iter().map(|&at| last[at].clone()).collect());
        // The next page has as many as fit if they are as large as these.
        self.rows = (PAGE_BYTES * page.len() / bytes).clamp(1, MAX_ROWS);
        page.iter().for_each(|row| self.sum.add(row));
        Ok(Some(page))
    }
}

/// How many rows there are, and the sum of their hashes: the same in any order, because engines sort text differently.
#[derive(Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: [u64; 4],
}

impl Sum {
    fn add(&mut self, row: &[Value<'_>]) {
        let mut bytes = Vec::new();
        for value in row {
            let (kind, content): (u8, &[u8]) = match value {
                Value::Null => (0, &[]),
                Value::Boolean(boolean) => (1, &i64::from(*boolean).to_be_bytes()),
                Value::Integer(integer) => (1, &integer.to_be_bytes()),
                Value::Real(real) => (2, &real.to_be_bytes()),
                Value::Text(text) => (3, text.as_bytes()),
                Value::Bytes(content) => (4, content),
            };
            bytes.push(kind);
            bytes.extend((content.len() as u64).to_be_bytes());
            bytes.extend(content);
        }
        let hash = digest(&SHA256, &bytes);
        for (sum, part) in self.hashes.iter_mut().zip(hash.as_ref().as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*part));
        }
        self.rows += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_depends_on_every_value_and_not_on_the_order() {
        let rows: [&[Value<'_>]; 5] = [
            &[Value::Integer(1), Value::Text("ab".into())],
            &[Value::Text("a".into()), Value::Text("b".into())],
            &[Value::Text("".into()), Value::Text("ab".into())],
            &[Value::Text("ab".into()), Value::Null],
            &[Value::Bytes(b"ab".as_slice().into()), Value::Null],
        ];
        let sum = |rows: &mut dyn Iterator<Item = &&[Value<'_>]>| {
            let mut sum = Sum::default();
            rows.for_each(|row| sum.add(row));
            sum
        };
        assert!(sum(&mut rows.iter()) == sum(&mut rows.iter().rev()));
        for (at, one) in rows.iter().enumerate() {
            for other in &rows[at + 1..] {
                assert!(sum(&mut [*one].iter()) != sum(&mut [*other].iter()), "{one:?} {other:?}");
            }
        }
        let boolean = [Value::Boolean(true)];
        assert!(sum(&mut [&boolean[..]].iter()) == sum(&mut [&[Value::Integer(1)][..]].iter()));
    }
}
