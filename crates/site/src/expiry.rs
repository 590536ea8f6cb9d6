//! Removes expired blobs from time to time.
//!
//! Blobs that have expired are not served anyway, so this is only about space: an hour more or less does not matter. All
//! processes of a site look; one at a time removes, under the lock of a file whose time says when that was done last.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use blobs::{BlobError, BlobSettings, Blobs};
use event_loop::time::sleep;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use storage::{Trust, private_folder_of};

/// The name of the file that says when expired blobs were removed last, in the folder of the data.
pub const EXPIRY_FILE: &str = "blobs.expiry";

/// How often expired blobs are removed. To look for them, each blob in a folder is opened: a second for 100,000.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How often a process looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How long to pause between two calls, each of which takes some tens of milliseconds, or up to 300 requests to S3.
const PAUSE: Duration = Duration::from_secs(2);

/// Removes expired blobs, at a low rate. For a process that runs for long.
#[derive(Debug)]
pub struct BlobExpiry {
    blobs: Blobs,
    file: PathBuf,
    next_look: Cell<Option<Instant>>,
}

impl BlobExpiry {
    /// Makes one for these blobs. The file [`EXPIRY_FILE`] is in `data`.
    pub fn new(settings: &BlobSettings, data: PathBuf) -> Rc<Self> {
        let blobs = Blobs::new(settings.clone());
        Rc::new(BlobExpiry { blobs, file: data.join(EXPIRY_FILE), next_look: Cell::new(None) })
    }

    /// Starts a task that removes expired blobs, if it is time. To be called every few seconds; hardly any call costs
    /// more than a look at the clock.
    pub fn look(self: &Rc<Self>) {
        let now = Instant::now();
        if self.next_look.get().is_some_and(|next| now < next) {
            return;
        }
        self.next_look.set(Some(now + LOOK_INTERVAL));
        if !self.blobs.exists() {
            return;
        }
        let expiry = self.clone();
        event_loop::spawn(async move {
            if let Err(error) = expiry.remove_if_due().await {
                tracing::warn!("Expired blobs cannot be removed: {error}.");
            }
        })
        .detach();
    }

    /// Returns whether it was time.
    async fn remove_if_due(&self) -> Result<bool, Failure> {
        let Some(file) = self.lock_if_due()? else { return Ok(false) };
        // Also if it fails: the cause is hardly gone in a minute.
        let now = || file.set_modified(SystemTime::now());
        now()?;
        let mut removed = 0;
        loop {
            let swept = self.blobs.remove_expired().await?;
            removed += swept.removed;
            if !swept.more {
                break;
            }
            sleep(PAUSE).await;
            now()?;
        }
        if removed > 0 {
            tracing::debug!(removed, "Expired blobs removed");
        }
        Ok(true)
    }

    /// Returns the file, locked until it is closed; `None` if another process is at it, or it is too early.
    fn lock_if_due(&self) -> Result<Option<File>, Failure> {
        private_folder_of(&self.file, Trust::OwnAccount).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        let is_new = !self.file.exists();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&self.file)?;
        // Where locks are not supported, two processes may do it at the same time, which costs time only.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Ok(None);
        }
        let age = file.metadata()?.modified()?.elapsed();
        // A time in the future is a clock that was wrong.
        let is_due = is_new || age.map_or(true, |age| age >= INTERVAL);
        Ok(is_due.then_some(file))
    }
}

/// Why expired blobs were not removed.
#[derive(Debug)]
enum Failure {
    Blobs(BlobError),
    File(io::Error),
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        Failure::Blobs(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::File(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Blobs(error) => error.fmt(formatter),
            Failure::File(error) => error.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use blobs::PutOptions;

    use super::*;

    #[test]
    fn one_process_removes_what_has_expired_and_others_wait_an_hour() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("blobs");
        let settings = BlobSettings::Folder(folder.clone());
        let expiry = || BlobExpiry::new(&settings, data.path().to_owned());
        let (one, other) = (expiry(), expiry());
        let stored = || std::fs::read_dir(folder.join("stored")).unwrap().count();
        event_loop::run(async {
            let expires = Some(SystemTime::now() - Duration::from_secs(1));
            let put = async || {
                let options = PutOptions { content_type: None, expires };
                let key = "a".parse().unwrap();
                one.blobs.put(&key, Body::from("x"), options).await.unwrap();
            };
            put().await;
            assert!(one.remove_if_due().await.unwrap());
            assert_eq!(stored(), 0);

            put().await;
            assert!(!other.remove_if_due().await.unwrap(), "it was done just now");
            let file = File::options().write(true).open(data.path().join(EXPIRY_FILE)).unwrap();
            let long_ago = SystemTime::now() - INTERVAL;
            file.set_modified(long_ago).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert!(!other.remove_if_due().await.unwrap(), "another process is at it");
            assert_eq!(stored(), 1);
            drop(file);
            assert!(other.remove_if_due().await.unwrap());
            assert_eq!(stored(), 0);
        })
        .unwrap();
    }

    #[test]
    fn a_site_without_blobs_gets_no_files() {
        let data = tempfile::tempdir().unwrap();
        let settings = BlobSettings::Folder(data.path().join("blobs"));
        let expiry = BlobExpiry::new(&settings, data.path().to_owned());
        event_loop::run(async {
            expiry.look();
            event_loop::yield_now().await;
        })
        .unwrap();
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
