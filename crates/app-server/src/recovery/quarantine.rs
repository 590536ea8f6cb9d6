//! Quarantine: parts of a site that crash repeatedly are disabled for a while, in all processes of the site; on all
//! machines, if the program shares crashes between them.
//!
//! Every process looks at the files of crashes (`crashes.rs`) at most once a second, and only when requests arrive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atomic_file::is_in_other_hands;
use event_loop::time;

use super::crashes::{self, OLD_CRASHES_FILE, now};
use crate::upgrade::watch::Identity;

/// This many crashes …
const CRASHES: usize = 3;

/// … within this many seconds …
const WITHIN_SECONDS: u64 = 30;

/// … quarantine a part for this many seconds after the last one.
const QUARANTINE_SECONDS: u64 = 60;

// What is longer ago has no part in any quarantine that is not over.
const _: () = assert!(crashes::REMEMBERED_SECONDS == WITHIN_SECONDS + QUARANTINE_SECONDS);

/// How often to look at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A longer file is renamed to `crashes.old`, and a new one is started.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The quarantined parts, as far as this process knows.
pub(crate) struct Quarantine {
    /// Crashes on this machine and on others. Empty without a state folder.
    files: Vec<CrashFile>,
    checked_at: Cell<Option<Instant>>,
    parts: RefCell<Vec<Quarantined>>,
}

/// A quarantined part.
#[derive(Debug, PartialEq, Eq)]
struct Quarantined {
    part: String,
    /// When its quarantine ends, in seconds since 1970.
    until: u64,
    places: Places,
}

/// How many of the crashes were on which machine; `None`: on this one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places(BTreeMap<Option<String>, usize>);

/// A crash, wherever it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    second: u64,
    /// The other machine, if it was not this one.
    node: Option<String>,
    part: String,
}

impl Quarantine {
    pub(crate) fn new(state_folder: Option<&Path>) -> Quarantine {
        let files = state_folder.map(|folder| {
            let (here, elsewhere) = (crashes::file_in(folder), crashes::elsewhere_in(folder));
            vec![CrashFile::new(here, Whose::Here), CrashFile::new(elsewhere, Whose::Elsewhere)]
        });
        Quarantine {
            files: files.unwrap_or_default(),
            checked_at: Cell::new(None),
            parts: RefCell::default(),
        }
    }

    /// Returns for how many more seconds a part is quarantined; `None` if it is not.
    pub(crate) fn seconds_left(&self, part: &str) -> Option<u64> {
        self.refresh();
        let parts = self.parts.borrow();
        let found = parts.iter().find(|quarantined| quarantined.part == part)?;
        found.until.checked_sub(now()).filter(|left| *left > 0)
    }

    /// Rereads what has changed if the last check is long enough ago.
    fn refresh(&self) {
        let turn = time::now();
        let is_fresh = |at: Instant| turn.saturating_duration_since(at) < CHECK_INTERVAL;
        if self.checked_at.get().is_some_and(is_fresh) {
            return;
        }
        self.checked_at.set(Some(turn));
        // All of them, so no `any`.
        let changed = self.files.iter().filter(|file| file.refresh()).count();
        if changed == 0 {
            return;
        }
        let crashes: Vec<_> =
            self.files.iter().flat_map(|file| file.crashes.borrow().clone()).collect();
        let before = self.parts.replace(quarantined(&crashes, now()));
        for Quarantined { part, until, places } in &*self.parts.borrow() {
            if !before.iter().any(|known| known.part == *part) {
                let seconds = until.saturating_sub(now());
                tracing::error!(
                    part,
                    "Quarantined for {seconds} s in all processes: {CRASHES} crashes within \
                     {WITHIN_SECONDS} s{places}."
                );
            }
        }
    }
}

/// Nothing if all were on this machine.
impl fmt::Display for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.keys().all(Option::is_none) {
            return Ok(());
        }
        for (at, (node, count)) in self.0.iter().enumerate() {
            let before = if at == 0 { " (" } else { ", " };
            match node {
                None => write!(formatter, "{before}{count} on this machine")?,
                Some(node) => write!(formatter, "{before}{count} on {node}")?,
            }
        }
        formatter.write_str(")")
    }
}

/// Which machines' crashes a file has.
#[derive(Clone, Copy)]
enum Whose {
    Here,
    Elsewhere,
}

