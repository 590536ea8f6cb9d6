//! The keys of a folder in order, from any key on, with bounded memory whatever the number of files.
//!
//! Files and folders of one folder are in the order of their keys if a folder counts as its name with `/` at the end.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{Entry, parse};
use crate::key::Key;

/// How many names of a folder are kept at a time. The folder is read again for the next ones, so a much smaller number
/// would make long lists slow; these take about 200 KiB.
const BATCH: usize = 1024;

/// After how many names read other tasks may run.
const PAUSE: usize = 512;

/// Goes through the keys that start with a prefix, after a key.
pub(super) struct Walk {
    prefix: String,
    after: String,
    levels: Vec<Level>,
}

/// A folder on the way to the current key.
struct Level {
    folder: PathBuf,
    /// What the keys in it start with: empty, or ends with a slash.
    start: String,
    names: VecDeque<(String, PathBuf)>,
    /// The name after which to read on, if there are more.
    read_on: Option<String>,
}

impl Walk {
    pub(super) fn new(stored: &Path, prefix: &str, after: Option<&Key>) -> Self {
        let root = Level {
            folder: stored.to_owned(),
            start: String::new(),
            names: VecDeque::new(),
            read_on: Some(String::new()),
        };
        let after = after.map(|key| key.as_str().to_owned()).unwrap_or_default();
        Walk { prefix: prefix.to_owned(), after, levels: vec![root] }
    }

    /// Returns the next key.
    ///
    /// # Errors
    ///
    /// If a folder cannot be read. A folder that was removed meanwhile is empty, unless it is the one of all.
    pub(super) async fn next(&mut self) -> io::Result<Option<Key>> {
        loop {
            let is_root = self.levels.len() == 1;
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((name, folder)) = level.names.pop_front() else {
                match level.read_on.take() {
                    Some(last) => match level.read(&last, &self.prefix, &self.after).await {
                        Err(error) if !is_root && is_no_folder(&error) => {}
                        done => done?,
                    },
                    None => drop(self.levels.pop()),
                }
                continue;
            };
            let full = level.start.clone() + &name;
            if name.ends_with('/') {
                let names = VecDeque::new();
                let read_on = Some(String::new());
                self.levels.push(Level { folder, start: full, names, read_on });
            } else if let Some(key) = Key::of_stored(&full) {
                return Ok(Some(key));
            }
        }
    }
}

impl Level {
    /// Reads the first names after `last` below which there may be keys that are looked for.
    async fn read(&mut self, last: &str, prefix: &str, after: &str) -> io::Result<()> {
        let mut first = BTreeMap::new();
        for (count, entry) in fs::read_dir(&self.folder)?.enumerate() {
            if count % PAUSE == PAUSE - 1 {
                event_loop::yield_now().await;
            }
            let entry = entry?;
            let name = match entry.file_name().to_str().and_then(parse) {
                Some(Entry::Blob(segment)) => segment,
                Some(Entry::Folder(segment)) => segment + "/",
                // Not put there by us.
                None => continue,
            };
            let full = self.start.clone() + &name;
            if *name <= *last || !may_contain(&full, prefix, after) {
                continue;
            }
            first.insert(name, entry.path());
            if first.len() > BATCH {
                first.pop_last();
                self.read_on = Some(String::new());
            }
        }
        if let (Some(read_on), Some((name, _))) = (&mut self.read_on, first.last_key_value()) {
            read_on.clone_from(name);
        }
        self.names = first.into_iter().collect();
        Ok(())
    }
}

/// Returns whether what was to be read was removed meanwhile, or is not a folder: so not put there by us.
fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns whether `name` is a key that is looked for, or a folder of such keys.
fn may_contain(name: &str, prefix: &str, after: &str) -> bool {
    let is_folder = name.ends_with('/');
    let has_prefix = name.starts_with(prefix) || is_folder && prefix.starts_with(name);
    let is_after = name > after || is_folder && after.starts_with(name);
    has_prefix && is_after
}
