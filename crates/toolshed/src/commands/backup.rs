//! `toolshed backup FILE`: one consistent copy of the store, made while the site is in use.

use std::path::{Path, PathBuf};

use atomic_file::{FileIdentity, folder_of};
use hosted::config::CommandLine;
use hosted::installation::{CRASHES, CRASHES_ELSEWHERE, CRASHES_OLD};
use hosted::report::{self, Failure};
use site::LoginSettings;
use site::storage::Trust;

use super::blobs;
use crate::application;
use crate::config::{Configuration, keys};
use crate::installation::{
    KEY, PROGRAM, STORE_JOURNAL, STORE_MOVED, STORE_REPLACED, STORE_SHM, STORE_WAL,
};

/// Writes the copy.
pub(crate) fn run(command_line: &CommandLine, target: &Path) -> Result<(), Failure> {
    let configuration = keys().load_valid(command_line)?;
    let login = application::login(&configuration.settings);
    let store = LoginSettings { trust: Trust::of_command(), ..login }.store();
    let Some(file) = store.file() else {
        return Err(Failure::refused("No backup was made: the store is in PostgreSQL.").hint(
            "Back it up with pg_dump, and blobs with `toolshed blobs copy` (docs/storing.md).",
        ));
    };
    let shown = file.display();
    if let Some(own) = own_files(&configuration).iter().find(|own| is_same(own, target)) {
        return Err(Failure::refused(format!(
            "No backup was made: {} belongs to the site; choose another name.",
            own.display()
        )));
    }
    if !file.exists() {
        return Err(Failure::refused(format!("Nothing to back up yet: {shown} does not exist."))
            .hint(
                "The site creates it when it first stores something; set data if it is elsewhere.",
            ));
    }
    let copied = event_loop::run(store.back_up(target));
    copied
        .map_err(Failure::refused)?
        .map_err(|error| Failure::refused(format!("No backup was made: {error}.")))?;
    let said = format!("Backed up {shown} to {}.\n", target.display());
    let remark = blobs::remark(&configuration.settings, |place| {
        format!(
            "The blobs in {place} are not in it: copy them with `toolshed blobs copy FOLDER`.\n"
        )
    });
    report::print(&(said + &remark))
}

/// The site's own files, even those that do not exist yet: a backup with their name would be mistaken for them.
fn own_files(configuration: &Configuration) -> Vec<PathBuf> {
    let login = application::login(&configuration.settings);
    let store = login.store();
    let beside_the_store = store.file().into_iter().flat_map(|file| {
        [STORE_JOURNAL, STORE_WAL, STORE_SHM, STORE_REPLACED, STORE_MOVED]
            .map(|entry| entry.beside(file))
    });
    let settings = &configuration.settings;
    let crashes = [CRASHES, CRASHES_OLD, CRASHES_ELSEWHERE].map(|entry| entry.within(&login.data));
    let others = [
        login.set_up_file,
        configuration.file.clone(),
        keys().file(&configuration.command_line),
        settings.log.clone().or_else(|| PROGRAM.default_log()),
        std::env::current_exe().ok(),
        Some(KEY.within(&login.data)),
        store.file().map(Path::to_owned),
    ];
    beside_the_store.chain(crashes).chain(others.into_iter().flatten()).collect()
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
