//! How a process learns of a newer version of its program and becomes it.
//!
//! [`watch`] takes snapshots of files → [`decide`] says what to do → [`judge`] reaches a verdict, by
//! [`check`] or from [`verdicts`], and [`install`]s → [`upgrader`] drives them → the server executes the
//! new program, which finds the [`handover`] state. What happens to requests in flight is decided in
//! `server/`.

pub(crate) mod check;
pub(crate) mod decide;
pub(crate) mod handover;
pub(crate) mod install;
pub(crate) mod judge;
pub(crate) mod upgrader;
pub(crate) mod verdicts;
pub(crate) mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use self::check::Check;
use self::judge::Judge;
use self::verdicts::{Verdict, Verdicts};
use self::watch::{Paths, Snapshot, Version};

/// What is watched, how a new version is checked, and what is executed in place of this one.
///
/// Create it before reading any of the files that it names: a later change then counts as a change.
#[derive(Clone, Debug)]
pub struct Upgrade {
    pub(crate) judge: Judge,
    /// The files when this was created.
    pub(crate) at_start: Snapshot,
    pub(crate) is_stand_in: bool,
    pub(crate) judges_itself: bool,
    pub(crate) variables: Vec<(OsString, OsString)>,
}

impl Upgrade {
    /// Upgrades this process to `program` whenever that file changes.
    ///
    /// A new version is checked by running `program ARGUMENTS…`: it passes if it exits with code 0 and
    /// one line of its output is `marker`, which no other program prints by chance.
    ///
    /// A version that arrives at the program's path with `.new` appended is checked, then renamed into
    /// place; the previous one is kept as `.previous`.
    pub fn new<A: Into<OsString>>(
        program: PathBuf,
        arguments: impl IntoIterator<Item = A>,
        marker: &str,
    ) -> Upgrade {
        let paths = Paths { launcher: None, program, others: Vec::new() };
        let check = Check {
            arguments: arguments.into_iter().map(Into::into).collect(),
            marker: marker.to_owned(),
            deadline: Duration::from_secs(10),
        };
        Upgrade {
            at_start: Snapshot::take(&paths),
            judge: Judge { paths, check, verdicts: None },
            is_stand_in: false,
            judges_itself: false,
            variables: Vec::new(),
        }
    }

    /// Sets an environment variable for later versions.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Watches the launcher too: touching this file upgrades the process even if nothing else has
    /// changed.
    #[must_use]
    pub fn launcher(mut self, launcher: Option<PathBuf>) -> Self {
        self.judge.paths.launcher = launcher;
        self.look_again()
    }

    /// Watches another file, for example the configuration. It may be missing.
    #[must_use]
    pub fn file(mut self, file: PathBuf) -> Self {
        self.judge.paths.others.push(file);
        self.look_again()
    }

    /// Keeps verdicts in this folder, which is created if missing. Without one, each process checks on
    /// its own.
    #[must_use]
    pub fn verdicts(mut self, folder: PathBuf) -> Self {
        self.judge.verdicts = Some(Verdicts::in_folder(folder));
        self
    }

    /// Sets whether the running version is checked too if it has no verdict yet: a launcher starts the
    /// last version that passed, and a check leaves it a copy. Default no.
    #[must_use]
    pub fn check_running_version(mut self, checks: bool) -> Self {
        self.judges_itself = checks;
        self
    }

    /// Sets whether another program, the last good version, was started in place of the installed one,
    /// which is then checked at once. Default no.
    #[must_use]
    pub fn is_stand_in(mut self, is_stand_in: bool) -> Self {
        self.is_stand_in = is_stand_in;
        self
    }

    /// Checks the version that has arrived beside the program and installs it. For a command.
    ///
    /// # Errors
    ///
    /// Why it was rejected, as a sentence without its period.
    pub async fn install(&self) -> Result<(), String> {
        let Some(key) = self.look().key(Version::Arriving) else {
            let path = self.judge.paths.of(Version::Arriving);
            return Err(format!("{} does not exist", path.display()));
        };
        match self.judge.judge(Version::Arriving, &key, true).await {
            Verdict::Passed => Ok(()),
            Verdict::Failed(why) | Verdict::Unknown(why) => Err(why),
        }
    }

    pub(crate) fn look(&self) -> Snapshot {
        Snapshot::take(&self.judge.paths)
    }

    fn look_again(mut self) -> Self {
        self.at_start = self.look();
        self
    }
}
