//! Quarantine: parts of a site that crash repeatedly are disabled for a while, in all processes of the site.
//!
//! For each crash the signal handler appends a line to a file in the state folder, in one write: seconds since
//! 1970, a space, the part. Every process looks at that file at most once a second, and only when requests
//! arrive; a changed length means new lines. No lock is needed: a lost line costs one more crash.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atomic_file::is_in_other_hands;
use event_loop::time;

/// This many crashes …
const CRASHES: usize = 3;

/// … within this many seconds …
const WITHIN_SECONDS: u64 = 30;

/// … quarantine a part for this many seconds after the last one.
const QUARANTINE_SECONDS: u64 = 60;

/// How often to look at the file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How much of the file's end is read: about 200 crashes.
const TAIL_BYTES: u64 = 8 * 1024;

/// A longer file is renamed to `crashes.old`, and a new one is started.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The file of crashes in [`Settings::state_folder`](crate::Settings::state_folder). When it has grown too large it is
/// renamed, with `.old` appended.
pub const CRASHES_FILE: &str = "crashes";

/// The file of crashes before the present one.
pub const OLD_CRASHES_FILE: &str = "crashes.old";

/// Returns the path of the file of crashes in a state folder.
pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join(CRASHES_FILE)
}

/// The quarantined parts, as far as this process knows.
pub(crate) struct Quarantine {
    file: Option<PathBuf>,
    checked_at: Cell<Option<Instant>>,
    /// The length of the file when it was last checked.
    length: Cell<u64>,
    /// Each quarantined part and when its quarantine ends, in seconds since 1970.
    parts: RefCell<Vec<(String, u64)>>,
}

impl Quarantine {
    pub(crate) fn new(state_folder: Option<&Path>) -> Quarantine {
        Quarantine {
            file: state_folder.map(file_in),
            checked_at: Cell::new(None),
            length: Cell::new(0),
            parts: RefCell::default(),
        }
    }

    /// Returns for how many more seconds a part is quarantined; `None` if it is not.
    pub(crate) fn seconds_left(&self, part: &str) -> Option<u64> {
        self.refresh();
        let parts = self.parts.borrow();
        let (_, until) = parts.iter().find(|(quarantined, _)| quarantined == part)?;
        until.checked_sub(now()).filter(|left| *left > 0)
    }

    /// Rereads the file if it has changed and the last check is long enough ago.
    fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let turn = time::now();
        let is_fresh = |at: Instant| turn.saturating_duration_since(at) < CHECK_INTERVAL;
        if self.checked_at.get().is_some_and(is_fresh) {
            return;
        }
        self.checked_at.set(Some(turn));
        // The file rarely exists.
        let length = fs::metadata(file).map_or(0, |file| file.len());
        if self.length.replace(length) == length || length == 0 {
            return;
        }
        if is_in_other_hands(file) {
            tracing::warn!(
                file = %file.display(),
                "File of crashes ignored: it belongs to another account, or others may write to it; remove it."
            );
            return;
        }
        let current = match tail(file) {
            Ok(tail) => quarantined(&tail, now()),
            Err(error) => {
                tracing::warn!(file = %file.display(), "Cannot read the file of crashes: {error}.");
                return;
            }
        };
        let before = self.parts.replace(current);
        for (part, until) in &*self.parts.borrow() {
            if !before.iter().any(|(known, _)| known == part) {
                let seconds = until.saturating_sub(now());
                tracing::error!(
                    part,
                    "Quarantined for {seconds} s in all processes: {CRASHES} crashes within \
                     {WITHIN_SECONDS} s."
                );
            }
        }
        if length > MAX_FILE_BYTES {
            // Another process may have done it. If it fails, the file grows until the next try.
            let _ = fs::rename(file, file.with_file_name(OLD_CRASHES_FILE));
        }
    }
}

/// Reads the end of the file.
fn tail(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(2 * TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the parts to quarantine at `now`, and until when. Malformed lines are skipped: the first one may be
/// truncated.
fn quarantined(lines: &str, now: u64) -> Vec<(String, u64)> {
    let mut crashes: Vec<(&str, Vec<u64>)> = Vec::new();
    for line in lines.lines() {
        let Some((second, part)) = line.split_once(' ') else { continue };
        // A clock that was ahead must not disable a part forever.
        let Some(second) = second.parse().ok().filter(|second| *second <= now + 5) else {
            continue;
        };
        match crashes.iter_mut().find(|(known, _)| *known == part) {
            Some((_, seconds)) => seconds.push(second),
            None => crashes.push((part, vec![second])),
        }
    }
    let until = |mut seconds: Vec<u64>| {
        seconds.sort_unstable();
        let last = seconds
            .windows(CRASHES)
            .filter(|crashes| crashes[CRASHES - 1] - crashes[0] <= WITHIN_SECONDS)
            .map(|crashes| crashes[CRASHES - 1])
            .next_back()?;
        Some(last + QUARANTINE_SECONDS).filter(|until| *until > now)
    };
    let crashes = crashes.into_iter();
    crashes.filter_map(|(part, seconds)| Some((part.to_owned(), until(seconds)?))).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn three_crashes_within_half_a_minute_quarantine_for_a_minute() {
        for (lines, at, expected) in [
            ("", 1000, None),
            ("1000 a\n1010 a\n", 1011, None),
            ("1000 a\n1010 a\n1030 a\n", 1031, Some(1090)),
            ("1000 a\n1010 a\n1030 a\n", 1090, None),
            ("1000 a\n1010 a\n1031 a\n", 1032, None),
            // Crashes of another part, malformed lines, a clock that was ahead.
            ("1000 a\n1001 b\n1002 b\n1003 a\n", 1004, None),
            ("00 a\n\nnonsense\n1000 a\n1001 a\n9999 a\n", 1002, None),
            // Out of order, because several processes write.
            ("1001 a\n1000 a\n1002 a\n", 1003, Some(1062)),
            // A second series.
            ("1000 a\n1001 a\n1002 a\n1070 a\n1071 a\n1072 a\n", 1073, Some(1132)),
        ] {
            let found = quarantined(lines, at);
            let expected: Vec<_> =
                expected.map(|until| ("a".to_owned(), until)).into_iter().collect();
            assert_eq!(found, expected, "{lines:?} at {at}");
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
        assert!(quarantine.seconds_left("a").is_some());
    }

    #[test]
    fn a_file_that_others_can_write_to_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(folder.path());
        fs::write(&file, format!("{} a\n", now()).repeat(3)).unwrap();
        for (mode, is_used) in [(0o666, false), (0o620, false), (0o644, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let quarantine = Quarantine::new(Some(folder.path()));
            assert_eq!(quarantine.seconds_left("a").is_some(), is_used, "{mode:o}");
        }
    }
}
