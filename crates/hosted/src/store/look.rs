//! What `check` finds out about the store. It changes nothing.

use atomic_file::folder_of;
use rustix::fs::{Access, access};
use storage::{StoreError, Trust};

use super::{Keeps, place_of};
use crate::config::{Configuration, Settings};
use crate::findings::Findings;

/// Adds whether the program could use its store. `consequence`: what does not work until then, as a sentence.
pub fn look<A: Keeps>(
    app: &A,
    findings: &mut Findings,
    configuration: &Configuration<A::Own>,
    consequence: &str,
) {
    let store = app.store(&configuration.settings, Trust::default());
    match store.file() {
        // There is no store, or what is there has been said of the folder.
        Some(file) if !folder_of(file).is_dir() => {}
        Some(file)
            if file.exists() && access(file, Access::READ_OK | Access::WRITE_OK).is_err() =>
        {
            findings.wrong(
                "Store",
                format!("{} cannot be used by this account", file.display()),
                "Give it to the site's account (chown) and set its mode to 600.",
            );
        }
        Some(_) => match store.find_obstacle(&app.schemas(&store)) {
            // It has been said of the folder.
            Err(StoreError::Exposed { .. } | StoreError::ForeignFolder { .. }) => {}
            Err(error) if is_lasting(&error) => {
                findings.wrong("Store", error.to_string(), consequence);
            }
            // A file that is used by others at the moment says nothing.
            Ok(()) | Err(_) => {}
        },
        None => match store.find_obstacle(&app.schemas(&store)) {
            Ok(()) => {
                findings.ok("Database", "PostgreSQL responds, and the site may use it");
                unmoved(app, findings, configuration);
            }
            Err(error) => findings.wrong("Database", error.to_string(), consequence),
        },
    }
    for left in store.unfinished_copies() {
        let kib = left.bytes.div_ceil(1024);
        findings.note(
            "Store",
            format!("{} ({kib} KiB) was left by a killed backup", left.folder.display()),
            format!("The next {} backup removes it.", configuration.program.name),
        );
    }
}

/// Whether there is a store in a file from before, which is not used any more.
fn unmoved<A: Keeps>(app: &A, findings: &mut Findings, configuration: &Configuration<A::Own>) {
    let settings = Settings { database: None, ..configuration.settings.clone() };
    let in_file = app.store(&settings, Trust::default());
    if in_file.exists() && in_file.find_obstacle(&app.schemas(&in_file)).is_ok() {
        let name = configuration.program.name;
        findings.note(
            "Database",
            format!("the site does not use {}, in which it has kept things before", place_of(&in_file)),
            format!(
                "To take them along: remove the setting database, {name} store move URL, set it again. Otherwise remove \
                 that file."
            ),
        );
    }
}

/// Whether an error of a store in a file stays until the owner does something: others may be using it just now, and what a
/// killed process has left, which SQLite can only roll back where it may write, the site repairs.
pub fn is_lasting(error: &StoreError) -> bool {
    !matches!(error, StoreError::Busy | StoreError::Sql(_))
}
