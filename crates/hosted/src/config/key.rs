//! A setting: what it accepts, and how a value is checked and described.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Settings;
use super::problem::Location;
use super::quantity::{parse_size, parse_time, show_size, show_time};
use super::value::Value;
use crate::program::Program;

/// A setting.
pub struct Key<O> {
    /// The name in the file.
    pub name: &'static str,
    /// What it accepts and where the value goes.
    pub kind: Kind<O>,
    /// What it is.
    pub what: &'static str,
    /// Why it exists and why its default is what it is.
    pub why: &'static str,
}

/// What a key accepts, and where the value goes: `get` reads it from the settings, to show the default, and `set` puts it
/// there.
#[allow(missing_docs, reason = "the fields are the same in all variants")]
pub enum Kind<O> {
    /// A whole number.
    Count {
        range: RangeInclusive<u64>,
        get: fn(&Settings<O>) -> u64,
        set: fn(&mut Settings<O>, u64),
    },
    /// A number of bytes.
    Size {
        range: RangeInclusive<u64>,
        get: fn(&Settings<O>) -> u64,
        set: fn(&mut Settings<O>, u64),
    },
    /// A time in whole seconds.
    Time {
        range: RangeInclusive<u64>,
        get: fn(&Settings<O>) -> Duration,
        set: fn(&mut Settings<O>, Duration),
    },
    /// `true` or `false`.
    Bool { get: fn(&Settings<O>) -> bool, set: fn(&mut Settings<O>, bool) },
    /// Strings, as a list or separated by commas. `write`: what to write, with an example; `default`: as it is written.
    List {
        write: &'static str,
        default: &'static str,
        take: fn(&mut Settings<O>, Vec<String>) -> Result<(), Advice>,
    },
    /// Anything else: what to write, and a function that takes it. The function's error may say more. In `default`, which
    /// may be in words, `{name}` is the program's name.
    Custom {
        write: &'static str,
        default: &'static str,
        take: fn(&mut Settings<O>, &Value, &Location) -> Result<(), Advice>,
    },
}

/// What to write instead of a value that is not accepted.
pub enum Advice {
    /// What the key's description says.
    Default,
    /// Something more specific.
    Specific(String),
}

impl Advice {
    fn or_else(self, default: impl FnOnce() -> String) -> String {
        match self {
            Advice::Default => default(),
            Advice::Specific(advice) => advice,
        }
    }
}

impl<O> Key<O> {
    /// Stores a value.
    ///
    /// # Errors
    ///
    /// What to write instead, starting with "write"; nothing is changed then.
    pub fn take(
        &self,
        settings: &mut Settings<O>,
        value: &Value,
        location: &Location,
    ) -> Result<(), String> {
        let write = || format!("write {}", self.write());
        match &self.kind {
            Kind::Count { range, set, .. } => {
                let number = value.as_scalar().and_then(|text| text.trim().parse().ok());
                set(settings, number.filter(|number| range.contains(number)).ok_or_else(write)?);
            }
            Kind::Size { range, set, .. } => {
                let size =
                    value.as_scalar().and_then(|text| parse_size(&text)).ok_or_else(write)?;
                if !range.contains(&size) {
                    return Err(self.between(show_size, range));
                }
                set(settings, size);
            }
            Kind::Time { range, set, .. } => {
                let time =
                    value.as_scalar().and_then(|text| parse_time(&text)).ok_or_else(write)?;
                if !range.contains(&time.as_secs()) {
                    let show = |seconds| show_time(Duration::from_secs(seconds));
                    return Err(self.between(show, range));
                }
                set(settings, time);
            }
            Kind::Bool { set, .. } => match value {
                Value::Bool(value) => set(settings, *value),
                Value::Text(text) if text == "true" || text == "1" => set(settings, true),
                Value::Text(text) if text == "false" || text == "0" => set(settings, false),
                _ => return Err(write()),
            },
            Kind::List { take, .. } => {
                let items = value.as_list().ok_or_else(write)?;
                take(settings, items).map_err(|advice| advice.or_else(write))?;
            }
            Kind::Custom { take, .. } => {
                take(settings, value, location).map_err(|advice| advice.or_else(write))?;
            }
        }
        Ok(())
    }

    /// Returns whether an empty variable has a meaning: an empty list. Otherwise it counts as unset, because many
    /// programs pass variables on like that.
    pub fn takes_nothing(&self) -> bool {
        matches!(self.kind, Kind::List { .. })
    }

    /// Returns what to write, with an example.
    pub fn write(&self) -> String {
        match &self.kind {
            Kind::Count { range, .. } => {
                let (from, to) = (grouped(*range.start()), grouped(*range.end()));
                format!("a whole number from {from} to {to}")
            }
            Kind::Size { .. } => "a size such as \"128 KiB\" or \"1 MiB\"".to_owned(),
            Kind::Time { .. } => "a time such as \"5 min\" or \"90 s\"".to_owned(),
            Kind::Bool { .. } => "true or false".to_owned(),
            Kind::List { write, .. } | Kind::Custom { write, .. } => (*write).to_owned(),
        }
    }

    /// Returns the limits of a size or time: `8 KiB to 16 MiB`.
    pub fn limits(&self) -> Option<String> {
        let (from, to) = match &self.kind {
            Kind::Size { range, .. } => (show_size(*range.start()), show_size(*range.end())),
            Kind::Time { range, .. } => {
                let show = |seconds: &u64| show_time(Duration::from_secs(*seconds));
                (show(range.start()), show(range.end()))
            }
            Kind::Count { .. } | Kind::Bool { .. } | Kind::List { .. } | Kind::Custom { .. } => {
                return None;
            }
        };
        Some(format!("{from} to {to}"))
    }

    /// Returns the default, as written in the file, or in words.
    pub fn default_in_words(&self, program: Program) -> String
    where
        O: Default,
    {
        let settings = Settings::default();
        match &self.kind {
            Kind::Count { get, .. } => format!("`{}`", get(&settings)),
            Kind::Size { get, .. } => format!("`\"{}\"`", show_size(get(&settings))),
            Kind::Time { get, .. } => format!("`\"{}\"`", show_time(get(&settings))),
            Kind::Bool { get, .. } => format!("`{}`", get(&settings)),
            Kind::List { default, .. } => format!("`{default}`"),
            Kind::Custom { default, .. } => default.replace("{name}", program.name),
        }
    }

    /// Returns the default for a line in a list: the value, or "-" if it is described in words.
    pub fn default_in_short(&self, program: Program) -> String
    where
        O: Default,
    {
        match self.kind {
            Kind::Custom { .. } => "-".to_owned(),
            _ => self.default_in_words(program).replace('`', ""),
        }
    }

    fn between(&self, show: impl Fn(u64) -> String, range: &RangeInclusive<u64>) -> String {
        format!("write from \"{}\" to \"{}\"", show(*range.start()), show(*range.end()))
    }
}

/// Writes `65,536`.
fn grouped(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1000),
    }
}
