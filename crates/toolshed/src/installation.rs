//! What an installation has on disk: the one list of file names and modes, and their folders.
//!
//! The launcher (`dispatch.fcgi`) and the rewrite rules (`htaccess`) spell some of these names again; the tests
//! below parse both files and compare. The code that writes the files is elsewhere. For owners, docs/deploying.md and
//! docs/reloading.md describe the layout.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use app_server::{ARRIVING_SUFFIX, CRASHES_FILE, OLD_CRASHES_FILE, PREVIOUS_SUFFIX};
use site::EXPIRY_FILE;
use site::login::{BACKUPS_FOLDER, KEY_FILE, QUEUE_FOLDER, STORE_FILE};
use site::storage::{MOVED_SUFFIX, REPLACED_SUFFIX};

/// One file or folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its name; for a file [beside](Within::BesideProgram) another one, the suffix after that file's name.
    pub(crate) name: &'static str,
    /// The mode it is created with. Not every reader needs it: some files are created by other crates.
    pub(crate) mode: u32,
    /// The folder, or the file to whose name this is a suffix.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the comparison with the rewrite rules"))]
    within: Within,
}

/// Where an entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// In the installation's folder, see [`home`].
    Home,
    /// Beside the program: `toolshed` and this suffix.
    BesideProgram,
    /// In the folder `data`, or the one that the setting `data` names.
    Data,
    /// Beside the store: its name and this suffix.
    BesideStore,
    /// In the folder of upgrades. Verdicts there have names of their own, of mode 600.
    Upgrade,
    /// In the folder `logs`.
    Logs,
    /// Beside the log file: its name and this suffix.
    BesideLog,
    /// In the site's folder, beside the launcher: where the web server looks.
    Site,
}

impl Entry {
    /// Returns the path of this entry in a folder.
    pub(crate) fn within(self, folder: &Path) -> PathBuf {
        folder.join(self.name)
    }

    /// Returns the path of this entry beside the file to whose name it is a suffix.
    pub(crate) fn beside(self, file: &Path) -> PathBuf {
        let mut path = OsString::from(file);
        path.push(self.name);
        path.into()
    }

    /// Returns a file name without this suffix; `None` if it has another one.
    pub(crate) fn stem(self, name: &str) -> Option<&str> {
        name.strip_suffix(self.name)
    }

    /// Returns its default path, relative to the installation's folder or the site's.
    #[cfg(test)]
    pub(crate) fn path(self) -> String {
        match self.within {
            Within::Home | Within::Site => self.name.to_owned(),
            Within::Data => format!("{}/{}", DATA.name, self.name),
            Within::Upgrade => format!("{}/{}", UPGRADE.name, self.name),
            Within::Logs => format!("{}/{}", LOGS.name, self.name),
            Within::BesideProgram => PROGRAM.path() + self.name,
            Within::BesideStore => STORE.path() + self.name,
            Within::BesideLog => LOG.path() + self.name,
        }
    }
}

