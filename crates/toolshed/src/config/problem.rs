//! What is wrong with a configuration, as one sentence: where it stands, what stands there, and what
//! to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::Value;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the command line, as this flag: `--listen`.
    Flag(&'static str),
    /// In the environment, as this variable: `TOOLSHED_LISTEN`.
    Variable(String),
    /// In a file.
    Line {
        /// The file as it was named or found.
        file: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The key as it stands there.
        key: String,
    },
}

impl Place {
    /// The folder from which a relative path counts, when it is not the current one: a file's paths
    /// begin where the file is, for nobody knows in which folder a web server starts programs.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Place::Line { file, .. } => file.parent(),
            Place::Flag(_) | Place::Variable(_) => None,
        }
    }
}

impl Place {
    /// Without the key: `toolshed.toml, line 3`.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Place::Flag(name) => (*name).to_owned(),
            Place::Variable(name) => name.clone(),
            Place::Line { file, line, .. } => format!("{}, line {line}", name_of(file)),
        }
    }
}

/// `--listen`, `TOOLSHED_LISTEN`, or `toolshed.toml, line 3: listen`.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) => formatter.write_str(name),
            Place::Variable(name) => formatter.write_str(name),
            Place::Line { file, line, key } => {
                write!(formatter, "{}, line {line}: {key}", name_of(file))
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A value that its key does not take.
    BadValue {
        /// The key, when there is such a key.
        key: Option<&'static str>,
        /// Where it stands.
        place: Place,
        /// What stands there.
        value: Value,
        /// What to write, beginning with "write".
        advice: String,
    },
    /// A key that there is not.
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A file that is no TOML.
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1 on.
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
    },
    /// A file with a letter in another encoding.
    Encoding {
        /// The file.
        file: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
    /// A file that cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Who named the file, when somebody did.
        named_by: Option<&'static str>,
        /// What the operating system said.
        message: String,
    },
}

impl Problem {
    /// The setting that it is about.
    pub(crate) fn key(&self) -> Option<&'static str> {
        match self {
            Problem::BadValue { key, .. } => *key,
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
            Problem::BadValue { place, value, advice, .. } => {
                write!(formatter, "{place} is {value}; {advice}.")
            }
            Problem::UnknownKey { place, nearest: Some(nearest) } => {
                write!(formatter, "{place} is no setting; write {nearest}, if that is meant.")
            }
            Problem::UnknownKey { place, nearest: None } => {
                write!(formatter, "{place} is no setting; take the line out.")
            }
            Problem::Syntax { file, line, message } => {
                write!(
                    formatter,
                    "{}, line {line}: this line is no TOML ({message}); write KEY = VALUE, with \
                     texts in double quotes.",
                    name_of(file)
                )
            }
            Problem::Twice { file, key, first, line } => {
                let file = name_of(file);
                write!(formatter, "{file}, line {line}: {key} is already set in line {first}; ")?;
                formatter.write_str(match key.as_str() {
                    "password_hash" => {
                        "delete one of the two lines, or replace both with `toolshed set-password`."
                    }
                    _ => "delete one of the two lines.",
                })
            }
            Problem::Encoding { file, line } => {
                let file = name_of(file);
                write!(
                    formatter,
                    "{file}, line {line}: a letter is not UTF-8; save the file as UTF-8."
                )
            }
            Problem::Unreadable { file, named_by, message } => {
                write!(formatter, "{} cannot be read: {message}", file.display())?;
                match named_by {
                    Some(name) => write!(formatter, "; name another file in {name}."),
                    None => formatter.write_str("; make it a file that this account may read."),
                }
            }
        }
    }
}

/// The name alone; the whole path is told once, not in every sentence.
fn name_of(file: &Path) -> std::borrow::Cow<'_, str> {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy()
}
