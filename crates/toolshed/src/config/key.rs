//! A setting: what it accepts, and how a value is checked and described. The settings are in `keys.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use site::grouped;

use super::Settings;
use super::problem::Location;
use super::quantity::{parse_size, parse_time, show_size, show_time};
use super::value::Value;

/// A setting.
pub(crate) struct Key {
    /// The name in the file.
    pub(crate) name: &'static str,
    /// What it accepts and where the value goes.
    pub(super) kind: Kind,
    /// What it is.
    pub(crate) what: &'static str,
    /// Why it exists and why its default is what it is.
    pub(crate) why: &'static str,
}

/// What a key accepts, and where the value goes.
pub(super) enum Kind {
    /// A whole number.
    Count { range: RangeInclusive<u64>, get: fn(&Settings) -> u64, set: fn(&mut Settings, u64) },
    /// A number of bytes.
    Size { range: RangeInclusive<u64>, get: fn(&Settings) -> u64, set: fn(&mut Settings, u64) },
    /// A time in whole seconds.
    Time {
        range: RangeInclusive<u64>,
        get: fn(&Settings) -> Duration,
        set: fn(&mut Settings, Duration),
    },
    /// `true` or `false`.
    Bool { get: fn(&Settings) -> bool, set: fn(&mut Settings, bool) },
    /// Strings, as a list or separated by commas.
    List {
        write: &'static str,
        default: &'static str,
        take: fn(&mut Settings, Vec<String>) -> Result<(), Advice>,
    },
    /// Anything else: what to write, and a function that takes it. The function's error may say more.
    Custom {
        write: &'static str,
        default: &'static str,
        take: fn(&mut Settings, &Value, &Location) -> Result<(), Advice>,
    },
}

/// What to write instead of a value that is not accepted.
pub(super) enum Advice {
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

impl Key {
    /// Returns its name in the environment: `TOOLSHED_IDLE_TIMEOUT`.
    pub(crate) fn variable(&self) -> String {
        format!("{}{}", super::PREFIX, self.name.to_ascii_uppercase())
    }

    /// Returns whether its value is never shown.
    pub(crate) fn is_secret(&self) -> bool {
        ["password_hash", "database", "s3_access_key", "s3_secret_key"].contains(&self.name)
    }

    /// Stores a value.
    ///
    /// # Errors
    ///
    /// What to write instead, starting with "write"; nothing is changed then.
    pub(crate) fn take(
        &self,
        settings: &mut Settings,
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
    pub(crate) fn takes_nothing(&self) -> bool {
        matches!(self.kind, Kind::List { .. })
    }

    /// Returns what to write, with an example.
    pub(crate) fn write(&self) -> String {
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
    pub(crate) fn limits(&self) -> Option<String> {
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
    pub(crate) fn default_in_words(&self) -> String {
        let settings = Settings::default();
        match &self.kind {
            Kind::Count { get, .. } => format!("`{}`", get(&settings)),
            Kind::Size { get, .. } => format!("`\"{}\"`", show_size(get(&settings))),
            Kind::Time { get, .. } => format!("`\"{}\"`", show_time(get(&settings))),
            Kind::Bool { get, .. } => format!("`{}`", get(&settings)),
            Kind::List { default, .. } => format!("`{default}`"),
            Kind::Custom { default, .. } => (*default).to_owned(),
        }
    }

    /// Returns the default for a line in a list: the value, or "-" if it is described in words.
    pub(crate) fn default_in_short(&self) -> String {
        match self.kind {
            Kind::Custom { .. } => "-".to_owned(),
            _ => self.default_in_words().replace('`', ""),
        }
    }

    fn between(&self, show: impl Fn(u64) -> String, range: &RangeInclusive<u64>) -> String {
        format!("write from \"{}\" to \"{}\"", show(*range.start()), show(*range.end()))
    }
}
