//! How a process reaches a verdict: from one that another process has recorded, or by a check. Installs a
//! version that has arrived and passed.

use std::fs;
use std::time::SystemTime;

use crate::upgrade::check::{Check, WRITE_PATIENCE};
use crate::upgrade::install::install;
use crate::upgrade::verdicts::{Known, Verdict, Verdicts};
use crate::upgrade::watch::{Paths, Snapshot, Version};

/// What is checked, how, and where verdicts are kept.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) paths: Paths,
    pub(crate) check: Check,
    /// Without a folder, each process checks on its own.
    pub(crate) verdicts: Option<Verdicts>,
}

impl Judge {
    /// Returns the verdict that another process has recorded, however old.
    pub(crate) fn recorded(&self, key: &str) -> Option<Verdict> {
        self.verdicts.as_ref()?.read(key, None)
    }

    /// Reaches a verdict on the version that `key` names. A version that arrived and passed is installed
    /// when this returns. `retries_failures` ignores earlier failures.
    pub(crate) async fn judge(
        &self,
        version: Version,
        key: &str,
        retries_failures: bool,
    ) -> Verdict {
        let _lock = match self.known(key, retries_failures).await {
            Known::Verdict(verdict) if version == Version::Installed => return verdict,
            Known::Verdict(Verdict::Failed(why)) => return Verdict::Failed(why),
            Known::Verdict(_) => None,
            Known::Nothing(lock) => lock,
        };
        let program = self.paths.of(version);
        let verdict = self.check.run(&program).await;
        // The files must still be those that were checked.
        if Snapshot::take(&self.paths).key(version).as_deref() != Some(key) {
            return Verdict::Unknown("it changed during the check".to_owned());
        }
        let program = program.display();
        match &verdict {
            Verdict::Passed => tracing::info!(%program, "New version passed its check."),
            Verdict::Failed(why) => {
                tracing::error!(%program, "New version rejected; the running version continues: {why}.");
            }
            Verdict::Unknown(why) => {
                tracing::warn!(%program, "Cannot check the new version: {why}.")
            }
        }
        self.record(key, &verdict);
        if version == Version::Arriving && verdict == Verdict::Passed {
            if let Err(error) = install(&self.paths) {
                return Verdict::Unknown(format!("it cannot replace the program: {error}"));
            }
            // Renaming changes a file's time.
            if let Some(key) = Snapshot::take(&self.paths).key(Version::Installed) {
                self.record(&key, &verdict);
            }
        }
        verdict
    }

    async fn known(&self, key: &str, retries_failures: bool) -> Known {
        let Some(verdicts) = &self.verdicts else { return Known::Nothing(None) };
        let started = SystemTime::now();
        // Only failures since the launcher was last touched count.
        let touched = || {
            let launcher = self.paths.launcher.as_ref()?;
            fs::metadata(launcher).ok()?.modified().ok()
        };
        let failures_since = || if retries_failures { Some(started) } else { touched() };
        verdicts.read_or_lock(key, failures_since, self.check.deadline + WRITE_PATIENCE).await
    }

    fn record(&self, key: &str, verdict: &Verdict) {
        if let Some(verdicts) = &self.verdicts {
            verdicts.write(key, verdict);
        }
    }
}
