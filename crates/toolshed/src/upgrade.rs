//! How a running process learns of a newer version of itself: which files are watched, what checks a new
//! version, and what is kept of the last one that passed. The watching and the change itself are
//! `app_server`'s.
//!
//! In the installation's folder:
//!
//! | file | what it is |
//! | --- | --- |
//! | `toolshed` | the program |
//! | `toolshed.new` | a newer one that has arrived; it takes the program's place when it has passed its check |
//! | `toolshed.previous` | the one before, after that |
//! | `toolshed.good` | a copy of the last one that has passed, with its time stamp: the launcher starts it while `toolshed` has another |
//! | `data/upgrade/` | what was checked and how that came out; `toolshed.toml` as it passed last |

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use app_server::Upgrade;
use atomic_file::Durability;

use crate::config::{self, Configuration, Typed};
use crate::installation::{
    ARRIVING, GOOD, GOOD_SETTINGS, LAUNCHER, LAUNCHER_VARIABLE, PROGRAM, SETTINGS, UPGRADE,
    find_site_folder, home,
};
use crate::report::Failure;

/// What a version says that has passed its own check. Later versions have to say the same.
pub(crate) const MARKER: &str = "This version can serve.";

/// Where the program that runs belongs.
struct Place {
    /// The program's path, whether or not it is what runs.
    program: PathBuf,
    /// What runs is the last good version, for the launcher found that the program had not passed.
    is_good_copy: bool,
}

impl Place {
    fn find() -> io::Result<Place> {
        let path = std::env::current_exe()?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("its file name is not UTF-8"))?;
        // As the kernel says it of a file that was replaced meanwhile.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let (name, is_good_copy) = match GOOD.stem(name) {
            Some(name) => (name, true),
            None => (name, false),
        };
        Ok(Place { program: path.with_file_name(name), is_good_copy })
    }
}

/// Whether what runs is the last good version in the program's place.
pub(crate) fn is_good_copy() -> bool {
    Place::find().is_ok_and(|place| place.is_good_copy)
}

/// Starts watching. Call it before the configuration is read: what changes after that is a change. `spawned`: a
/// web server starts this program through the launcher.
///
/// # Errors
/// If not even the program's own path can be found, for example without /proc.
pub(crate) fn begin(typed: &Typed, spawned: bool) -> io::Result<Upgrade> {
    let place = Place::find()?;
    let mut arguments: Vec<_> = ["check", "--upgrade"].map(Into::into).into();
    if spawned {
        arguments.push("--keep".into());
    }
    if let Some(file) = &typed.config {
        arguments.extend(["--config".into(), file.clone().into_os_string()]);
    }
    let launcher = std::env::var_os(LAUNCHER_VARIABLE).map(PathBuf::from);
    let launcher = launcher.or_else(|| Some(LAUNCHER.within(&find_site_folder()?)));
    let mut upgrade = Upgrade::new(place.program, arguments, MARKER)
        .launcher(launcher)
        .check_running_version(spawned)
        .is_stand_in(place.is_good_copy);
    if let Some(file) = config::file_of(typed) {
        upgrade = upgrade.file(file);
    }
    if let Some(folder) = folder() {
        upgrade = upgrade.verdicts(folder);
    }
    Ok(upgrade)
}

/// Logs, once the log is open, that there is no watching.
pub(crate) fn or_say_why_not(upgrade: io::Result<Upgrade>) -> Option<Upgrade> {
    let say = |error: &io::Error| {
        tracing::warn!(
            "New versions will not be noticed: the program's own path is unknown ({error})."
        );
    };
    upgrade.inspect_err(say).ok()
}

/// Where verdicts and the last good configuration are kept.
fn folder() -> Option<PathBuf> {
    Some(UPGRADE.within(&home()?))
}

/// Returns the configuration as it passed last, when this one is wrong and there is one that passed: a slip
/// in the file shall not take the site down, also when no process is left that has read it before. What is
/// wrong is told in the log.
/// A configuration without mistakes is kept as the last good one here, whatever checks have run: the next
/// process may only fall back to what this one serves with, never to something withdrawn before. If nothing was
/// kept before, that is left to [`keeps_when_listening`], since this start may fail.
pub(crate) fn or_last_good(mut configuration: Configuration) -> Configuration {
    let Some(folder) = folder().filter(|folder| folder.is_dir()) else {
        return configuration;
    };
    if let Some(open) = open_to_others(&folder) {
        configuration.warnings.push(format!(
            "{} can be changed by other accounts, so the configuration kept there is not used. Close it \
             with: chmod go-w {0}",
            open.display()
        ));
        return configuration;
    }
    if configuration.problems.is_empty() {
        if let Err(error) = keep_configuration(&configuration) {
            let file = GOOD_SETTINGS.within(&folder);
            configuration.warnings.push(format!(
                "This configuration could not be kept as the last good one in {}: {error}.",
                file.display()
            ));
        }
        return configuration;
    }
    if configuration.has_wrong_flags() {
        return configuration;
    }
    if !config::file_of(&configuration.typed).is_some_and(|file| is_the_usual(&file)) {
        return configuration;
    }
    let Ok(text) = config::read_text(&GOOD_SETTINGS.within(&folder)) else { return configuration };
    let mut good = config::load_as(&configuration.typed, &text);
    if !good.problems.is_empty() {
        return configuration;
    }
    good.instead_of = configuration.problems;
    good
}

/// The first of these that another account can change, or has created: the folder, its parent, and the
/// configuration that is kept there.
fn open_to_others(folder: &Path) -> Option<PathBuf> {
    let file = GOOD_SETTINGS.within(folder);
    let all = [folder.parent().unwrap_or(folder), folder, &file];
    all.into_iter().find(|path| atomic_file::is_in_other_hands(path)).map(Path::to_owned)
}

