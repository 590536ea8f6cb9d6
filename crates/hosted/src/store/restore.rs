//! `restore FILE`: puts a backup in the place of the store, while the program is in use.

use std::path::Path;

use storage::StoreError;

use super::{Done, Keeps, Kept, place_of};
use crate::report::{self, Failure};

impl<A: Keeps> Kept<'_, A> {
    pub(super) fn restore(&self, backup: &Path) -> Result<(), Failure> {
        let store = &self.store;
        // The sign that a moved store has left behind cannot be restored.
        let is_sign = || {
            let obstacle = store.find_obstacle(&self.app.schemas(store));
            matches!(obstacle, Err(StoreError::Moved | StoreError::Unfinished))
        };
        let was_in_use = store.file().is_some() && !is_sign();
        let replaced = event_loop::run(self.app.restore(store, backup))
            .map_err(Failure::refused)?
            .map_err(|error| Failure::refused(format!("Nothing was restored: {error}.")))?;
        let mut said = format!("Restored {} from {}.\n", place_of(store), backup.display());
        said += &self.app.remark(self.settings, Done::Restored);
        if let Some(replaced) = replaced {
            let (name, replaced) = (self.program.name, replaced.display());
            said += &format!("The one before is kept as {replaced}, until the next time.\n");
            if was_in_use {
                said += &format!("To undo this: {name} restore {replaced}\n");
            }
        }
        report::print(&said)
    }
}
