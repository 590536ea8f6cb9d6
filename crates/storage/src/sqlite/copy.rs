//! A copy of the store while it is being written, and what a killed backup has left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_file::{Durability, folder_of};
use rusqlite::Connection;
use rustix::fs::FlockOperation::NonBlockingLockExclusive;
use rustix::fs::flock;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::error::StoreError;
use crate::session::next_statement;
use crate::session::refusal::broken;

/// How the names of the folders start.
const PREFIX: &str = ".copy.";

/// How old a folder has to be to count as left behind: its process may be delayed between creating and locking it.
const YOUNG: Duration = Duration::from_secs(60);

/// No backup takes this long: the criterion on file systems without locks.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// An unfinished copy, removed with its folder when this is dropped.
///
/// It is in a folder of its own beside the store, because SQLite opens what it writes (journals included) by name: in a
/// folder that others can write to, they could create a file or a link there first. A process that is killed leaves it
/// behind, for the next backup to remove.
pub(super) struct Copy {
    folder: TempDir,
    /// Tells other backups that this one is being written.
    _lock: Option<File>,
}

impl Copy {
    /// Creates the folder, private to this account.
    pub(super) fn beside(store: &Path) -> Result<Self, StoreError> {
        next_statement()?;
        let data = folder_of(store);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).permissions(fs::Permissions::from_mode(0o700));
        let folder = builder.tempdir_in(data).map_err(|error| StoreError::file(data, error))?;
        let lock = File::open(folder.path()).ok();
        // Root works on behalf of the account.
        let like = fs::metadata(data).map_err(|error| StoreError::file(data, error))?;
        if rustix::process::geteuid().is_root() && like.uid() != 0 {
            chown(folder.path(), Some(like.uid()), Some(like.gid()))
                .map_err(|error| StoreError::file(folder.path(), error))?;
        }
        // Without locks the age has to do.
        let lock = lock.filter(|lock| flock(lock, NonBlockingLockExclusive).is_ok());
        Ok(Copy { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    /// Makes it the same as a file that others may be changing meanwhile: byte for byte only if they do not. What is the
    /// same already is not written again.
    pub(super) fn follow(&self, store: &File) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let copy = options.open(self.path())?;
        let mut blocks = [vec![0; BLOCK], vec![0; BLOCK]];
        let mut at = 0;
        loop {
            let [new, old] = &mut blocks;
            let (read, found) = (read_block(store, new, at)?, read_block(&copy, old, at)?);
            if new[..read] != old[..found] {
                copy.write_all_at(&new[..read], at)?;
            }
            at += read as u64;
            if read < BLOCK {
                return copy.set_len(at);
            }
        }
    }

    /// Reads all of it; [`StoreError::Damaged`] if something is wrong with it.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        next_statement()?;
        let copy = Connection::open(self.path()).map_err(broken)?;
        let check = "PRAGMA integrity_check(1)";
        let found: String = copy.query_row(check, [], |row| row.get(0)).map_err(broken)?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
    }

    /// Makes sure that it is on disk, private, and the account's that the store belongs to.
    pub(super) fn complete(&self, store: &Path) -> Result<(), StoreError> {
        let complete = || {
            let copy = File::open(self.path())?;
            copy.set_permissions(fs::Permissions::from_mode(0o600))?;
            let like = fs::metadata(store).or_else(|_| fs::metadata(folder_of(store)))?;
            // Root works on behalf of the account.
            if copy.metadata()?.uid() != like.uid() {
                fchown(&copy, Some(like.uid()), Some(like.gid()))?;
            }
            copy.sync_all()
        };
        next_statement()?;
        complete().map_err(|error| StoreError::file(&self.path(), error))
    }

    /// Moves it to `target`, private to this account.
    pub(super) fn put(self, target: &Path) -> Result<(), StoreError> {
        next_statement()?;
        let path = self.path();
        let mut copy = File::open(&path).map_err(|error| StoreError::file(&path, error))?;
        atomic_file::replace(target, 0o600, Durability::Synced, |file| {
            io::copy(&mut copy, file).map(drop)
        })
        .map_err(|error| StoreError::file(target, error))
    }
}

/// How much is compared at a time.
const BLOCK: usize = 1 << 20;

/// Fills the buffer as far as there is something in the file.
fn read_block(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A copy that was left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its folder.
    pub folder: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Finds what was left behind beside the store, in order of the names.
pub(crate) fn unfinished(store: &Path) -> Vec<Unfinished> {
    let entries = fs::read_dir(folder_of(store)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        // A link is not followed.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder && entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
    });
    let left = folders.map(|entry| entry.path()).filter(|folder| is_left(folder).unwrap_or(false));
    let mut found: Vec<_> =
        left.map(|folder| Unfinished { bytes: bytes_in(&folder), folder }).collect();
    found.sort_by(|one, other| one.folder.cmp(&other.folder));
    found
}

/// Returns whether nobody has it locked; without locks, whether it is a day old.
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
            tracing::warn!(folder = %folder.display(), "Cannot remove an unfinished copy: {error}.");
        }
    }
}

/// How an SQLite file starts.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Refuses to replace a file that is not a copy of a store: a mistyped name. An empty file may be replaced; of a
/// link, only the link is.
///
/// # Errors
///
/// [`StoreError::NotACopy`].
pub(super) fn refuse_other_files(target: &Path) -> Result<(), StoreError> {
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