/// What a process does once it serves: keeps its configuration as the last good one, if nothing was kept before
/// and it is good.
pub(crate) fn keeps_when_listening(configuration: &Configuration) -> impl Fn(&str) + use<> {
    let is_first = folder().is_none_or(|folder| !folder.is_dir());
    let kept = (is_first && configuration.problems.is_empty()).then(|| configuration.clone());
    move |_| {
        if let Some(configuration) = &kept {
            // Without it, a later typo has nothing to fall back to; this process serves all the same.
            let _ = keep_configuration(configuration);
        }
    }
}

fn is_the_usual(file: &Path) -> bool {
    home().is_some_and(|home| SETTINGS.within(&home) == file)
}

/// Keeps this version as the last good one. It is running from `path`.
///
/// # Errors
/// What the file system answers; what was kept before is as it was.
pub(crate) fn keep_program() -> io::Result<()> {
    let path = std::env::current_exe()?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(PROGRAM.name);
    let name = ARRIVING.stem(name).unwrap_or(name);
    let name = GOOD.stem(name).unwrap_or(name);
    let good = GOOD.beside(&path.with_file_name(name));
    let metadata = fs::metadata(&path)?;
    let modified = metadata.modified()?;
    if let Ok(kept) = fs::metadata(&good)
        && kept.modified()? == modified
        && kept.len() == metadata.len()
    {
        return Ok(());
    }
    replace(&good, GOOD.mode, |file| {
        io::copy(&mut File::open(&path)?, file)?;
        file.set_times(FileTimes::new().set_modified(modified))
    })
}

/// Keeps the configuration that has passed. Having no file is a good state, too, and kept as an empty one:
/// otherwise the file before it would come back.
///
/// # Errors
/// What the file system answers; what was kept before is as it was.
pub(crate) fn keep_configuration(configuration: &Configuration) -> io::Result<()> {
    let (Some(folder), Some(file)) = (folder(), config::file_of(&configuration.typed)) else {
        return Ok(());
    };
    if !is_the_usual(&file) {
        return Ok(());
    }
    // Not what stands in the file now: it may have been edited since this process read it.
    keep_in(&folder, &configuration.text)
}

fn keep_in(folder: &Path, text: &str) -> io::Result<()> {
    let kept = GOOD_SETTINGS.within(folder);
    if config::read_text(&kept).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(UPGRADE.mode).create(folder)?;
    replace(&kept, GOOD_SETTINGS.mode, |file| io::Write::write_all(file, text.as_bytes()))
        .inspect_err(|_| {
            // What was withdrawn must not come back. A file can be removed on a full disk, and emptied in a folder
            // that cannot be written to: then it means the same as no file.
            let emptied = || File::options().write(true).truncate(true).open(&kept).map(drop);
            let _ = fs::remove_file(&kept).or_else(|_| emptied());
        })
}

/// Writes a file that is there as a whole or as it was before.
fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    atomic_file::replace(path, mode, Durability::Synced, write)
}

/// Copies a file to where new versions arrive, checks it, and lets it take the program's place. Running
/// processes notice by themselves.
///
/// # Errors
/// When it cannot be copied, or does not pass.
pub(crate) fn install(typed: &Typed, file: &Path) -> Result<PathBuf, Failure> {
    let Ok(place) = Place::find() else {
        return Err(Failure::refused("The path of this program cannot be found; is /proc there?"));
    };
    let arriving = ARRIVING.beside(&place.program);
    let refused = |error: io::Error| {
        Failure::refused(format!("{} cannot be copied: {error}.", file.display()))
    };
    let same = |one: &Path, other: &Path| {
        fs::canonicalize(one).ok().zip(fs::canonicalize(other).ok()).is_some_and(|(a, b)| a == b)
    };
    if same(file, &place.program) {
        return Err(Failure::wrong(format!(
            "{} is the program in its place already.",
            file.display()
        )));
    }
    let is_a_copy = !same(file, &arriving);
    if is_a_copy {
        let mut source = File::open(file).map_err(refused)?;
        replace(&arriving, ARRIVING.mode, |target| io::copy(&mut source, target).map(|_| ()))
            .map_err(refused)?;
    }
    let upgrade = begin(typed, GOOD.beside(&place.program).exists()).map_err(|error| {
        Failure::refused(format!("The program's own path is unknown: {error}."))
    })?;
    match event_loop::run(async move { upgrade.install().await }) {
        Ok(Ok(())) => Ok(place.program),
        Ok(Err(why)) => {
            if is_a_copy {
                // What stays there would be tried again by the processes that run.
                let _ = fs::remove_file(&arriving);
            }
            let failure = Failure::refused(format!("{} was not taken: {why}.", file.display()));
            Err(failure.hint("The version before goes on; nothing has changed for it."))
        }
        Err(error) => Err(Failure::refused(format!("The check could not be run: {error}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_kept_and_not_what_stands_there_by_now() {
        let outer = tempfile::tempdir().unwrap();
        let folder = UPGRADE.within(outer.path());
        let text = "# as it is served\npublic = [\"checksum\"]\n";
        let configuration = config::load_as(&Typed::default(), text);
        assert_eq!(configuration.text, text);
        keep_in(&folder, &configuration.text).unwrap();
        assert_eq!(fs::read_to_string(GOOD_SETTINGS.within(&folder)).unwrap(), text);
        // No file is a good state, too.
        keep_in(&folder, &Configuration::default().text).unwrap();
        assert_eq!(fs::read_to_string(GOOD_SETTINGS.within(&folder)).unwrap(), "");
    }
}
