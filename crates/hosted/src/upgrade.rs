//! What the program contributes to upgrades: which files are watched, how a new version is checked, and what is saved
//! of the last version that passed. Watching and upgrading are in `app_server`.
//!
//! In the installation's folder:
//!
//! | file | what it is |
//! | --- | --- |
//! | `NAME` | the program |
//! | `NAME.new` | a newer version, which replaces the program once it has passed its check |
//! | `NAME.previous` | the program that was replaced |
//! | `NAME.good` | a copy of the last version that passed, with its time stamp: the launcher starts it while `NAME` has another one |
//! | `data/upgrade/` | verdicts, and the last `NAME.toml` that passed |

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use app_server::Upgrade;
use atomic_file::Durability;

use crate::config::{CommandLine, Configuration, Keys, read_text};
use crate::installation::{
    ARRIVING, GOOD, GOOD_SETTINGS, LAUNCHER, PROGRAM_FILE, SETTINGS, UPGRADE, find_site_folder,
    home,
};
use crate::program::Program;
use crate::report::Failure;

/// What a version prints that has passed its own check. Later versions have to print the same.
pub(crate) const MARKER: &str = "This version can serve.";

/// The file of the running program.
struct ProgramFile {
    /// The program's path, even if the last good version is running instead.
    path: PathBuf,
    /// Whether the last good version is running, because the program had not passed its check when it was launched.
    is_good_copy: bool,
}

impl ProgramFile {
    fn find() -> io::Result<ProgramFile> {
        let path = std::env::current_exe()?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("its file name is not UTF-8"))?;
        // The kernel adds this if the file was replaced meanwhile.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let (name, is_good_copy) = match GOOD.stem(name) {
            Some(name) => (name, true),
            None => (name, false),
        };
        Ok(ProgramFile { path: path.with_file_name(name), is_good_copy })
    }
}

/// Returns the path of the program, even if it was replaced meanwhile.
///
/// # Errors
///
/// If it cannot be found, for example without /proc.
#[cfg(feature = "development")]
pub(crate) fn program_file() -> io::Result<PathBuf> {
    ProgramFile::find().map(|program| program.path)
}

/// Returns whether the last good version is running instead of the program.
pub(crate) fn is_good_copy() -> bool {
    ProgramFile::find().is_ok_and(|program| program.is_good_copy)
}

/// Starts watching. Call it before the configuration is read, so that no change is missed. `spawned`: whether a web
/// server started this program through the launcher.
///
/// # Errors
///
/// If the program's own path cannot be found, for example without /proc.
pub(crate) fn begin<O: Default>(
    keys: &Keys<O>,
    command_line: &CommandLine,
    spawned: bool,
) -> io::Result<Upgrade> {
    let program = ProgramFile::find()?;
    let mut arguments: Vec<_> = ["check", "--upgrade"].map(Into::into).into();
    if spawned {
        arguments.push("--keep".into());
    }
    if let Some(file) = &command_line.config {
        arguments.extend(["--config".into(), file.clone().into_os_string()]);
    }
    let launcher = std::env::var_os(keys.program().launcher_variable()).map(PathBuf::from);
    let launcher = launcher.or_else(|| Some(LAUNCHER.within(&find_site_folder()?)));
    let mut upgrade = Upgrade::new(program.path, arguments, MARKER)
        .launcher(launcher)
        .check_running_version(spawned)
        .is_stand_in(program.is_good_copy);
    if let Some(file) = keys.file(command_line) {
        upgrade = upgrade.file(file);
    }
    if let Some(folder) = folder() {
        upgrade = upgrade.verdicts(folder);
    }
    Ok(upgrade)
}

/// Logs why there is no watching. Call it once the log is open.
pub(crate) fn log_if_unavailable(upgrade: io::Result<Upgrade>) -> Option<Upgrade> {
    let say = |error: &io::Error| {
        tracing::warn!(
            "New versions will not be noticed: the program's own path is unknown ({error})."
        );
    };
    upgrade.inspect_err(say).ok()
}

/// The folder of verdicts and of the last good configuration.
fn folder() -> Option<PathBuf> {
    Some(UPGRADE.within(&home()?))
}