/// Declares a constant for each entry, and a list of all of them.
macro_rules! entries {
    ($($(#[$doc:meta])+ $constant:ident: $within:ident, $name:expr, $mode:literal;)+) => {
        $(
            $(#[$doc])+
            #[allow(dead_code, reason = "some are created by other crates; the tests compare all")]
            pub(crate) const $constant: Entry =
                Entry { name: $name, mode: $mode, within: Within::$within };
        )+

        /// Every entry, in the order above.
        #[cfg(test)]
        pub(crate) const ALL: &[Entry] = &[$($constant),+];
    };
}

entries! {
    /// The program. Its file may have another name; the names of the files beside it follow.
    PROGRAM: Home, "toolshed", 0o755;
    /// A newer program that has arrived and waits for its check.
    ARRIVING: BesideProgram, ARRIVING_SUFFIX, 0o755;
    /// The program that was replaced last.
    PREVIOUS: BesideProgram, PREVIOUS_SUFFIX, 0o755;
    /// A copy of the last program that passed its check, with its time stamp.
    GOOD: BesideProgram, ".good", 0o755;
    /// The settings.
    SETTINGS: Home, "toolshed.toml", 0o600;
    /// The owner creates it to open the set-up page.
    SET_UP: Home, "toolshed.setup", 0o600;

    /// The data that the processes of a site share.
    DATA: Home, "data", 0o700;
    /// Verdicts on versions, and the settings that passed last.
    UPGRADE: Home, "data/upgrade", 0o700;
    /// The settings that passed last.
    GOOD_SETTINGS: Upgrade, "toolshed.toml", 0o600;
    /// The SQLite database.
    STORE: Data, STORE_FILE, 0o600;
    /// SQLite's rollback journal.
    STORE_JOURNAL: BesideStore, "-journal", 0o600;
    /// SQLite creates it in WAL mode, which the site does not use; a foreign tool may.
    STORE_WAL: BesideStore, "-wal", 0o600;
    /// As above.
    STORE_SHM: BesideStore, "-shm", 0o600;
    /// The store that was replaced by the last `toolshed restore`.
    STORE_REPLACED: BesideStore, REPLACED_SUFFIX, 0o600;
    /// The store that `toolshed store move` has moved to another place.
    STORE_MOVED: BesideStore, MOVED_SUFFIX, 0o600;
    /// Backups that the owner made on the page about the store, or has put there to restore them.
    BACKUPS: Data, BACKUPS_FOLDER, 0o700;
    /// The key of cookies and second factors.
    KEY: Data, KEY_FILE, 0o600;
    /// Locks that limit how many passwords are checked at once.
    LOGIN_QUEUE: Data, QUEUE_FOLDER, 0o700;
    /// Blobs, unless they are in an S3 store.
    BLOBS: Data, "blobs", 0o700;
    /// When expired blobs were removed last, and the lock of who is doing it.
    BLOB_EXPIRY: Data, EXPIRY_FILE, 0o600;
    /// Crashes by tool, for the quarantine.
    CRASHES: Data, CRASHES_FILE, 0o600;
    /// The same, before the file grew too large.
    CRASHES_OLD: Data, OLD_CRASHES_FILE, 0o600;

    /// The log's folder.
    LOGS: Home, "logs", 0o700;
    /// The log of a process that a web server started.
    LOG: Logs, "toolshed.log", 0o600;
    /// The log before the last rotation.
    LOG_BEFORE: BesideLog, ".1", 0o600;

    /// The launcher.
    LAUNCHER: Site, "dispatch.fcgi", 0o755;
    /// The rewrite rules.
    RULES: Site, ".htaccess", 0o644;
    /// Style sheets, scripts and pictures, which the web server may send by itself.
    STATIC: Site, "static", 0o755;
}

/// The folder next to the site's folder in which the launcher looks for the program.
const FOLDER_NEXT_TO_SITE: &str = "toolshed-home";

/// The folder in the account's home folder in which the launcher looks for the program.
const ACCOUNT_FOLDER: &str = "toolshed";

/// Names the only folder in which the launcher looks for the program, in the environment.
pub(crate) const HOME_VARIABLE: &str = "TOOLSHED_HOME";

/// Names the launcher, in the environment of the program that it starts.
pub(crate) const LAUNCHER_VARIABLE: &str = "TOOLSHED_LAUNCHER";

/// Folders in which hosts keep the document root, seen from the account's home folder.
const DOCUMENT_ROOTS: [&str; 6] = ["public_html", "www", "htdocs", "html", "web", "httpdocs"];

/// The installation's folder: the program's own, and that folder's parent when it is `bin`.
pub(crate) fn home() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    match folder.file_name() {
        Some(name) if name == "bin" => folder.parent().map(Path::to_owned),
        _ => Some(folder.to_owned()),
    }
}

/// The log file of a process that a web server started, unless a setting names another.
pub(crate) fn default_log() -> Option<PathBuf> {
    Some(LOG.within(&LOGS.within(&home()?)))
}

/// The site's folder: where the launcher looks for the program, seen from the program.
pub(crate) fn find_site_folder() -> Option<PathBuf> {
    let home = home()?;
    let is_site = |folder: &PathBuf| LAUNCHER.within(folder).is_file();
    let above = home.parent().map(Path::to_owned);
    let beside = DOCUMENT_ROOTS.iter().filter_map(|name| Some(above.as_ref()?.join(name)));
    let candidates = [Some(home.clone()), above.clone()].into_iter().flatten();
    candidates.chain(beside).find(is_site)
}

/// Where the launcher in `site` looks for the program, in its order. `home`: the value of [`HOME_VARIABLE`];
/// `account`: the account's home folder.
pub(crate) fn launched_programs(
    site: &Path,
    home: Option<PathBuf>,
    account: Option<PathBuf>,
) -> Vec<PathBuf> {
    if let Some(home) = home {
        return vec![PROGRAM.within(&home)];
    }
    let next_to_site = site.parent().map(|above| above.join(FOLDER_NEXT_TO_SITE));
    let of_account = account.map(|account| account.join(ACCOUNT_FOLDER));
    let folders = [Some(site.to_owned()), next_to_site, of_account];
    folders.into_iter().flatten().map(|folder| PROGRAM.within(&folder)).collect()
}

#[cfg(test)]
mod tests {
    use fancy_regex::Regex;

    use super::*;

    const LAUNCHER_TEXT: &str = include_str!("../../../dispatch.fcgi");
    const RULES_TEXT: &str = include_str!("../../../htaccess");

    fn is_folder(entry: Entry) -> bool {
        entry.mode == 0o700
    }

    /// The launcher without its comments.
    fn launcher_code() -> String {
        let code = LAUNCHER_TEXT.lines().filter(|line| !line.trim_start().starts_with('#'));
        code.collect::<Vec<_>>().join("\n")
    }

    fn found(pattern: &str, text: &str) -> Vec<String> {
        let pattern = Regex::new(pattern).unwrap();
        let all = pattern.captures_iter(text).map(|found| found.unwrap()[1].to_owned());
        all.collect()
    }

    #[test]
    fn the_launcher_looks_for_the_program_in_the_same_places() {
        let lists = found(r"(?m)^.*set -- (.*)$", &launcher_code());
        let mut places = found(r#""([^"]+)""#, &lists.join(" "));
        places.retain(|place| place != "$@");
        let [home, site, account] = ["${TOOLSHED_HOME%/}", "$here", "${home%/}"].map(PathBuf::from);
        let mut expected = launched_programs(&site, Some(home), None);
        expected.extend(launched_programs(&site, None, Some(account)));
        let expected: Vec<_> = expected.iter().map(|place| place.to_str().unwrap()).collect();
        // `Path::parent` of "$here" is empty; the shell's is "${here%/*}".
        let places: Vec<_> = places.iter().map(|place| place.replace("${here%/*}/", "")).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn the_launcher_uses_the_same_names() {
        let code = launcher_code();
        let endings = found(r"\$(?:program|place)(\.[a-z]+)", &code);
        assert!(!endings.is_empty() && endings.iter().all(|it| it == GOOD.name), "{endings:?}");
        let mut variables = found(r"\b(TOOLSHED_[A-Z_]+)", &code);
        variables.sort();
        variables.dedup();
        assert_eq!(variables, [HOME_VARIABLE, LAUNCHER_VARIABLE]);
        let own = found(r#"echo "([^:]+): \$2""#, &code);
        assert_eq!(own, [LAUNCHER.name]);
        for uploaded in found(r"upload (?:the file )?'([^']+)'", &code) {
            assert_eq!(uploaded, PROGRAM.name);
        }
    }

    /// What the rewrite rules deny to visitors although the file exists.
    fn denied() -> Vec<Regex> {
        let rules = RULES_TEXT.lines().filter_map(|line| line.strip_prefix("RewriteCond $1 !"));
        let patterns = rules.map(|rule| match rule.strip_suffix(" [NC]") {
            Some(pattern) => Regex::new(&format!("(?i){pattern}")),
            None => Regex::new(rule),
        });
        patterns.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_rewrite_rules_deny_every_file_but_those_for_visitors() {
        let rules = denied();
        assert_eq!(rules.len(), 5, "the form of the rules has changed");
        let is_denied = |path: &str| rules.iter().any(|rule| rule.is_match(path).unwrap());
        let mut seen = 0;
        for entry in ALL.iter().copied().filter(|entry| entry.within != Within::Site) {
            let path = entry.path();
            let path = if is_folder(entry) { path + "/file" } else { path };
            // The installation's folder is the site's own, or is inside it.
            for path in [path.clone(), format!("{FOLDER_NEXT_TO_SITE}/{path}")] {
                assert!(is_denied(&path), "{path} would be sent to visitors");
            }
            seen += 1;
        }
        assert_eq!(seen, ALL.len() - 3);
        assert!(is_denied(RULES.name));
        // This has rules of its own, above.
        assert!(!is_denied(LAUNCHER.name) && RULES_TEXT.contains("<Files \"dispatch.fcgi\">"));
        assert!(!is_denied(&format!("{}/site.css", STATIC.name)));
    }

    #[test]
    fn the_rewrite_rules_run_the_launcher() {
        let files = found(r#"<Files "([^"]+)">"#, RULES_TEXT);
        let mut targets = found(r"(?m)^RewriteRule \^ (\S+) \[L\]$", RULES_TEXT);
        targets.extend(files);
        assert_eq!(targets, [LAUNCHER.name, LAUNCHER.name]);
    }

    #[test]
    fn no_two_entries_are_the_same_file() {
        let mut paths: Vec<_> = ALL.iter().map(|entry| entry.path()).collect();
        paths.sort();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
