//! What is wrong with a configuration, as one sentence: where, the value, and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::Value;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On the command line, as this flag: `--listen`.
    Flag(&'static str),
    /// In the environment, as this variable: `TOOLSHED_LISTEN`.
    Variable(String),
    /// In a file.
    Line {
        /// The file as it was named or found.
        file: PathBuf,
        /// The line, starting at 1.
        line: usize,
        /// The key as written.
        key: String,
    },
}

impl Location {
    /// The folder that a relative path is relative to, if it is not the current one. The paths in a file are
    /// relative to the file, because it is unknown in which folder a web server starts programs.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Location::Line { file, .. } => file.parent(),
            Location::Flag(_) | Location::Variable(_) => None,
        }
    }
}

impl Location {
    /// Without the key: `toolshed.toml, line 3`.
    pub fn in_short(&self) -> String {
        match self {
            Location::Flag(name) => (*name).to_owned(),
            Location::Variable(name) => name.clone(),
            Location::Line { file, line, .. } => format!("{}, line {line}", name_of(file)),
        }
    }
}

/// `--listen`, `TOOLSHED_LISTEN`, or `toolshed.toml, line 3: listen`.
impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Flag(name) => formatter.write_str(name),
            Location::Variable(name) => formatter.write_str(name),
            Location::Line { file, line, key } => {
                write!(formatter, "{}, line {line}: {key}", name_of(file))
            }
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A value that its key does not accept.
    BadValue {
        /// The key, if it exists.
        key: Option<&'static str>,
        /// Where it was written.
        location: Location,
        /// The value as written.
        value: Value,
        /// What to write, starting with "write".
        advice: String,
    },
    /// A value that does not go together with others.
    Together {
        /// The key.
        key: &'static str,
        /// Where it was written.
        location: Location,
        /// Why, and what to do, without a period.
        problem: String,
    },
    /// A key that does not exist.
    UnknownKey {
        /// Where it was written.
        location: Location,
        /// The most similar known key.
        nearest: Option<&'static str>,
    },
    /// A file that is not TOML.
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, starting at 1.
        line: usize,
        /// What the parser said, without a period.
        message: String,
    },
    /// A key that appears in a file more than once.
    Twice {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The line of the first, starting at 1.
        first: usize,
        /// The line of this one.
        line: usize,
        /// The command that sets it, if there is one.
        command: Option<String>,
    },
    /// A file that is not UTF-8.
    Encoding {
        /// The file.
        file: PathBuf,
        /// The line, starting at 1.
        line: usize,
    },
    /// A file that cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The flag or variable that named the file, if any.
        named_by: Option<String>,
        /// What the operating system said.
        message: String,
    },
}

impl Problem {
    /// The setting concerned.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Problem::BadValue { key, .. } => *key,
            Problem::Together { key, .. } => Some(key),
            Problem::UnknownKey { nearest, .. } => *nearest,
            Problem::Syntax { .. }
            | Problem::Twice { .. }
            | Problem::Encoding { .. }
            | Problem::Unreadable { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::BadValue { location, value, advice, .. } => {
                write!(formatter, "{location} is {value}; {advice}.")
            }
            Problem::Together { location, problem, .. } => {
                write!(formatter, "{location}: {problem}.")
            }
            Problem::UnknownKey { location, nearest } => {
                match location {
                    Location::Flag(name) => write!(formatter, "unknown setting `{name}`")?,
                    Location::Variable(name) => write!(formatter, "unknown setting `{name}`")?,
                    Location::Line { key, .. } => {
                        write!(formatter, "{}: unknown setting `{key}`", location.in_short())?;
                    }
                }
                match nearest {
                    Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
                    None => formatter.write_str("; remove the line."),
                }
            }
            Problem::Syntax { file, line, message } => {
                write!(
                    formatter,
                    "{}, line {line}: invalid TOML ({message}); write KEY = VALUE, with \
                     strings in double quotes.",
                    name_of(file)
                )
            }
            Problem::Twice { file, key, first, line, command } => {
                let file = name_of(file);
                write!(formatter, "{file}, line {line}: {key} is already set in line {first}; ")?;
                match command {
                    Some(command) => write!(
                        formatter,
                        "delete one of the two lines, or replace both with `{command}`."
                    ),
                    None => formatter.write_str("delete one of the two lines."),
                }
            }
            Problem::Encoding { file, line } => {
                let file = name_of(file);
                write!(formatter, "{file}, line {line}: invalid UTF-8; save the file as UTF-8.")
            }
            Problem::Unreadable { file, named_by, message } => {
                write!(formatter, "{} cannot be read: {message}", file.display())?;
                match named_by {
                    Some(name) => write!(formatter, "; name another file in {name}."),
                    None => {
                        formatter.write_str("; it has to be a file that this account can read.")
                    }
                }
            }
        }
    }
}

/// Only the name; the whole path is reported once, not in every sentence.
fn name_of(file: &Path) -> std::borrow::Cow<'_, str> {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy()
}
