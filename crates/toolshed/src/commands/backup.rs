//! `toolshed backup FILE`: one consistent copy of the store, made while the site is in use.

use std::path::Path;

use super::right_settings;
use crate::application;
use crate::config::Typed;
use crate::report::{self, Failure};

/// Writes the copy.
pub(crate) fn run(typed: &Typed, target: &Path) -> Result<(), Failure> {
    let configuration = right_settings(typed)?;
    site::store::trust_the_owner_of_data();
    let store = application::login(&configuration.settings).store();
    let file = store.file().display();
    if !store.file().exists() {
        return Err(Failure::refused(format!("There is nothing to copy yet: {file} is not there."))
            .hint("The site makes it when there is something to remember; set data, if it lies elsewhere."));
    }
    let copied = event_loop::run(async {
        store.check().await?;
        store.back_up(target).await
    });
    copied
        .map_err(Failure::refused)?
        .map_err(|error| Failure::refused(format!("No copy was made: {error}.")))?;
    report::print(&format!("{} is a copy of {file}.\n", target.display()))
}
