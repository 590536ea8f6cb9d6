//! What an installation has on disk: names and modes of files, and their folders.
//!
//! The code that writes the files is elsewhere. For owners, docs/deploying.md and docs/reloading.md describe the layout.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use app_server::{
    ARRIVING_SUFFIX, CRASHES_ELSEWHERE_FILE, CRASHES_FILE, OLD_CRASHES_FILE, PREVIOUS_SUFFIX,
};

use crate::program::Program;

/// One file or folder.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name; for a file beside another one, the suffix after that file's name. `*` is the program's name.
    name: &'static str,
    /// The mode it is created with. Not every reader needs it: some files are created by other crates.
    pub mode: u32,
    within: Within,
}

/// Where an entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// In the installation's folder, see [`home`].
    Home,
    /// Beside the program: its name and this suffix.
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
    /// An entry with this name (`*` is the program's), created with this mode.
    pub const fn new(within: Within, name: &'static str, mode: u32) -> Entry {
        Entry { name, mode, within }
    }

    /// Returns where it is found.
    pub fn is_within(self) -> Within {
        self.within
    }

    /// Returns its name, for this program.
    pub fn name(self, program: Program) -> String {
        self.name.replace('*', program.name)
    }

    /// Returns the path of this entry of a program in a folder.
    pub fn of(self, program: Program, folder: &Path) -> PathBuf {
        folder.join(self.name(program))
    }

    /// Returns the path of this entry, whose name is every program's, in a folder.
    pub fn within(self, folder: &Path) -> PathBuf {
        debug_assert!(!self.name.contains('*'), "{}", self.name);
        folder.join(self.name)
    }

    /// Returns the path of this entry beside the file to whose name it is a suffix.
    pub fn beside(self, file: &Path) -> PathBuf {
        let mut path = OsString::from(file);
        path.push(self.name);
        path.into()
    }

    /// Returns a file name without this suffix; `None` if it has another one.
    pub fn stem(self, name: &str) -> Option<&str> {
        name.strip_suffix(self.name)
    }

    /// Returns the default path of a program's entry, relative to the installation's folder or the site's; `store`: that
    /// of the store.
    pub fn path(self, program: Program, store: &str) -> String {
        let name = self.name(program);
        match self.within {
            Within::Home | Within::Site => name,
            Within::Data => format!("{}/{name}", DATA.name),
            Within::Upgrade => format!("{}/{name}", UPGRADE.name),
            Within::Logs => format!("{}/{name}", LOGS.name),
            Within::BesideProgram => PROGRAM_FILE.path(program, store) + &name,
            Within::BesideStore => store.to_owned() + &name,
            Within::BesideLog => LOG.path(program, store) + &name,
        }
    }
}

/// Declares a constant for each entry, and a list of all of them.
macro_rules! entries {
    ($($(#[$doc:meta])+ $constant:ident: $within:ident, $name:expr, $mode:literal;)+) => {
        $(
            $(#[$doc])+
            pub const $constant: Entry = Entry::new(Within::$within, $name, $mode);
        )+

        /// What every program has, in the order above.
        pub const ENTRIES: &[Entry] = &[$($constant),+];
    };
}

entries! {
    /// The program. Its file may have another name; the names of the files beside it follow.
    PROGRAM_FILE: Home, "*", 0o755;
    /// A newer program that has arrived and waits for its check.
    ARRIVING: BesideProgram, ARRIVING_SUFFIX, 0o755;
    /// The program that was replaced last.
    PREVIOUS: BesideProgram, PREVIOUS_SUFFIX, 0o755;
    /// A copy of the last program that passed its check, with its time stamp.
    GOOD: BesideProgram, ".good", 0o755;
    /// The settings.
    SETTINGS: Home, "*.toml", 0o600;

    /// The data that the processes of a site share.
    DATA: Home, "data", 0o700;
    /// Verdicts on versions, and the settings that passed last.
    UPGRADE: Home, "data/upgrade", 0o700;
    /// The settings that passed last.
    GOOD_SETTINGS: Upgrade, "*.toml", 0o600;
    /// Crashes by part, for the quarantine.
    CRASHES: Data, CRASHES_FILE, 0o600;
    /// The same, before the file grew too large.
    CRASHES_OLD: Data, OLD_CRASHES_FILE, 0o600;
    /// Crashes on the site's other machines, if the program tells this one of them.
    CRASHES_ELSEWHERE: Data, CRASHES_ELSEWHERE_FILE, 0o600;

    /// The log's folder.
    LOGS: Home, "logs", 0o700;
    /// The log of a process that a web server started.
    LOG: Logs, "*.log", 0o600;
    /// The log before the last rotation.
    LOG_BEFORE: BesideLog, ".1", 0o600;

    /// The launcher.
    LAUNCHER: Site, "dispatch.fcgi", 0o755;
    /// The rewrite rules.
    RULES: Site, ".htaccess", 0o644;
}

/// Folders in which hosts keep the document root, seen from the account's home folder.
pub const DOCUMENT_ROOTS: [&str; 6] = ["public_html", "www", "htdocs", "html", "web", "httpdocs"];

/// Returns the installation's folder: the program's own, and that folder's parent when it is `bin`.
pub fn home() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    match folder.file_name() {
        Some(name) if name == "bin" => folder.parent().map(Path::to_owned),
        _ => Some(folder.to_owned()),
    }
}

/// Returns the site's folder: where the launcher looks for the program, seen from the program.
pub fn find_site_folder() -> Option<PathBuf> {
    let home = home()?;
    let is_site = |folder: &PathBuf| LAUNCHER.within(folder).is_file();
    let above = home.parent().map(Path::to_owned);
    let beside = DOCUMENT_ROOTS.iter().filter_map(|name| Some(above.as_ref()?.join(name)));
    let candidates = [Some(home.clone()), above.clone()].into_iter().flatten();
    candidates.chain(beside).find(is_site)
}

impl Program {
    /// Returns the log file of a process that a web server started, unless a setting names another.
    pub fn default_log(self) -> Option<PathBuf> {
        Some(LOG.of(self, &LOGS.within(&home()?)))
    }

    /// Returns the variable that names the only folder in which the launcher looks for the program.
    pub fn home_variable(self) -> String {
        self.variable("home")
    }

    /// Returns the variable that names the launcher, for the program that it starts.
    pub fn launcher_variable(self) -> String {
        self.variable("launcher")
    }

    /// Returns the folder next to the site's folder in which the launcher looks for the program.
    pub fn folder_next_to_site(self) -> String {
        format!("{}-home", self.name)
    }

    /// Returns where the launcher in `site` looks for the program, in its order. `home`: the value of
    /// [`home_variable`](Self::home_variable); `account`: the account's home folder.
    pub fn launched_programs(
        self,
        site: &Path,
        home: Option<PathBuf>,
        account: Option<PathBuf>,
    ) -> Vec<PathBuf> {
        if let Some(home) = home {
            return vec![PROGRAM_FILE.of(self, &home)];
        }
        let next_to_site = site.parent().map(|above| above.join(self.folder_next_to_site()));
        let of_account = account.map(|account| account.join(self.name));
        let folders = [Some(site.to_owned()), next_to_site, of_account];
        folders.into_iter().flatten().map(|folder| PROGRAM_FILE.of(self, &folder)).collect()
    }
}
