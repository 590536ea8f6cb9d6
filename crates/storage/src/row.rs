//! Rows, and reading them into typed values.

use crate::error::{SqlError, StoreError};
use crate::value::{FromValue, Value};

/// A row of a result: its columns in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Vec<Value<'static>>,
    /// The index of the next column to read.
    next: usize,
}

impl Row {
    pub(crate) fn new(columns: Vec<Value<'static>>) -> Self {
        Row { columns, next: 0 }
    }

    /// Returns how much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.columns.iter();
        values.map(|value| size_of::<Value<'_>>() + value.heap_bytes()).sum()
    }

    pub(crate) fn into_values(self) -> Vec<Value<'static>> {
        self.columns
    }

    /// Reads the next column; the first call reads the first.
    ///
    /// # Errors
    ///
    /// If its value is not a `T`, or there is no other column.
    pub fn read<T: FromValue>(&mut self) -> Result<T, StoreError> {
        let column = self.next + 1;
        let Some(value) = self.columns.get_mut(self.next) else {
            return Err(SqlError::mistake(format!("a row has no column {column}")).into());
        };
        self.next = column;
        let value = std::mem::replace(value, Value::Null);
        let kind = value.kind();
        T::from_value(value).ok_or_else(|| {
            let expected = T::EXPECTED;
            SqlError::mistake(format!("column {column} is {kind}, not {expected}")).into()
        })
    }
}

/// What a row can be read into: a single value, a tuple of values, or a type of one's own.
///
/// ```
/// use storage::{FromRow, Row, StoreError};
///
/// struct Event { at: i64, what: String }
///
/// impl FromRow for Event {
///     fn from_row(row: &mut Row) -> Result<Self, StoreError> {
///         Ok(Event { at: row.read()?, what: row.read()? })
///     }
/// }
/// ```
pub trait FromRow: Sized {
    /// Reads a row, column by column.
    ///
    /// # Errors
    ///
    /// If a column does not hold what is expected.
    fn from_row(row: &mut Row) -> Result<Self, StoreError>;
}

impl<T: FromValue> FromRow for T {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        row.read()
    }
}

macro_rules! tuples {
    ($(($($type:ident),*)),* $(,)?) => { $(
        impl<$($type: FromValue),*> FromRow for ($($type,)*) {
            fn from_row(row: &mut Row) -> Result<Self, StoreError> {
                Ok(($(row.read::<$type>()?,)*))
            }
        }
    )* };
}

tuples!(
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
    (A, B, C, D, E, F, G)
);
