//! `toolshed restore FILE`: puts a backup in the place of the store, while the site is in use.

use std::path::Path;

use hosted::config::CommandLine;
use hosted::report::{self, Failure};
use site::LoginSettings;
use site::storage::{StoreError, Trust};

use super::store;
use crate::application;
use crate::config::keys;

pub(crate) fn run(command_line: &CommandLine, backup: &Path) -> Result<(), Failure> {
    let configuration = keys().load_valid(command_line)?;
    let login = application::login(&configuration.settings);
    let store = LoginSettings { trust: Trust::of_command(), ..login }.store();
    let known = store::schemas(&store);
    // The sign that a moved store has left behind cannot be restored.
    let is_sign =
        || matches!(store.find_obstacle(&known), Err(StoreError::Moved | StoreError::Unfinished));
    let was_in_use = store.file().is_some() && !is_sign();
    let replaced = event_loop::run(site::login::restore(&store, backup, &known))
        .map_err(Failure::refused)?
        .map_err(|error| Failure::refused(format!("Nothing was restored: {error}.")))?;
    let place = store.file().unwrap_or(Path::new("the store")).display();
    let mut said = format!(
        "Restored {place} from {}.\nAll browsers have been logged out.\n",
        backup.display()
    );
    if let Some(replaced) = replaced {
        let replaced = replaced.display();
        said += &format!("The one before is kept as {replaced}, until the next time.\n");
        if was_in_use {
            said += &format!("To undo this: toolshed restore {replaced}\n");
        }
    }
    report::print(&said)
}
