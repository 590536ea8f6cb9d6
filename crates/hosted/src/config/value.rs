//! A value as it was written, before it is parsed by its key.

use std::fmt;

use toml::de::DeValue;

/// A value of the file, the environment or the command line. The latter two have only strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A list of texts.
    List(Vec<String>),
    /// A string that is never shown: a password, or what may be one.
    Secret(String),
    /// What no key accepts: its kind, such as "a table".
    Other(&'static str),
}

impl Value {
    /// Takes a value of a file.
    pub fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other("a number that is too large"), Value::Number),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Array(items) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map_or(Value::Other("a list of values that are not strings"), Value::List),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Table(_) => Value::Other("a table"),
        }
    }

    /// The text, or the number as text: `"90"` and `90` mean the same.
    pub fn as_scalar(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(_) | Value::List(_) | Value::Secret(_) | Value::Other(_) => None,
        }
    }

    /// The parts of a list: `["a", "b"]` and `"a,b"` mean the same.
    pub fn as_list(&self) -> Option<Vec<String>> {
        match self {
            Value::List(items) => Some(items.clone()),
            Value::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Value::Text(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Value::Number(_) | Value::Bool(_) | Value::Secret(_) | Value::Other(_) => None,
        }
    }
}

/// As written in a file: `"5 parsecs"`, `7`, `["a", "b"]`.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(formatter, "{text:?}"),
            Value::Number(number) => write!(formatter, "{number}"),
            Value::Bool(value) => write!(formatter, "{value}"),
            Value::List(items) => write!(formatter, "{items:?}"),
            Value::Secret(_) => formatter.write_str("a secret that is not shown"),
            Value::Other(kind) => formatter.write_str(kind),
        }
    }
}
