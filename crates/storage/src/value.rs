//! The values that statements take and rows consist of, the same for every engine.
//!
//! | Rust | in `CREATE TABLE` |
//! | --- | --- |
//! | `i64`, `i32`, `u32`; times, ids | `BIGINT` |
//! | `bool` | `BOOLEAN` |
//! | `f64` | `DOUBLE PRECISION` |
//! | `String`, `&str`, [`Json`] | `TEXT` |
//! | `Vec<u8>`, `&[u8]` | `BYTEA` |
//! | `Option` of these | the same, without `NOT NULL` |

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value of a statement or a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL's `NULL`.
    Null,
    /// True or false. SQLite returns [`Value::Integer`] instead, 0 or 1; `bool` reads both.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text. PostgreSQL accepts none with a zero byte in it.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl Value<'_> {
    /// Returns what kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Real(_) => "a floating-point number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
        }
    }

    /// Returns how many bytes of memory it takes besides itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// What can be a parameter of a statement.
pub trait ToValue {
    /// Returns it as a value.
    fn to_value(&self) -> Value<'_>;
}

/// What can be read from a column.
pub trait FromValue: Sized {
    /// What the column has to hold, for messages.
    const EXPECTED: &'static str;

    /// Reads a value; `None` if it is of another kind or out of range.
    fn from_value(value: Value<'static>) -> Option<Self>;
}

/// Lists the parameters of a statement: the first is `$1`.
///
/// Takes anything that is [`ToValue`], by reference.
///
/// ```
/// use storage::{Value, params};
///
/// let name = String::from("a");
/// assert_eq!(params![name, 7], &[Value::Text("a".into()), Value::Integer(7)]);
/// ```
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::ToValue::to_value(&$value)),*] };
}

macro_rules! integers {
    ($($type:ty: $expected:literal),*) => { $(
        impl ToValue for $type {
            fn to_value(&self) -> Value<'_> {
                Value::Integer(i64::from(*self))
            }
        }

        impl FromValue for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: Value<'static>) -> Option<Self> {
                match value {
                    Value::Integer(integer) => integer.try_into().ok(),
                    _ => None,
                }
            }
        }
    )* };
}

integers!(i64: "an integer", i32: "an integer of 32 bits", u32: "a positive integer of 32 bits");

impl ToValue for bool {
    fn to_value(&self) -> Value<'_> {
        Value::Boolean(*self)
    }
}

impl FromValue for bool {
    const EXPECTED: &'static str = "a boolean";

    fn from_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Boolean(boolean) => Some(boolean),
            Value::Integer(integer @ 0..=1) => Some(integer == 1),
            _ => None,
        }
    }
}

impl ToValue for f64 {
    fn to_value(&self) -> Value<'_> {
        Value::Real(*self)
    }
}

impl FromValue for f64 {
    const EXPECTED: &'static str = "a floating-point number";

    fn from_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Real(real) => Some(real),
            _ => None,
        }
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.into())
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value<'_> {
        self.as_str().to_value()
    }
}

impl ToValue for Cow<'_, str> {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "text";

    fn from_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(self.into())
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        self.as_slice().to_value()
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value<'_> {
        self.as_slice().to_value()
    }
}

impl FromValue for Vec<u8> {
    const EXPECTED: &'static str = "bytes";

    fn from_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.into_owned()),
            _ => None,
        }
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl ToValue for Value<'_> {
    fn to_value(&self) -> Value<'_> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Value::Null => Value::Null,
            Value::Boolean(boolean) => Value::Boolean(*boolean),
            Value::Integer(integer) => Value::Integer(*integer),
            Value::Real(real) => Value::Real(*real),
        }
    }
}

impl FromValue for Value<'static> {
    const EXPECTED: &'static str = "anything";

    fn from_value(value: Value<'static>) -> Option<Self> {
        Some(value)
    }
}

/// A value kept as JSON, in a column of type `TEXT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> ToValue for Json<T> {
    /// NULL for what JSON cannot express, such as a map with keys that are no text.
    fn to_value(&self) -> Value<'_> {
        serde_json::to_string(&self.0).map_or(Value::Null, |text| Value::Text(text.into()))
    }
}

impl<T: DeserializeOwned> FromValue for Json<T> {
    const EXPECTED: &'static str = "JSON of the expected form";

    fn from_value(value: Value<'static>) -> Option<Self> {
        serde_json::from_str(&String::from_value(value)?).ok().map(Json)
    }
}