/// One of the files, and what was read from it.
struct CrashFile {
    file: PathBuf,
    whose: Whose,
    /// When it was last checked; `None` if it was missing.
    identity: Cell<Option<Identity>>,
    crashes: RefCell<Vec<Counted>>,
}

impl CrashFile {
    fn new(file: PathBuf, whose: Whose) -> Self {
        CrashFile { file, whose, identity: Cell::new(None), crashes: RefCell::default() }
    }

    /// Rereads the file if it has changed. Returns whether it has.
    fn refresh(&self) -> bool {
        let file = &self.file;
        // It rarely exists.
        let Some(identity) = Identity::of(file) else {
            self.identity.set(None);
            // When this machine's has grown too large, another process renames it: what was read still holds.
            return match self.whose {
                Whose::Here => false,
                Whose::Elsewhere => !self.crashes.take().is_empty(),
            };
        };
        if self.identity.replace(Some(identity)) == Some(identity) {
            return false;
        }
        if is_in_other_hands(file) {
            tracing::warn!(
                file = %file.display(),
                "File of crashes ignored: it belongs to another account, or others may write to it; remove it."
            );
            return false;
        }
        match self.read() {
            Ok(crashes) => _ = self.crashes.replace(crashes),
            Err(error) => {
                tracing::warn!(file = %file.display(), "Cannot read the file of crashes: {error}.");
                return false;
            }
        }
        if matches!(self.whose, Whose::Here) && identity.size() > MAX_FILE_BYTES {
            // Another process may have done it. If it fails, the file grows until the next try.
            let _ = fs::rename(file, file.with_file_name(OLD_CRASHES_FILE));
        }
        true
    }

    fn read(&self) -> io::Result<Vec<Counted>> {
        Ok(match self.whose {
            Whose::Here => {
                let crashes = crashes::here(&self.file, now())?.into_iter();
                let count =
                    |it: crashes::Crash| Counted { second: it.second, node: None, part: it.part };
                crashes.map(count).collect()
            }
            Whose::Elsewhere => {
                let crashes = crashes::elsewhere(&self.file, now())?.into_iter();
                let count = |it: crashes::CrashElsewhere| Counted {
                    second: it.second,
                    node: Some(it.node),
                    part: it.part,
                };
                crashes.map(count).collect()
            }
        })
    }
}

