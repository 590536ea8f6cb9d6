//! `launcher FOLDER`: writes what a web server needs to start the program, `dispatch.fcgi` and `.htaccess`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use atomic_file::Durability;

use crate::config::in_words;
use crate::installation::{Entry, LAUNCHER, RULES};
use crate::program::Program;
use crate::report::{self, Failure};

/// Writes the files that are not there yet.
///
/// # Errors
///
/// If one is there that says something else, or cannot be written; nothing that was there is changed.
pub(crate) fn run(program: Program, folder: &Path) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Err(Failure::wrong(format!("{} is not a folder.", folder.display()))
            .hint("Name the site's folder: the document root, or a folder in it."));
    }
    let files = [(LAUNCHER, program.launcher()), (RULES, program.rewrite_rules())];
    let mut missing = Vec::new();
    for (entry, text) in &files {
        let file = entry.within(folder);
        match fs::read(&file) {
            Ok(found) if found == text.as_bytes() => {}
            Ok(_) => return Err(is_other(&file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push((file, entry, text));
            }
            Err(error) => return Err(unusable(&file, &error)),
        }
    }
    let mut said = String::new();
    for (file, entry, text) in missing {
        write(&file, *entry, text).map_err(|error| unusable(&file, &error))?;
        said += &format!("Written: {}\n", file.display());
    }
    if said.is_empty() {
        said = format!("Both files are in {} already.\n", folder.display());
    }
    let name = program.name;
    let home = program.folder_next_to_site();
    said += &format!(
        "They start the program {name} beside them, in {home}/ beside that folder, or in ~/{name}/.\n\
         {name} check {} says whether it is found.\n",
        folder.display()
    );
    report::print(&said)
}

fn write(file: &Path, entry: Entry, text: &str) -> io::Result<()> {
    atomic_file::replace(file, entry.mode, Durability::Synced, |new| new.write_all(text.as_bytes()))
}

fn is_other(file: &Path) -> Failure {
    Failure::refused(format!("{} is there already, and is another one.", file.display()))
        .hint("Keep what you need of it under another name, remove it, and try again.")
}

fn unusable(file: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("{} cannot be written: {}.", file.display(), in_words(error)))
}
