//! Reads a settings file: each value with its line, each mistake as a problem.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::keys::Keys;
use super::problem::{Location, Problem};
use super::value::Value;
use super::{Configuration, in_words};

/// Bytes of a settings file. A longer file is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a whole settings file, without blocking if it is a pipe.
///
/// # Errors
///
/// Any from the file system; also if it is not a regular file, too long, or not UTF-8.
pub(crate) fn read_text(file: &Path) -> io::Result<String> {
    let (_, bytes) = atomic_file::read_small(file, MAX_FILE_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl<O> Configuration<O> {
    /// Reads a file. The default one may be missing, and nobody has named it: another account may have put it there.
    pub(super) fn read_file(&mut self, keys: &Keys<O>, file: PathBuf, named_by: Option<String>) {
        let read = atomic_file::read_small(&file, MAX_FILE_BYTES).and_then(|(opened, bytes)| {
            if named_by.is_none() {
                refuse_foreign(&file, &opened)?;
            }
            Ok(bytes)
        });
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named_by.is_none() => return,
            Err(error) => {
                let message = in_words(&error);
                self.problems.push(Problem::Unreadable { file, named_by, message });
                return;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.read_text(keys, &text, &file),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = line_at(&error.as_bytes()[..good], good);
                self.problems.push(Problem::Encoding { file: file.clone(), line });
            }
        }
        self.file = Some(file);
    }

    pub(super) fn read_text(&mut self, keys: &Keys<O>, text: &str, file: &Path) {
        text.clone_into(&mut self.text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let first = self.problems.len();
        let mut at = Vec::new();
        for error in errors {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            if at.contains(&line) {
                continue;
            }
            at.push(line);
            let problem = match twice(text, &table, &error) {
                Some((key, first)) => {
                    let first = line_at(text.as_bytes(), first);
                    let command = keys.command_for(&key);
                    Problem::Twice { file: file.to_owned(), key, first, line, command }
                }
                None => {
                    let message = error.message().trim_end_matches('.').replace('\n', ", ");
                    Problem::Syntax { file: file.to_owned(), line, message }
                }
            };
            self.problems.push(problem);
        }
        let unreadable = at.clone();
        for (key, value) in table.into_inner() {
            let line = line_at(text.as_bytes(), key.span().start);
            let last = line_at(text.as_bytes(), value.span().end);
            // A line with a syntax error says nothing about its values.
            if unreadable.iter().any(|at| (line..=last).contains(at)) {
                continue;
            }
            let location =
                Location::Line { file: file.to_owned(), line, key: key.get_ref().to_string() };
            let problems = self.problems.len();
            self.put(keys, key.get_ref(), Value::from_toml(value.get_ref()), location);
            at.resize(at.len() + self.problems.len() - problems, line);
        }
        // The parser sorts by key.
        let mut by_line: Vec<_> = at.into_iter().zip(self.problems.drain(first..)).collect();
        by_line.sort_by_key(|(line, _)| *line);
        self.problems.extend(by_line.into_iter().map(|(_, problem)| problem));
    }
}

/// The key that an error reports as duplicate, and where it first starts. `None` for any other error, and if
/// there are sections, which have their own keys.
pub(super) fn twice(
    text: &str,
    table: &Spanned<DeTable<'_>>,
    error: &toml::de::Error,
) -> Option<(String, usize)> {
    let at = error.span().filter(|_| error.message() == "duplicate key")?;
    let key = text.get(at)?.trim_matches(['"', '\'']);
    let table = table.get_ref();
    if table.iter().any(|(_, value)| value.get_ref().is_table()) {
        return None;
    }
    let (first, _) = table.get_key_value(key)?;
    Some((key.to_owned(), first.span().start))
}

/// Refuses a file that another account may have put there against the owner's will.
fn refuse_foreign(file: &Path, opened: &File) -> io::Result<()> {
    match atomic_file::foreign_owner(file, &opened.metadata()?)? {
        None => Ok(()),
        Some(owner) => Err(io::Error::new(io::ErrorKind::InvalidInput, owner.to_string())),
    }
}

/// The line that contains a byte, starting at 1.
fn line_at(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
