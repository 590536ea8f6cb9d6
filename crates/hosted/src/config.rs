//! The settings: flags, the environment and `NAME.toml` → one plain struct, checked once.
//!
//! Flags take precedence over the environment, which takes precedence over the file. All mistakes are collected,
//! not only the first: at a terminal they are reported and end the program; under FastCGI visitors get a page and
//! the log gets the mistakes. Which settings there are is [`Keys`]: a program's own, and those of every program
//! (`config/general.rs`).

mod edit;
mod file;
mod general;
mod key;
mod keys;
mod node;
mod problem;
mod quantity;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use app_server::Address;

pub use self::edit::with_text;
pub(crate) use self::file::read_text;
pub use self::general::{data, node};
pub use self::key::{Advice, Key, Kind};
pub use self::keys::{Keys, Takes, Variable};
pub use self::node::of_host as name_of_host;
pub use self::problem::{Location, Problem};
pub use self::quantity::parse_time;
pub use self::value::Value;
use crate::installation::{DATA, home};
use crate::program::Program;
use crate::report::Failure;

/// The settings of a program, as the rest of it uses them: those of every program, and its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings<O> {
    /// Where `serve` and `fastcgi` listen.
    pub listen: Option<Address>,
    /// How many processes `serve` and `fastcgi` keep, minimum and maximum.
    pub workers: RangeInclusive<usize>,
    /// Where messages go; `None`: the transport's default.
    pub log: Option<PathBuf>,
    /// Bytes of a log file after which a new one is started.
    pub log_bytes: u64,
    /// The folder of the state that processes share; `None`: beside the program.
    pub data: Option<PathBuf>,
    /// The database of the store; `None`: a file in the folder `data`.
    #[cfg(feature = "store")]
    pub database: Option<storage::DatabaseUrl>,
    /// The name of this machine, one of several that serve the site.
    pub node: Option<String>,
    /// Whether visitors read what is wrong with the configuration.
    pub show_configuration_errors: bool,
    /// The server's.
    pub server: app_server::Settings,
    /// The program's own.
    pub own: O,
}

impl<O> Settings<O> {
    /// Returns the folder of the state that processes share; `None` if it cannot be found, for example without /proc.
    pub fn data_folder(&self) -> Option<PathBuf> {
        self.data.clone().or_else(|| Some(DATA.within(&home()?)))
    }
}

impl<O: Default> Default for Settings<O> {
    fn default() -> Self {
        let mut server = app_server::Settings::default();
        // Half of what small accounts get.
        server.memory = Some(512 << 20);
        Settings {
            listen: None,
            workers: 1..=1,
            log: None,
            log_bytes: 2 << 20,
            data: None,
            #[cfg(feature = "store")]
            database: None,
            node: None,
            show_configuration_errors: false,
            server,
            own: O::default(),
        }
    }
}

/// The part of the command line that concerns settings.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// `--config`
    pub config: Option<PathBuf>,
    /// The flags that are keys, as the flag, the key's name and the value.
    pub keys: Vec<(&'static str, &'static str, String)>,
}

/// The settings, and where they come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Configuration<O> {
    /// Whose they are.
    pub program: Program,
    /// The command line, to load them again.
    pub command_line: CommandLine,
    /// All valid settings, and defaults for the rest.
    pub settings: Settings<O>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Its text as it was read; empty without a file.
    pub text: String,
    /// What was set, by key: the value as written, and where.
    pub set: BTreeMap<&'static str, (Value, Location)>,
    /// The mistakes, in the order in which they were written.
    pub problems: Vec<Problem>,
    /// What looks like a mistake but may be intended.
    pub warnings: Vec<String>,
    /// The mistakes in the file that the last good one replaces.
    pub instead_of: Vec<Problem>,
}

impl<O: Default> Configuration<O> {
    fn new(program: Program, command_line: &CommandLine) -> Self {
        Configuration {
            program,
            command_line: command_line.clone(),
            settings: Settings::default(),
            file: None,
            text: String::new(),
            set: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            instead_of: Vec::new(),
        }
    }
}

impl<O> Configuration<O> {
    /// Returns whether there is a mistake on the command line, which is reported at the terminal.
    pub fn has_wrong_flags(&self) -> bool {
        self.problems.iter().any(|problem| match problem {
            Problem::BadValue { location, .. } => matches!(location, Location::Flag(_)),
            Problem::Unreadable { named_by, .. } => named_by.as_deref() == Some("--config"),
            Problem::UnknownKey { .. }
            | Problem::Together { .. }
            | Problem::Syntax { .. }
            | Problem::Twice { .. }
            | Problem::Encoding { .. } => false,
        })
    }

    /// Returns what a command says about the mistakes: all of them, and which file it is.
    pub fn failure(&self) -> Failure {
        let file = self.file.as_ref().map(|file| format!("the file is {}", file.display()));
        let key = self.problems.iter().find_map(Problem::key);
        let key = key.map(|key| format!("`{} settings {key}` explains it", self.program.name));
        let hints: Vec<_> = key.into_iter().chain(file).collect();
        let failure = Failure::several(self.problems.iter().map(ToString::to_string).collect());
        match hints.is_empty() {
            true => failure,
            false => failure.hint(format!("{}.", hints.join("; "))),
        }
    }

    fn read_environment(&mut self, keys: &Keys<O>, environment: Vec<(String, OsString)>) {
        // Sorted: of several variables for one key, the later one counts.
        for (name, value) in environment {
            if let Some(variable) = keys.other_variables().find(|variable| variable.name == name) {
                if value.is_empty() {
                    continue;
                }
                let text = value.to_string_lossy();
                match variable.takes {
                    Takes::Text(take) => take(&mut self.settings, &text),
                    Takes::Key(key) => {
                        let value = Value::Text(text.into_owned());
                        self.put(keys, key, value, Location::Variable(name));
                    }
                }
                continue;
            }
            let Some(key) = keys.iter().find(|key| self.program.variable(key.name) == name) else {
                self.warnings.extend(keys.warning_about(&name));
                continue;
            };
            if value.is_empty() && !key.takes_nothing() {
                continue;
            }
            let value = value.into_string().map_or(Value::Other("not UTF-8"), Value::Text);
            self.put(keys, key.name, value, Location::Variable(name));
        }
    }

    fn put(&mut self, keys: &Keys<O>, name: &str, value: Value, location: Location) {
        let Some(key) = keys.named(name) else {
            let problem = if value == Value::Other("a table") {
                let advice = "write its settings without a section".to_owned();
                Problem::BadValue { key: None, location, value: Value::Other("a section"), advice }
            } else {
                let nearest = nearest(name, keys.iter().map(|key| key.name));
                Problem::UnknownKey { location, nearest }
            };
            self.problems.push(problem);
            return;
        };
        let value = match value {
            Value::Text(text) if keys.is_secret(key) => Value::Secret(text),
            Value::Number(_) if keys.is_secret(key) => Value::Other("a number"),
            value => value,
        };
        match key.take(&mut self.settings, &value, &location) {
            Ok(()) => drop(self.set.insert(key.name, (value, location))),
            Err(advice) => {
                let key = Some(key.name);
                self.problems.push(Problem::BadValue { key, location, value, advice });
            }
        }
    }
}

/// Returns an error of the operating system, worded to fit into a sentence.
pub fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the known name that is most similar to an unknown one, if any is similar.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
