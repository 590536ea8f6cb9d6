//! A copy of the store in the making, and what a backup has left behind whose process was killed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_file::Durability;
use rustix::fs::FlockOperation::NonBlockingLockExclusive;
use rustix::fs::flock;
use rustix::io::Errno;
use tempfile::TempDir;

use super::error::StoreError;
use super::files::folder_of;

/// What the names of the folders begin with.
const PREFIX: &str = ".copy.";

/// Between making a folder and locking it no time passes, but the system may hold a process up.
const YOUNG: Duration = Duration::from_secs(60);

/// No backup takes so long: for file systems without locks.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// A copy in the making, removed with its folder when this is dropped.
///
/// It is made in a folder of its own beside the store, for SQLite opens what it writes (journals too) by
/// name: where others can write they could put a file or a link there first. A process that is killed leaves it
/// behind, for the next backup to remove.
pub(super) struct Copy {
    folder: TempDir,
    /// Says to the next backup that somebody is at it.
    _lock: Option<File>,
}

impl Copy {
    /// Makes the folder, for this account alone.
    pub(super) fn beside(store: &Path) -> Result<Self, StoreError> {
        let data = folder_of(store);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).permissions(fs::Permissions::from_mode(0o700));
        let folder = builder.tempdir_in(data).map_err(|error| StoreError::file(data, error))?;
        let lock = File::open(folder.path()).ok();
        // Where there are no locks the age has to do.
        let lock = lock.filter(|lock| flock(lock, NonBlockingLockExclusive).is_ok());
        Ok(Copy { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    /// Removes what an attempt has left: SQLite writes only what is not there yet.
    pub(super) fn remove(&self) -> Result<(), StoreError> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::file(&self.path(), error))
            }
            _ => Ok(()),
        }
    }

    /// Puts it at its place, for this account alone.
    pub(super) fn put(self, target: &Path) -> Result<(), StoreError> {
        let path = self.path();
        let mut copy = File::open(&path).map_err(|error| StoreError::file(&path, error))?;
        atomic_file::replace(target, 0o600, Durability::Synced, |file| {
            io::copy(&mut copy, file).map(drop)
        })
        .map_err(|error| StoreError::file(target, error))
    }
}

/// A copy that nobody works on any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its folder.
    pub folder: PathBuf,
    /// How much room it takes.
    pub bytes: u64,
}

/// Finds what was left behind beside the store, in order of the names.
pub(super) fn unfinished(store: &Path) -> Vec<Unfinished> {
    let entries = fs::read_dir(folder_of(store)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        // Of a link it is the link's.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder && entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
    });
    let left = folders.map(|entry| entry.path()).filter(|folder| is_left(folder).unwrap_or(false));
    let mut found: Vec<_> =
        left.map(|folder| Unfinished { bytes: bytes_in(&folder), folder }).collect();
    found.sort_by(|one, other| one.folder.cmp(&other.folder));
    found
}

/// Whether nobody has it locked; where there are no locks, whether it is a day old.
fn is_left(folder: &Path) -> io::Result<bool> {
    let age = fs::symlink_metadata(folder)?.modified()?.elapsed().unwrap_or_default();
    if age < YOUNG {
        return Ok(false);
    }
    Ok(match flock(File::open(folder)?, NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        Err(_) => age > OLD,
    })
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// Removes what was left behind beside the store.
pub(super) fn remove_unfinished(store: &Path) {
    for Unfinished { folder, .. } in unfinished(store) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            let folder = folder.display();
            tracing::warn!("The unfinished copy {folder} cannot be removed: {error}.");
        }
    }
}

/// How a file of SQLite's begins.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Refuses to replace a file that is no store, and so no copy of one: a slip of the hand. An empty file is
/// nobody's loss; of a link only the link is replaced.
///
/// # Errors
/// [`StoreError::NotACopy`].
pub(super) fn refuse_no_copy(target: &Path) -> Result<(), StoreError> {
    if !fs::symlink_metadata(target).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(());
    }
    let mut begins = [0; HEADER.len()];
    let read = File::open(target).and_then(|mut file| file.read_exact(&mut begins));
    match read {
        Ok(()) if begins == *HEADER => Ok(()),
        _ => Err(StoreError::NotACopy(target.to_owned())),
    }
}
