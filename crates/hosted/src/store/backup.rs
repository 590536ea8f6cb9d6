//! `backup FILE`: one consistent copy of the store, made while the program is in use.

use std::path::{Path, PathBuf};

use atomic_file::{FileIdentity, folder_of};

use super::{Done, Keeps, Kept, entries};
use crate::installation::{CRASHES, CRASHES_ELSEWHERE, CRASHES_OLD};
use crate::report::{self, Failure};

impl<A: Keeps> Kept<'_, A> {
    /// Writes the copy. `settings_files`: the one that is read, and the one that would be.
    pub(super) fn back_up<'a>(
        &self,
        target: &Path,
        settings_files: impl Iterator<Item = &'a PathBuf>,
    ) -> Result<(), Failure> {
        let Some(file) = self.store.file() else {
            let dump = "Back it up with pg_dump (docs/storing.md).";
            return Err(
                Failure::refused("No backup was made: the store is in PostgreSQL.").hint(dump)
            );
        };
        let own_files = self.own_files(file).into_iter().chain(settings_files.cloned());
        if let Some(own) = own_files.into_iter().find(|own| is_same(own, target)) {
            return Err(Failure::refused(format!(
                "No backup was made: {} belongs to the site; choose another name.",
                own.display()
            )));
        }
        let shown = file.display();
        if !file.exists() {
            let missing = format!("Nothing to back up yet: {shown} does not exist.");
            return Err(Failure::refused(missing).hint(
                "The site creates it when it first stores something; set data if it is elsewhere.",
            ));
        }
        event_loop::run(self.store.back_up(target))
            .map_err(Failure::refused)?
            .map_err(|error| Failure::refused(format!("No backup was made: {error}.")))?;
        let said = format!("Backed up {shown} to {}.\n", target.display());
        report::print(&(said + &self.app.remark(self.settings, Done::BackedUp)))
    }

    /// The program's own files, even those that do not exist yet: a backup with their name would be mistaken for them.
    fn own_files(&self, store: &Path) -> Vec<PathBuf> {
        let data = self.settings.data_folder();
        let crashes = [CRASHES, CRASHES_OLD, CRASHES_ELSEWHERE];
        let crashes =
            data.iter().flat_map(|data| crashes.map(|entry| entry.within(data))).collect();
        let others = [
            Some(store.to_owned()),
            self.settings.log.clone().or_else(|| self.program.default_log()),
            std::env::current_exe().ok(),
        ];
        let all: [Vec<_>; 4] = [
            entries::BESIDE.map(|entry| entry.beside(store)).into(),
            crashes,
            others.into_iter().flatten().collect(),
            self.app.own_files(self.settings),
        ];
        all.concat()
    }
}

/// Whether two paths name the same file, or would once it is made.
fn is_same(one: &Path, other: &Path) -> bool {
    if let (Some(one), Some(other)) = (FileIdentity::of(one), FileIdentity::of(other)) {
        return one == other;
    }
    let place =
        |path: &Path| Some((FileIdentity::of(folder_of(path))?, path.file_name()?.to_owned()));
    place(one).is_some_and(|one| place(other) == Some(one))
}
