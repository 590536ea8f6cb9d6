//! The backups that the owner makes and restores on a page: files in the folder [`BACKUPS_FOLDER`], where FTP reaches
//! them, too.
//!
//! A copy is made, checked and put in place by a child process: meanwhile the loop serves others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cookie::time::OffsetDateTime;
use process::{Limits, compute};
use storage::{
    REPLACED_SUFFIX, Schema, Snapshot, Store, StoreError, Transaction, Trust, params,
    private_folder_of,
};

use super::clock::{Seconds, now};
use super::events::{self, Origin};
use super::facts::{PASSWORD, set_fact};
use super::hashing::Process;
use super::second_factor::{KEY_FACT, STEP_FACT};
use super::session;
use super::settings::LoginSettings;

/// The name of the backups' folder, in the folder `data`.
pub const BACKUPS_FOLDER: &str = "backups";

/// How the names of backups end.
const SUFFIX: &str = ".db";

/// What a child may use. How large a store is and how slow a disk is up to the host.
const LIMITS: Limits = Limits {
    cpu: Duration::from_secs(600),
    wall: Duration::from_secs(1800),
    memory: 64 << 20,
    file_size: 1 << 40,
};

/// A file that can be put in the place of the store.
pub(super) struct Backup {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: Seconds,
    /// Whether it is the store that the last restore has replaced.
    pub(super) is_replaced: bool,
    path: PathBuf,
}

impl Backup {
    /// Opens it, to be sent.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub(super) fn delete(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The backups of a site's store.
pub(super) struct Backups<'a> {
    store: &'a Store,
    folder: PathBuf,
    trust: Trust,
    process: Process,
}

impl<'a> Backups<'a> {
    pub(super) fn of(settings: &LoginSettings, store: &'a Store, process: Process) -> Self {
        let folder = settings.data.join(BACKUPS_FOLDER);
        Backups { store, folder, trust: settings.trust, process }
    }

    /// Returns those that are there, the newest first.
    ///
    /// # Errors
    ///
    /// Why the folder cannot be read, and what to do: a sentence without a period.
    pub(super) fn list(&self) -> Result<Vec<Backup>, String> {
        let unreadable = |error: io::Error| {
            let folder = self.folder.display();
            format!("{folder} cannot be read: {error}; it has to be a folder of the site's account")
        };
        let mut found = Vec::new();
        match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(unreadable)?.path();
                    found.extend(backup_at(path, false).filter(|it| it.name.ends_with(SUFFIX)));
                }
            }
        }
        if let Some(file) = self.store.file() {
            let mut replaced = file.as_os_str().to_owned();
            replaced.push(REPLACED_SUFFIX);
            found.extend(backup_at(replaced.into(), true));
        }
        found.sort_by(|one, other| (other.modified, &other.name).cmp(&(one.modified, &one.name)));
        Ok(found)
    }

    /// What the store's file is named after.
    fn program(&self) -> &str {
        let name = self.store.file().and_then(Path::file_stem).and_then(|name| name.to_str());
        name.unwrap_or("store")
    }

    /// Makes one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) async fn make(&self) -> Result<(), String> {
        // If it is no folder, this says so.
        self.list()?;
        let target = self.folder.join(name_at(self.program(), now()));
        let made = async || {
            private_folder_of(&target, self.trust)?;
            self.store.back_up(&target).await
        };
        match self.process {
            Process::OfThisRequest => made().await.map_err(|error| error.to_string()),
            Process::Shared => in_child(made).await,
        }
    }

    /// Puts one in the place of the store. All browsers are logged out, and one logs in as before: nobody who knows the
    /// password gets around a second factor by a backup from the time before it.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub(super) async fn restore(
        &self,
        backup: &Backup,
        known: &[Schema],
        origin: &Origin,
    ) -> Result<(), String> {
        let restored = async || {
            let kept = self.store.read(Credentials::read).await?;
            let change = async |store: &Transaction<'_>| {
                kept.write(store).await?;
                log_out_everywhere(store, origin).await
            };
            self.store.restore(&backup.path, known, change).await.map(drop)
        };
        match self.process {
            Process::OfThisRequest => restored().await.map_err(|error| error.to_string()),
            Process::Shared => in_child(restored).await,
        }
    }
}

/// Puts a backup in the place of the store, as [`Store::restore`] does, for a command: password and second factor are
/// those of the backup. All browsers are logged out: a session that was ended after the backup had been made stays ended.
///
/// # Errors
///
/// As [`Store::restore`].
pub async fn restore(
    store: &Store,
    backup: &Path,
    known: &[Schema],
) -> Result<Option<PathBuf>, StoreError> {
    let change =
        async |store: &Transaction<'_>| log_out_everywhere(store, &Origin::default()).await;
    store.restore(backup, known, change).await
}

async fn log_out_everywhere(store: &Transaction<'_>, origin: &Origin) -> Result<(), StoreError> {
    session::end_all(store).await?;
    events::record(store, now(), events::RESTORED, origin).await
}

/// What one logs in with, as far as the store keeps it.
struct Credentials {
    facts: Vec<(String, String)>,
    recovery_codes: Vec<Vec<u8>>,
}

impl Credentials {
    async fn read(store: &Snapshot<'_>) -> Result<Credentials, StoreError> {
        let facts = "SELECT name, value FROM facts WHERE name IN ($1, $2, $3)";
        Ok(Credentials {
            facts: store.query(facts, params![PASSWORD, KEY_FACT, STEP_FACT]).await?,
            recovery_codes: store.query("SELECT hash FROM recovery_codes", &[]).await?,
        })
    }

    /// Takes the place of those in another store.
    async fn write(&self, store: &Transaction<'_>) -> Result<(), StoreError> {
        for name in [PASSWORD, KEY_FACT, STEP_FACT] {
            let kept = self.facts.iter().find(|(kept, _)| kept == name);
            set_fact(store, name, kept.map(|(_, value)| value.as_str())).await?;
        }
        store.execute("DELETE FROM recovery_codes", &[]).await?;
        for hash in &self.recovery_codes {
            let add = "INSERT INTO recovery_codes (hash) VALUES ($1)";
            store.execute(add, params![hash]).await?;
        }
        Ok(())
    }
}

/// Does something with the store in a child process.
async fn in_child(work: impl AsyncFnOnce() -> Result<(), StoreError>) -> Result<(), String> {
    let work = || match event_loop::run(work()) {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(error)) => error.to_string().into_bytes(),
        Err(error) => error.to_string().into_bytes(),
    };
    match compute(LIMITS, work).await {
        Ok(nothing) if nothing.is_empty() => Ok(()),
        Ok(words) => Err(String::from_utf8_lossy(&words).into_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Returns the backup that a file is; `None` if it is something else.
fn backup_at(path: PathBuf, is_replaced: bool) -> Option<Backup> {
    let name = path.file_name()?.to_str()?.to_owned();
    let found = fs::symlink_metadata(&path).ok().filter(|found| found.is_file())?;
    let (bytes, modified) = (found.len(), found.mtime());
    Some(Backup { name, bytes, modified, is_replaced, path })
}

/// Returns a name that tells when the backup was made, in UTC.
fn name_at(program: &str, now: Seconds) -> String {
    let at = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let month = u8::from(month);
    format!("{program}-{year}-{month:02}-{day:02}-{hour:02}{minute:02}{second:02}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_when() {
        assert_eq!(name_at("toolshed", 0), "toolshed-1970-01-01-000000.db");
        assert_eq!(name_at("toolshed", 1_796_055_209), "toolshed-2026-11-30-161329.db");
    }
}
