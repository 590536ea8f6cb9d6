//! Shows at the terminal what the program's processes write to their log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use event_loop::time;

/// How often the log is read.
const INTERVAL: Duration = Duration::from_millis(200);

/// Follows the log from what is written next on, for as long as the future is polled.
/// `refuses_threads`: says which rule it is if the program could not start one.
pub(crate) async fn follow(path: PathBuf, refuses_threads: bool) {
    let mut follower = LogFollower::at_end(path);
    loop {
        time::sleep(INTERVAL).await;
        let mut new = Vec::new();
        // What cannot be shown now may be shown later.
        let _ = follower.read(&mut new);
        let _ = io::stderr().write_all(&new);
        if refuses_threads && is_about_a_refused_thread(&String::from_utf8_lossy(&new)) {
            tracing::warn!(
                "CloudLinux would refuse the thread: NPROC counts threads like processes, so all of them are refused here \
                 (EAGAIN). Do the work without one, such as in a child process (docs/your-own-app.md)."
            );
        }
    }
}

/// Whether a log says what std, tokio, rayon and the C library say when no thread can be started.
fn is_about_a_refused_thread(text: &str) -> bool {
    const SIGNS: [&str; 4] = [
        "failed to spawn thread",
        "spawn worker thread",
        "ThreadPoolBuildError",
        "start new thread",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
}

struct LogFollower {
    path: PathBuf,
    /// How much of which file has been shown.
    inode: u64,
    shown: u64,
}

impl LogFollower {
    fn at_end(path: PathBuf) -> Self {
        let metadata = path.metadata().ok();
        let (inode, shown) = metadata.map_or((0, 0), |it| (it.ino(), it.len()));
        LogFollower { path, inode, shown }
    }

    /// Copies what is new.
    fn read(&mut self, to: &mut impl Write) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        // A new file, after a rotation. The last lines of the old one are lost here, not in the log.
        if metadata.ino() != self.inode || metadata.len() < self.shown {
            (self.inode, self.shown) = (metadata.ino(), 0);
        }
        let new = metadata.len() - self.shown;
        if new > 0 {
            file.seek(SeekFrom::Start(self.shown))?;
            let mut text = Vec::new();
            file.take(new).read_to_end(&mut text)?;
            self.shown += text.len() as u64;
            to.write_all(&text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_appended_is_shown_once_also_after_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        fs::write(&path, "before\n").unwrap();
        let mut follower = LogFollower::at_end(path.clone());
        let mut shown = Vec::new();
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        follower.read(&mut shown).unwrap();
        append("one\n");
        follower.read(&mut shown).unwrap();
        follower.read(&mut shown).unwrap();
        fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        assert!(follower.read(&mut shown).is_err());
        append("two\n");
        follower.read(&mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), "one\ntwo\n");
    }
}
