//! Verdicts on versions, kept in a folder so that of the many processes of a site, one checks and the
//! others read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use atomic_file::Durability;
use event_loop::time;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// Failed, for this reason (the end of a sentence).
    Failed(String),
    /// It could not be checked this time, for this reason.
    Unknown(String),
}

/// How many verdicts are kept.
const MAX_VERDICTS: usize = 16;

/// How often a process checks whether another has reached its verdict.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The folder of verdicts: one file each, named by what was checked, and the lock of the process that is
/// checking.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts(PathBuf);

/// The result of [`Verdicts::read_or_lock`].
pub(crate) enum Known {
    Verdict(Verdict),
    /// There is no verdict. The lock is held for as long as the file is open; `None` where locks are
    /// unavailable.
    Nothing(Option<File>),
}

impl Verdicts {
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Verdicts(folder)
    }

    /// Returns the verdict on a version, or the lock needed to reach one. Failures count only from
    /// `failures_since` on. Waits up to `patience` for another process that is checking.
    pub(crate) async fn read_or_lock(
        &self,
        key: &str,
        failures_since: impl Fn() -> Option<SystemTime>,
        patience: Duration,
    ) -> Known {
        if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0) {
            tracing::debug!("Cannot keep verdicts: {error}.");
            return Known::Nothing(None);
        }
        let lock = File::options().create(true).append(true).open(self.0.join("lock"));
        let deadline = time::now() + patience;
        loop {
            if let Some(verdict) = self.read(key, failures_since()) {
                return Known::Verdict(verdict);
            }
            let Ok(lock) = &lock else { return Known::Nothing(None) };
            match flock(lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // The process that held it may have reached a verdict since.
                    if let Some(verdict) = self.read(key, failures_since()) {
                        return Known::Verdict(verdict);
                    }
                    return Known::Nothing(lock.try_clone().ok());
                }
                Err(Errno::WOULDBLOCK) if time::now() < deadline => {
                    time::sleep(POLL_INTERVAL).await;
                }
                // No locks on this file system, or another process holds it too long.
                Err(_) => return Known::Nothing(None),
            }
        }
    }

    /// Returns the verdict on a version, if there is one. A failure from before `failures_since` does not
    /// count; a pass always does.
    pub(crate) fn read(&self, key: &str, failures_since: Option<SystemTime>) -> Option<Verdict> {
        let path = self.0.join(key);
        let text = fs::read_to_string(&path).ok()?;
        match text.split_once('\n')? {
            ("passed", _) => Some(Verdict::Passed),
            ("failed", why) => {
                let written = fs::metadata(&path).ok()?.modified().ok()?;
                let counts = failures_since.is_none_or(|since| written >= since);
                counts.then(|| Verdict::Failed(why.trim_end().to_owned()))
            }
            _ => None,
        }
    }

    /// Records a verdict in a file of its own, atomically.
    pub(crate) fn write(&self, key: &str, verdict: &Verdict) {
        let text = match verdict {
            Verdict::Passed => "passed\n".to_owned(),
            Verdict::Failed(why) => format!("failed\n{why}\n"),
            Verdict::Unknown(_) => return,
        };
        let written = || -> io::Result<()> {
            // A verdict lost in a power failure is determined again.
            atomic_file::replace(&self.0.join(key), 0o600, Durability::Cached, |file| {
                file.write_all(text.as_bytes())
            })?;
            remove_oldest(&self.0)
        };
        if let Err(error) = written() {
            tracing::warn!(
                "Cannot keep the verdict on a version: {error}. Each process checks it again."
            );
        }
    }
}

fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut verdicts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains('_') || entry.file_name().len() > 40 {
            verdicts.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    verdicts.sort();
    let surplus = verdicts.len().saturating_sub(MAX_VERDICTS);
    for (_, path) in verdicts.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(folder: &Path) -> Verdicts {
        fs::create_dir(folder.join("verdicts")).unwrap();
        Verdicts::in_folder(folder.join("verdicts"))
    }

    #[test]
    fn verdicts_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = verdicts(folder.path());
        assert_eq!(verdicts.read("a_1", None), None);
        for verdict in [Verdict::Passed, Verdict::Failed("it\nis broken".to_owned())] {
            verdicts.write("a_1", &verdict);
            assert_eq!(verdicts.read("a_1", None), Some(verdict));
        }
        // A failure from before the launcher was touched does not count; a pass always does.
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(verdicts.read("a_1", Some(later)), None);
        verdicts.write("a_1", &Verdict::Passed);
        assert_eq!(verdicts.read("a_1", Some(later)), Some(Verdict::Passed));
        // Unknown is not written, and a file that cannot be parsed is not a verdict.
        verdicts.write("b_1", &Verdict::Unknown("?".to_owned()));
        fs::write(folder.path().join("verdicts/c_1"), "pass").unwrap();
        assert_eq!((verdicts.read("b_1", None), verdicts.read("c_1", None)), (None, None));
    }

    #[test]
    fn writing_a_verdict_does_not_follow_links() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = verdicts(folder.path());
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for name in [format!(".{}", std::process::id()), "a_1".to_owned()] {
            let link = folder.path().join("verdicts").join(name);
            std::os::unix::fs::symlink(&victim, link).unwrap();
        }
        verdicts.write("a_1", &Verdict::Passed);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(verdicts.read("a_1", None), Some(Verdict::Passed));
    }

    #[test]
    fn the_newest_verdicts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = verdicts(folder.path());
        fs::write(folder.path().join("verdicts/lock"), "").unwrap();
        for number in 0..MAX_VERDICTS + 10 {
            verdicts.write(&format!("a_{number}"), &Verdict::Passed);
        }
        let kept = fs::read_dir(folder.path().join("verdicts")).unwrap().count();
        assert_eq!(kept, MAX_VERDICTS + 1, "plus the lock");
        let last = format!("a_{}", MAX_VERDICTS + 9);
        assert_eq!(verdicts.read(&last, None), Some(Verdict::Passed));
    }
}
