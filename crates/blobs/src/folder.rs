//! The folder engine: a file for each blob.
//!
//! ```text
//! FOLDER/stored/…    the blobs; names.rs says which file has which key, footer.rs what is at its end
//! FOLDER/incoming/   what is being put; renamed into `stored` once it is complete and on disk; and uploads (parts.rs)
//! FOLDER/lock        held for the moment in which an expired file is removed, or a new one gets its name
//! ```
//!
//! Several processes may use one folder. Of two that put the same key, the later rename wins. Folders are 0700, files
//! 0600.

mod body;
mod footer;
mod lock;
mod names;
mod parts;
mod sweep;
mod walk;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::ops::RangeBounds;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atomic_file::{Access, Draft, Durability, close_to_others, folder_of, is_foreign};
use ring::digest;

use crate::CHUNK_BYTES;
use crate::blob::{Blob, BlobBody, Details, Listed, PutOptions, Swept, cut};
use crate::error::BlobError;
use crate::key::Key;
use crate::source::{Content, Source};
use body::FileBody;
use footer::Footer;
use walk::Walk;

/// How much of a put is written before it is synced. More would let the loop wait longer for the disk at a time, less
/// would sync more often: a slow disk takes a tenth of a second for this.
const SYNC_BYTES: usize = 4 << 20;

/// After how many files that are opened or examined other tasks may run.
const PAUSE: usize = 16;

/// How often a put creates the folders of its blob again because another process has just removed them, empty.
const MAX_ATTEMPTS: usize = 16;

/// A folder of blobs. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    stored: PathBuf,
    incoming: PathBuf,
    /// Up to where the last sweep came.
    swept: Mutex<Option<Key>>,
}