/// Returns the parts to quarantine at `now`.
fn quarantined(crashes: &[Counted], now: u64) -> Vec<Quarantined> {
    let mut by_part: BTreeMap<&str, Vec<&Counted>> = BTreeMap::new();
    for crash in crashes {
        by_part.entry(&crash.part).or_default().push(crash);
    }
    let quarantined = |(part, mut crashes): (&str, Vec<&Counted>)| {
        crashes.sort_unstable();
        let is_series =
            |series: &&[&Counted]| series[CRASHES - 1].second - series[0].second <= WITHIN_SECONDS;
        let series = crashes.windows(CRASHES).rfind(is_series)?;
        let until = series[CRASHES - 1].second + QUARANTINE_SECONDS;
        let mut places = Places::default();
        for crash in series {
            *places.0.entry(crash.node.clone()).or_default() += 1;
        }
        (until > now).then(|| Quarantined { part: part.to_owned(), until, places })
    };
    by_part.into_iter().filter_map(quarantined).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::crashes::{CrashElsewhere, file_in, set_crashes_elsewhere};
    use super::*;

    /// Crashes as `second part`, or `second node/part`.
    fn counted(text: &str) -> Vec<Counted> {
        let crash = |word: &str| {
            let (second, rest) = word.split_once(' ').unwrap();
            let (node, part) = match rest.split_once('/') {
                Some((node, part)) => (Some(node.to_owned()), part),
                None => (None, rest),
            };
            Counted { second: second.parse().unwrap(), node, part: part.to_owned() }
        };
        text.lines().map(crash).collect()
    }

    #[test]
    fn three_crashes_within_half_a_minute_quarantine_for_a_minute() {
        for (crashes, at, expected) in [
            ("", 1000, None),
            ("1000 a\n1010 a\n", 1011, None),
            ("1000 a\n1010 a\n1030 a\n", 1031, Some((1090, ""))),
            ("1000 a\n1010 a\n1030 a\n", 1090, None),
            ("1000 a\n1010 a\n1031 a\n", 1032, None),
            // Crashes of another part.
            ("1000 a\n1001 b\n1002 b\n1003 a\n", 1004, None),
            // Out of order, because several processes write.
            ("1001 a\n1000 a\n1002 a\n", 1003, Some((1062, ""))),
            // A second series.
            ("1000 a\n1001 a\n1002 a\n1070 a\n1071 a\n1072 a\n", 1073, Some((1132, ""))),
            // On several machines.
            ("1000 a\n1001 a\n1020 n/a\n", 1021, Some((1080, " (2 on this machine, 1 on n)"))),
            ("1000 a\n990 n/a\n1001 a\n", 1021, Some((1061, " (2 on this machine, 1 on n)"))),
            ("1000 n/a\n1000 m/a\n1000 n/a\n", 1000, Some((1060, " (1 on m, 2 on n)"))),
            ("1000 a\n1001 n/b\n1002 n/a\n", 1003, None),
            ("1000 a\n1001 n/a\n1031 m/a\n", 1032, None),
            (
                "1000 n/a\n1001 n/a\n1002 n/a\n1010 a\n",
                1011,
                Some((1070, " (1 on this machine, 2 on n)")),
            ),
        ] {
            let found = quarantined(&counted(crashes), at);
            let found: Vec<_> =
                found.iter().map(|it| (&*it.part, it.until, it.places.to_string())).collect();
            let expected: Vec<_> = expected
                .map(|(until, places)| ("a", until, places.to_owned()))
                .into_iter()
                .collect();
            assert_eq!(found, expected, "{crashes:?} at {at}");
        }
    }

    #[test]
    fn crashes_of_other_processes_count_and_a_long_file_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(Some(folder.path()));
        assert_eq!(quarantine.seconds_left("a"), None);
        let lines = format!("{} a\n", now()).repeat(3);
        let padding = "1 x\n".repeat(MAX_FILE_BYTES as usize / 4);
        fs::write(file_in(folder.path()), padding + &lines).unwrap();
        quarantine.checked_at.set(None);
        let left = quarantine.seconds_left("a").unwrap();
        assert!((58..=60).contains(&left), "{left}");
        assert_eq!(quarantine.seconds_left("b"), None);
        assert!(!file_in(folder.path()).exists());
        assert!(folder.path().join("crashes.old").exists());
        // The file is gone; what was read from it still holds.
        assert_eq!(Quarantine::new(None).seconds_left("a"), None);
        quarantine.checked_at.set(None);
        assert!(quarantine.seconds_left("a").is_some());
    }

    #[test]
    fn crashes_here_and_on_other_machines_count_together() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(Some(folder.path()));
        let is_quarantined = |part| {
            quarantine.checked_at.set(None);
            quarantine.seconds_left(part).is_some()
        };
        let elsewhere = |count| {
            let (node, part) = ("b".to_owned(), "a".to_owned());
            let crash = CrashElsewhere { second: now(), node, part };
            set_crashes_elsewhere(folder.path(), &vec![crash; count]).unwrap();
        };
        fs::write(file_in(folder.path()), format!("{} a\n", now())).unwrap();
        elsewhere(1);
        assert!(!is_quarantined("a"));
        elsewhere(2);
        assert!(is_quarantined("a") && !is_quarantined("b"));
        // This machine's own file was renamed, and what is known of the others has changed.
        fs::remove_file(file_in(folder.path())).unwrap();
        elsewhere(1);
        assert!(!is_quarantined("a"));
        elsewhere(2);
        assert!(is_quarantined("a"), "what was read still holds");
        elsewhere(0);
        assert!(!is_quarantined("a"));
    }

    #[test]
    fn a_file_that_others_can_write_to_is_ignored() {
        for (name, line) in [("crashes", "a"), ("crashes.elsewhere", "n a")] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            fs::write(&file, format!("{} {line}\n", now()).repeat(3)).unwrap();
            for (mode, is_used) in [(0o666, false), (0o620, false), (0o644, true)] {
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
                let quarantine = Quarantine::new(Some(folder.path()));
                assert_eq!(quarantine.seconds_left("a").is_some(), is_used, "{name} {mode:o}");
            }
        }
    }
}
