//! `store move`: the store gets to another place, a database or a file.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use atomic_file::{FileIdentity, folder_of};
use storage::{DatabaseUrl, MOVED_SUFFIX, Moved, Progress, Store, StoreError, Trust};

use super::{Done, Keeps, Kept, entries, place_of};
use crate::report::{self, Failure};

impl<A: Keeps> Kept<'_, A> {
    /// `places`: from where, if not from where it is, and to where.
    pub(super) fn relocate(&self, places: &[String]) -> Result<(), Failure> {
        let (from, to) = match places {
            [from, to] => (self.at(from)?, self.target(to)?),
            [to] => (self.store.clone(), self.target(to)?),
            _ => return Err(Failure::wrong("Name the place to move the store to.")),
        };
        if is_same(&from, &to) {
            let place = place_of(&to);
            return Err(Failure::refused(format!(
                "Nothing was moved: the store is in {place} already."
            )));
        }
        let moved = self.move_store(&from, &to)?;
        report::print(&self.said(&from, &to, moved.as_ref()))
    }

    /// Returns the store in a file or at a URL.
    fn at(&self, place: &str) -> Result<Store, Failure> {
        let schema = self.store.schema();
        // A mistyped scheme is no folder to move the store into.
        if place.contains("://")
            || place.starts_with("postgres:")
            || place.starts_with("postgresql:")
        {
            let url = place.parse::<DatabaseUrl>();
            let mut url = url.map_err(|error| Failure::wrong(format!("{error}.")))?;
            // Arguments can be seen by other accounts of the machine, the environment cannot.
            if let Ok(password) = std::env::var("PGPASSWORD") {
                url = url.or_password(&password);
            }
            return Ok(Store::in_postgres(&url, schema));
        }
        Ok(Store::in_file(place, Trust::of_command(), schema))
    }

    /// The same, for a place that settings can name.
    fn target(&self, place: &str) -> Result<Store, Failure> {
        let store = self.at(place)?;
        let name = entries::STORE.name(self.program);
        if store.file().is_some_and(|file| file.file_name() != Some(OsStr::new(&name))) {
            return Err(Failure::wrong(format!(
                "Nothing was moved: a store in a file is called {name}; write its folder before it, as in \
                 FOLDER/{name}."
            )));
        }
        Ok(store)
    }

    fn move_store(&self, from: &Store, to: &Store) -> Result<Option<Moved>, Failure> {
        let mut shown = Instant::now();
        let progress = |now: Progress<'_>| {
            if shown.elapsed() >= report::PROGRESS_INTERVAL {
                shown = Instant::now();
                // If it cannot be shown, the end still is.
                let _ = writeln!(io::stderr(), "{}: {} rows …", now.table, now.rows);
            }
        };
        event_loop::run(from.move_to(to, &self.app.schemas(from), progress))
            .map_err(Failure::refused)?
            .map_err(|error| match error {
                StoreError::MoveUnfinished(why) => Failure::refused(format!(
                    "Everything has been copied, but the move is not finished: {why}."
                ))
                .hint(format!(
                    "Run the same command again, with both places: {} store move FROM TO",
                    self.program.name
                )),
                error => Failure::refused(format!("Nothing was moved: {error}.")),
            })
    }

    /// What is said at the end: `moved`, and what to do now.
    fn said(&self, from: &Store, to: &Store, moved: Option<&Moved>) -> String {
        let (place, target) = (place_of(from), place_of(to));
        let mut said = match moved {
            Some(moved) => format!(
                "Moved {} rows in {} tables from {place} to {target}, and compared them.\n",
                moved.rows, moved.tables
            ),
            None => format!("Everything was in {target} already; the move is finished.\n"),
        };
        let folder = to.file().map(folder_of);
        let folder =
            folder.map(|folder| fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()));
        match &folder {
            Some(folder) => {
                said += &format!(
                    "Now set data to {}, unless it is that already, and remove the setting database.\n",
                    folder.display()
                );
            }
            None => said += "Now set database to that URL.\n",
        }
        let done = folder.as_deref().map_or(Done::MovedToPostgres, Done::MovedToFolder);
        let remark = self.app.remark(self.settings, done);
        if from.file().is_some() {
            said += &format!("What was there is kept as {place}{MOVED_SUFFIX}.\n");
        }
        said + &remark
    }
}

/// Whether two stores are one file. Of two URLs, the move finds out.
fn is_same(one: &Store, other: &Store) -> bool {
    let identity = |store: &Store| store.file().and_then(FileIdentity::of);
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