impl Folder {
    /// Opens the folder; creates it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Folder, BlobError> {
        refuse_foreign_place(folder)?;
        let (stored, incoming) = (folder.join(STORED), folder.join("incoming"));
        for folder in [folder, &stored, &incoming] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| BlobError::of_file(error, folder, folder_of(folder)))?;
            refuse_open(folder)?;
        }
        let folder = folder.to_owned();
        Ok(Folder {
            shared: Arc::new(Shared { folder, stored, incoming, swept: Mutex::default() }),
        })
    }

    /// Returns whether there are blobs in a folder, or were; also if this account may not see it.
    pub(crate) fn exists_at(folder: &Path) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        match fs::metadata(folder.join(STORED)) {
            Ok(found) => found.is_dir(),
            Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
        }
    }

    pub(crate) async fn put<B: Content>(
        &self,
        key: &Key,
        source: Source<'_, B>,
        options: &PutOptions,
    ) -> Result<(), BlobError> {
        self.put_uploaded(key, source, options, None).await
    }

    /// Puts what an upload has brought, or no upload.
    async fn put_uploaded<B: Content>(
        &self,
        key: &Key,
        source: Source<'_, B>,
        options: &PutOptions,
        upload: Option<&str>,
    ) -> Result<(), BlobError> {
        let mut draft = self.draft(&self.shared.incoming, source, options, upload).await?;
        let path = self.path_of(key);
        let _lock = lock::shared(&self.shared.folder).await;
        self.give_name(&mut draft, &path).map_err(|error| self.failed(&path, error))
    }

    /// Writes content and footer to a file without a name in a folder, and to disk.
    async fn draft<B: Content>(
        &self,
        folder: &Path,
        mut source: Source<'_, B>,
        options: &PutOptions,
        upload: Option<&str>,
    ) -> Result<Draft, BlobError> {
        let content_type = options.checked_content_type()?;
        let failed = |error| self.failed(folder, error);
        let mut draft = Draft::create_in(folder, OsStr::new(DRAFT)).map_err(failed)?;
        let mut checksum = digest::Context::new(&digest::SHA256);
        let (mut length, mut unsynced) = (0, 0);
        while let Some(piece) = source.next(CHUNK_BYTES).await? {
            draft.file().write_all(&piece).map_err(failed)?;
            checksum.update(&piece);
            length += piece.len() as u64;
            unsynced += piece.len();
            if unsynced >= SYNC_BYTES {
                draft.file().sync_data().map_err(failed)?;
                unsynced = 0;
            }
        }
        let checksum = checksum.finish();
        let expires = options.expires_seconds();
        let footer = footer::format(length, checksum.as_ref(), expires, upload, content_type);
        draft.file().write_all(footer.as_bytes()).map_err(failed)?;
        // Before a lock is taken, because it takes the longest.
        draft.file().sync_all().map_err(failed)?;
        Ok(draft)
    }

    /// Renames the draft to `path`, whose folders may be missing or vanish at any moment.
    fn give_name(&self, draft: &mut Draft, path: &Path) -> io::Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            match draft.replace(path, 0o600, Durability::Synced) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
            match self.create_folders(folder_of(path)) {
                // Another process has removed one of them meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists() => {}
                done => done?,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Creates a folder below `stored`, and the folders above it, so that they survive a power cut.
    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        if folder == self.shared.stored {
            // Not created here: where a disk should be mounted, the blobs would go to another.
            return fs::metadata(folder).map(drop);
        }
        let above = folder_of(folder);
        let create = || DirBuilder::new().mode(0o700).create(folder);
        let created = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_folders(above)?;
                create()
            }
            other => other,
        };
        match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Ok(()) => {
                sync(above);
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn head(&self, key: &Key) -> Result<Option<Details>, BlobError> {
        Ok(self.find(key)?.map(|(_, footer)| footer.details))
    }

    pub(crate) fn get(
        &self,
        key: &Key,
        range: &impl RangeBounds<u64>,
    ) -> Result<Option<Blob>, BlobError> {
        let Some((file, footer)) = self.find(key)? else { return Ok(None) };
        let Footer { details, checksum, .. } = footer;
        let range = cut(range, details.length);
        let is_whole = range == (0..details.length);
        let body = FileBody::new(file, key, range.clone(), is_whole.then_some(checksum));
        Ok(Some(Blob { details, range, body: BlobBody::new(body) }))
    }

    /// Opens the file of a blob that has not expired.
    fn find(&self, key: &Key) -> Result<Option<(File, Footer)>, BlobError> {
        let path = self.path_of(key);
        let found = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists() => {
                return Ok(None);
            }
            opened => opened.and_then(|file| Ok((footer::read(&file)?, file))),
        };
        let (footer, file) = found.map_err(|error| self.failed(&path, error))?;
        let footer = footer.ok_or_else(|| BlobError::Damaged(key.clone()))?;
        Ok((!footer.details.is_expired()).then_some((file, footer)))
    }

    pub(crate) fn delete(&self, key: &Key) -> Result<(), BlobError> {
        let path = self.path_of(key);
        match self.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists() => Ok(()),
            done => done.map_err(|error| self.failed(&path, error)),
        }
    }

    /// Removes a blob's file, and the folders that are empty then.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        let mut folder = folder_of(path);
        while folder != self.shared.stored && fs::remove_dir(folder).is_ok() {
            folder = folder_of(folder);
        }
        sync(folder);
        Ok(())
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, BlobError> {
        let mut listed = Vec::new();
        let mut walk = Walk::new(&self.shared.stored, prefix, after);
        while listed.len() < limit {
            let next = walk.next().await;
            let Some(key) = next.map_err(|error| self.failed(&self.shared.stored, error))? else {
                break;
            };
            if listed.len() % PAUSE == PAUSE - 1 {
                event_loop::yield_now().await;
            }
            // It may have been deleted since.
            let Ok(found) = fs::metadata(self.path_of(&key)) else { continue };
            listed.push(Listed { key, length: found.len().saturating_sub(footer::BYTES) });
        }
        Ok(listed)
    }

    pub(crate) async fn remove_expired(&self) -> Result<Swept, BlobError> {
        sweep::sweep(self).await.map_err(|error| self.failed(&self.shared.folder, error))
    }

    fn path_of(&self, key: &Key) -> PathBuf {
        names::path_of(&self.shared.stored, key)
    }

    fn exists(&self) -> bool {
        self.shared.stored.is_dir()
    }

    fn failed(&self, path: &Path, error: io::Error) -> BlobError {
        BlobError::of_file(error, path, &self.shared.stored)
    }
}

/// Syncs what has changed in a folder to disk. Some file systems cannot; and another process may have removed it, empty.
fn sync(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// The folder of the blobs, in that of all.
const STORED: &str = "stored";

/// How the temporary names in `incoming` start, after a dot.
const DRAFT: &str = "blob";

/// Refuses to create a folder in another account's: root would take it away from the account that the site runs as.
fn refuse_foreign_place(folder: &Path) -> Result<(), BlobError> {
    let above = folder_of(folder);
    match fs::metadata(above) {
        Ok(found) if is_foreign(&found) && !folder.exists() => {
            Err(BlobError::Foreign { folder: above.to_owned(), account: found.uid() })
        }
        _ => Ok(()),
    }
}

/// Refuses a folder into which another account can put files, or makes it private.
fn refuse_open(folder: &Path) -> Result<(), BlobError> {
    let access = close_to_others(folder);
    match access.map_err(|error| BlobError::of_file(error, folder, folder_of(folder)))? {
        Access::Private => {}
        Access::Tightened => tracing::warn!(
            folder = %folder.display(),
            "Blobs were writable by other accounts; permissions tightened."
        ),
        Access::Foreign(account) => {
            return Err(BlobError::Foreign { folder: folder.to_owned(), account });
        }
        Access::Open(mode) => return Err(BlobError::Exposed { folder: folder.to_owned(), mode }),
    }
    Ok(())
}