/// Returns the last good configuration if this one has mistakes: a typo in the file must not take the site down, even
/// if no process is running that has read the previous one. The mistakes are logged.
///
/// A configuration without mistakes is saved as the last good one, whether or not it was checked: the next process may
/// fall back only to what this one serves with, never to something that was withdrawn before. If nothing was saved
/// before, that is left to [`save_when_listening`], since this start may fail.
pub(crate) fn or_last_good<O: Default>(
    keys: &Keys<O>,
    mut configuration: Configuration<O>,
) -> Configuration<O> {
    let Some(folder) = folder().filter(|folder| folder.is_dir()) else {
        return configuration;
    };
    let saved = GOOD_SETTINGS.of(keys.program(), &folder);
    if let Some(open) = open_to_others(&folder, &saved) {
        configuration.warnings.push(format!(
            "{} can be changed by other accounts, so the configuration kept there is not used. Close it \
             with: chmod go-w {0}",
            open.display()
        ));
        return configuration;
    }
    if configuration.problems.is_empty() {
        if let Err(error) = save_configuration(keys, &configuration) {
            configuration.warnings.push(format!(
                "This configuration could not be kept as the last good one in {}: {error}.",
                saved.display()
            ));
        }
        return configuration;
    }
    if configuration.has_wrong_flags() {
        return configuration;
    }
    let file = keys.file(&configuration.command_line);
    if !file.is_some_and(|file| is_default_file(keys.program(), &file)) {
        return configuration;
    }
    let Ok(text) = read_text(&saved) else { return configuration };
    let mut good = keys.load_as(&configuration.command_line, &text);
    if !good.problems.is_empty() {
        return configuration;
    }
    good.instead_of = configuration.problems;
    good
}

/// Returns which of these another account can change, or has created: the folder, its parent, or the configuration
/// that is saved there.
fn open_to_others(folder: &Path, saved: &Path) -> Option<PathBuf> {
    let all = [folder.parent().unwrap_or(folder), folder, saved];
    all.into_iter().find(|path| atomic_file::is_in_other_hands(path)).map(Path::to_owned)
}

/// Returns what a process does once it listens: saves its configuration as the last good one, if it has no mistakes
/// and nothing was saved before.
pub(crate) fn save_when_listening<O: Default>(
    keys: &Keys<O>,
    configuration: &Configuration<O>,
) -> impl Fn(&str) + use<O> {
    let is_first = folder().is_none_or(|folder| !folder.is_dir());
    let program = keys.program();
    let file = keys.file(&configuration.command_line);
    let is_unsaved = is_first && configuration.problems.is_empty();
    let unsaved = file.filter(|_| is_unsaved).map(|file| (file, configuration.text.clone()));
    move |_| {
        if let Some((file, text)) = &unsaved {
            // If that fails, this process serves all the same; but a later typo has nothing to fall back to.
            let _ = save_text(program, file, text);
        }
    }
}

fn is_default_file(program: Program, file: &Path) -> bool {
    home().is_some_and(|home| SETTINGS.of(program, &home) == file)
}

/// Saves the running version as the last good one.
///
/// # Errors
///
/// Any from the file system; the one that was saved before is unchanged then.
pub(crate) fn save_program(program: Program) -> io::Result<()> {
    let path = std::env::current_exe()?;
    let default = PROGRAM_FILE.name(program);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(&default);
    let name = ARRIVING.stem(name).unwrap_or(name);
    let name = GOOD.stem(name).unwrap_or(name);
    let good = GOOD.beside(&path.with_file_name(name));
    let metadata = fs::metadata(&path)?;
    let modified = metadata.modified()?;
    if let Ok(saved) = fs::metadata(&good)
        && saved.modified()? == modified
        && saved.len() == metadata.len()
    {
        return Ok(());
    }
    replace(&good, GOOD.mode, |file| {
        io::copy(&mut File::open(&path)?, file)?;
        file.set_times(FileTimes::new().set_modified(modified))
    })
}

