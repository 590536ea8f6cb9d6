//! `set-password`: sets the owner's password in the settings file, replacing the previous one.
//!
//! Nothing else in the file changes, nor do its mode and owner, and it is never half written.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use atomic_file::Durability;
use hosted::config::{CommandLine, Configuration, Keys, Problem, in_words, with_text};
use hosted::installation::SETTINGS;
use hosted::report::{self, Failure};
use site::Password;

use crate::hash_password;
use crate::settings::{PASSWORD_HASH as KEY, password_variable};

/// Reads the password and writes its hash.
///
/// # Errors
///
/// If the password is too short, too long or too common, or if the file cannot be read, changed or written; it
/// is then unchanged.
pub(crate) fn run<O: Default>(keys: &Keys<O>, command_line: &CommandLine) -> Result<(), Failure> {
    let configuration = keys.load(command_line);
    let file = file(keys, command_line, &configuration)?;
    // Before anyone types: a file that cannot be changed.
    let nothing_changed = |failure: Failure| failure.hint("Nothing was changed.");
    changed(&file, "").map_err(nothing_changed)?;
    let password = hash_password::new_password().map_err(nothing_changed)?;
    if let Some(words) = Password::weakness(&password) {
        return Err(nothing_changed(Failure::wrong(words)));
    }
    let hash = Password::make_hash(&password).map_err(Failure::refused)?;
    let (text, metadata) = changed(&file, &hash).map_err(nothing_changed)?;
    write(&file, &text, metadata.as_ref())
        .map_err(|error| unwritable(&file, &error))
        .map_err(nothing_changed)?;
    report::print(&confirmation(&file, metadata.as_ref(), &configuration))
}

/// The file to change; if it is a link, what it points to.
fn file<O: Default>(
    keys: &Keys<O>,
    command_line: &CommandLine,
    configuration: &Configuration<O>,
) -> Result<PathBuf, Failure> {
    let is_unreadable = |problem: &Problem| match problem {
        Problem::Syntax { .. } | Problem::Encoding { .. } | Problem::Unreadable { .. } => true,
        // The password's own line is replaced, however often it appears.
        Problem::Twice { key, .. } => key != KEY,
        _ => false,
    };
    // A named file that does not exist yet is created.
    let file = keys.file(command_line).ok_or_else(|| {
        Failure::refused("The installation's folder cannot be found; is /proc mounted?")
    })?;
    if file.exists() && configuration.problems.iter().any(is_unreadable) {
        return Err(configuration.failure());
    }
    Ok(fs::canonicalize(&file).unwrap_or(file))
}

/// The file's text with this hash, and the metadata of a file that exists.
fn changed(file: &Path, hash: &str) -> Result<(String, Option<Metadata>), Failure> {
    let unreadable = |error: io::Error| {
        let why = in_words(&error);
        Failure::refused(format!("{} cannot be read: {why}.", file.display()))
    };
    let (text, metadata) = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) => (fs::read_to_string(file).map_err(unreadable)?, Some(metadata)),
    };
    let text = with_text(&text, KEY, hash).ok_or_else(|| {
        // Invalid TOML was refused before; see `file`.
        Failure::wrong(format!(
            "{KEY} cannot be set in {}: it is a section there; remove that first.",
            file.display()
        ))
    })?;
    Ok((text, metadata))
}

/// Writes the file for its owner, even when root does it; a new one belongs to the folder's owner.
fn write(file: &Path, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    let mode = before.map_or(SETTINGS.mode, |before| before.mode() & 0o7777);
    let owner = match before {
        Some(before) => Some((before.uid(), before.gid())),
        None if rustix::process::geteuid().is_root() => {
            let folder = fs::metadata(atomic_file::folder_of(file)).ok();
            folder.map(|folder| (folder.uid(), folder.gid()))
        }
        None => None,
    };
    atomic_file::replace(file, mode, Durability::Synced, |new| {
        let made = new.metadata()?;
        if let Some((user, group)) = owner.filter(|owner| *owner != (made.uid(), made.gid())) {
            fchown(&*new, Some(user), Some(group))?;
        }
        new.write_all(text.as_bytes())
    })
}

fn unwritable(file: &Path, error: &io::Error) -> Failure {
    let shown = file.display();
    Failure::refused(match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{shown} cannot be replaced by this account: it has to own the file and the folder."
        ),
        _ => format!("{shown} cannot be written: {error}."),
    })
}

/// Confirms the change, and says what may keep the password from taking effect or being secret.
fn confirmation<O>(
    file: &Path,
    before: Option<&Metadata>,
    configuration: &Configuration<O>,
) -> String {
    let shown = file.display();
    let mut text = format!("The password is set in {shown}.\n");
    match password_variable(configuration) {
        None => {
            text +=
                "Running processes pick it up within a few seconds; all sessions are logged out.\n";
        }
        Some(name) => {
            text +=
                &format!("Note: while {name} is in the environment, that one takes precedence.\n");
        }
    }
    if let Some(before) = before.filter(|before| before.mode() & 0o077 != 0) {
        let mode = before.mode() & 0o7777;
        text += &format!("Note: others can read that file (mode {mode:o}): chmod 600 {shown}\n");
    }
    text
}