/// Saves a configuration that has passed. Having no file is good, too, and saved as an empty file: otherwise the file
/// before would come back.
///
/// # Errors
///
/// Any from the file system; the one that was saved before is not used any more then.
pub(crate) fn save_configuration<O: Default>(
    keys: &Keys<O>,
    configuration: &Configuration<O>,
) -> io::Result<()> {
    match keys.file(&configuration.command_line) {
        // Not what is in the file now: it may have been edited since this process read it.
        Some(file) => save_text(keys.program(), &file, &configuration.text),
        None => Ok(()),
    }
}

fn save_text(program: Program, file: &Path, text: &str) -> io::Result<()> {
    match folder() {
        Some(folder) if is_default_file(program, file) => {
            save_in(&folder, &GOOD_SETTINGS.of(program, &folder), text)
        }
        _ => Ok(()),
    }
}

fn save_in(folder: &Path, saved: &Path, text: &str) -> io::Result<()> {
    if read_text(saved).is_ok_and(|saved| saved == text) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(UPGRADE.mode).create(folder)?;
    replace(saved, GOOD_SETTINGS.mode, |file| io::Write::write_all(file, text.as_bytes()))
        .inspect_err(|_| {
            // What was withdrawn must not come back. A file can be removed on a full disk, and emptied in a folder that
            // cannot be written to: then it means the same as no file.
            let emptied = || File::options().write(true).truncate(true).open(saved).map(drop);
            let _ = fs::remove_file(saved).or_else(|_| emptied());
        })
}

/// Replaces a file atomically.
fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    atomic_file::replace(path, mode, Durability::Synced, write)
}

/// Copies a file to `NAME.new`, checks it, and replaces the program by it. Running processes notice by themselves.
///
/// # Errors
///
/// If it cannot be copied, or does not pass its check.
pub(crate) fn install<O: Default>(
    keys: &Keys<O>,
    command_line: &CommandLine,
    file: &Path,
) -> Result<PathBuf, Failure> {
    let Ok(program) = ProgramFile::find() else {
        return Err(Failure::refused(
            "The path of this program cannot be found; is /proc mounted?",
        ));
    };
    let arriving = ARRIVING.beside(&program.path);
    let refused = |error: io::Error| {
        Failure::refused(format!("{} cannot be copied: {error}.", file.display()))
    };
    let same = |one: &Path, other: &Path| {
        fs::canonicalize(one).ok().zip(fs::canonicalize(other).ok()).is_some_and(|(a, b)| a == b)
    };
    if same(file, &program.path) {
        return Err(Failure::wrong(format!(
            "{} is the installed program already.",
            file.display()
        )));
    }
    let is_a_copy = !same(file, &arriving);
    if is_a_copy {
        let mut source = File::open(file).map_err(refused)?;
        replace(&arriving, ARRIVING.mode, |target| io::copy(&mut source, target).map(|_| ()))
            .map_err(refused)?;
    }
    let upgrade =
        begin(keys, command_line, GOOD.beside(&program.path).exists()).map_err(|error| {
            Failure::refused(format!("The program's own path is unknown: {error}."))
        })?;
    match event_loop::run(async move { upgrade.install().await }) {
        Ok(Ok(())) => Ok(program.path),
        Ok(Err(why)) => {
            if is_a_copy {
                // Otherwise, running processes would check it again.
                let _ = fs::remove_file(&arriving);
            }
            let failure = Failure::refused(format!("{} was not installed: {why}.", file.display()));
            Err(failure.hint("The previous version continues unchanged."))
        }
        Err(error) => Err(Failure::refused(format!("The check could not be run: {error}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_replaces_what_was_before() {
        let outer = tempfile::tempdir().unwrap();
        let folder = UPGRADE.within(outer.path());
        let saved = folder.join("app.toml");
        let text = "# as it is served\nlog_bytes = \"1 MiB\"\n";
        save_in(&folder, &saved, text).unwrap();
        assert_eq!(fs::read_to_string(&saved).unwrap(), text);
        // Having no file is good, too.
        save_in(&folder, &saved, "").unwrap();
        assert_eq!(fs::read_to_string(&saved).unwrap(), "");
    }
}
