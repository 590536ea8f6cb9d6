//! Large values by key: uploads, results. In a folder, or in an S3-compatible store.
//!
//! [`Blobs`] is a cheap handle; clone it. A blob has a [`Key`], a content, a media type, and perhaps a time at which it
//! expires. It is put, read (whole or in part) and deleted, never changed in part. A large one may be uploaded in parts,
//! through several processes.
//!
//! * **Whole or not at all**: a blob has its content once `put` has returned, also after a power cut. A put that fails, or
//!   whose future is dropped, or whose process is killed, changes nothing. Of several puts of one key, one remains.
//! * **Bounded memory**: contents are streams, in and out, whatever their length. In a folder, a put or a read takes less
//!   than half a MiB; in S3 a put takes up to 8 MiB, and their number is limited.
//! * **Nothing blocks the loop** for longer than the disk takes for [`CHUNK_BYTES`], or to sync 4 MiB of a put. Everything
//!   that waits for an S3 server has a deadline.
//! * **No thread is started**, and every future is `Send` without unsafe code.
//!
//! ```
//! use blobs::{BlobSettings, Blobs, PutOptions};
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Full};
//!
//! # let data = tempfile::tempdir()?;
//! let blobs = Blobs::open(&BlobSettings::Folder(data.path().join("blobs")))?;
//! event_loop::run(async {
//!     let key = "uploads/2026/notes.txt".parse()?;
//!     blobs.put(&key, Full::from(Bytes::from("Hello, world")), PutOptions::default()).await?;
//!     let blob = blobs.get(&key, 7..).await?.expect("it was just put");
//!     assert_eq!(blob.details.length, 12);
//!     assert_eq!(blob.body.collect().await?.to_bytes(), "world");
//!     # Ok::<(), Box<dyn std::error::Error>>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `key.rs` | which texts are keys |
//! | `blob.rs` | what goes in and comes out |
//! | `source.rs` | reading what is to be put |
//! | `upload.rs` | uploads in parts, by several processes |
//! | `copy.rs` | copying all to another store |
//! | `folder.rs` | the folder engine |
//! | `s3.rs` | the S3 engine |
//! | `settings.rs`, `error.rs` | where blobs are, and what can go wrong |
//!
//! *Absent on purpose*: the site, its store and its settings file; names that visitors choose (a tool makes keys, and
//! keeps such names elsewhere).
#![forbid(unsafe_code)]

mod blob;
mod copy;
mod error;
mod folder;
mod key;
mod s3;
mod settings;
mod source;
mod upload;

use std::error::Error;
use std::ops::RangeBounds;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

pub use blob::{Blob, BlobBody, DEFAULT_CONTENT_TYPE, Details, Listed, PutOptions, Swept};
pub use copy::Copied;
pub use error::BlobError;
pub use key::{Key, KeyError};
pub use settings::{AddressStyle, BlobSettings, S3Settings};
pub use upload::{MAX_PARTS, PART_BYTES, UploadId, UploadIdError};

use folder::Folder;
use s3::S3;
use source::Source;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The size of the pieces in which contents are read and written. Of a local file it takes about 50 µs; much smaller ones
/// would cost more system calls, much larger ones would keep the loop waiting.
pub const CHUNK_BYTES: usize = 128 << 10;

/// The maximum number of blobs in a list. S3 returns no more.
pub const MAX_LISTED: usize = 1000;

/// A handle on a store of blobs, or on those whose keys start with a [prefix](Self::with_prefix). Clones share its
/// connections.
#[derive(Clone, Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
    /// Empty, or ends with a slash.
    prefix: Arc<str>,
}

#[derive(Debug)]
struct Shared {
    settings: BlobSettings,
    /// Opened when it is first used.
    engine: OnceLock<Engine>,
}

#[derive(Debug)]
enum Engine {
    Folder(Folder),
    S3(S3),
}

impl Blobs {
    /// Makes a handle on the store. It is opened when it is first used, and again if that fails.
    pub fn new(settings: BlobSettings) -> Blobs {
        Blobs { shared: Arc::new(Shared { settings, engine: OnceLock::new() }), prefix: "".into() }
    }

    /// Opens the store. Sends nothing to an S3 server.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created, or others can put files into it; if the settings of S3 cannot be used.
    pub fn open(settings: &BlobSettings) -> Result<Blobs, BlobError> {
        let blobs = Blobs::new(settings.clone());
        blobs.engine()?;
        Ok(blobs)
    }

    /// Returns whether there is such a folder of blobs, without creating it. A bucket has to exist, so of S3 true.
    pub fn exists(&self) -> bool {
        match &self.shared.settings {
            BlobSettings::Folder(folder) => Folder::exists_at(folder),
            BlobSettings::S3(_) => true,
        }
    }

    /// Checks settings, without opening the store: reads no file and sends nothing.
    ///
    /// # Errors
    ///
    /// If the settings of S3 cannot be used.
    pub fn check_settings(settings: &BlobSettings) -> Result<(), BlobError> {
        match settings {
            BlobSettings::Folder(_) => Ok(()),
            BlobSettings::S3(settings) => S3::check(settings).map(drop),
        }
    }

    /// Makes a handle on the blobs whose keys start with these segments and a slash. It gives and takes keys without
    /// them, and reaches no other blob, except to [remove expired ones](Self::remove_expired).
    ///
    /// # Panics
    ///
    /// If the segments, with those of this handle, have more than 200 bytes.
    #[must_use]
    pub fn with_prefix(&self, segments: &Key) -> Blobs {
        let prefix = format!("{}{segments}/", self.prefix);
        assert!(prefix.len() <= key::MAX_PREFIX_BYTES, "the prefix {prefix} is too long");
        Blobs { shared: self.shared.clone(), prefix: prefix.into() }
    }

    fn engine(&self) -> Result<&Engine, BlobError> {
        if let Some(engine) = self.shared.engine.get() {
            return Ok(engine);
        }
        let engine = match &self.shared.settings {
            BlobSettings::Folder(folder) => Engine::Folder(Folder::open(folder)?),
            BlobSettings::S3(settings) => Engine::S3(S3::open(settings)?),
        };
        Ok(self.shared.engine.get_or_init(|| engine))
    }

    /// Stores a blob, in place of one that has this key. Once it returns, the blob survives a power cut.
    ///
    /// # Errors
    ///
    /// [`BlobError::Source`] if `content` ends in an error; any other from the store. Nothing has changed then. If the
    /// future is dropped, nothing changes, or the blob is stored.
    pub async fn put<B>(&self, key: &Key, content: B, options: PutOptions) -> Result<(), BlobError>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let mut content = pin!(content);
        let source = Source::new(content.as_mut());
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.put(&key, source, &options).await,
            Engine::S3(s3) => s3.put(&key, source, &options).await,
        }
    }

    /// Returns a blob, or the part of it that is in `range` (`..` for all); `None` if there is none, or it has expired.
    ///
    /// The bytes are read as the body is polled. A blob that is read whole is compared with its checksum.
    ///
    /// # Errors
    ///
    /// [`BlobError::Damaged`]; any other from the store.
    pub async fn get(
        &self,
        key: &Key,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<Blob>, BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.get(&key, &range),
            Engine::S3(s3) => s3.get(&key, &range).await,
        }
    }

    /// Returns what is known of a blob; `None` if there is none, or it has expired.
    ///
    /// # Errors
    ///
    /// Same as [`get`](Self::get).
    pub async fn head(&self, key: &Key) -> Result<Option<Details>, BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.head(&key),
            Engine::S3(s3) => s3.head(&key).await,
        }
    }

    /// Deletes a blob. One that is not there is deleted already.
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn delete(&self, key: &Key) -> Result<(), BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.delete(&key),
            Engine::S3(s3) => s3.delete(&key).await,
        }
    }

    /// Returns the blobs whose keys start with `prefix` (which may be empty) and come after `after`, in the order of
    /// their keys: at most `limit`, and at most [`MAX_LISTED`]. If there are fewer, these are all.
    ///
    /// A blob that has expired may be among them until it is removed. In a folder, the time this takes depends on how
    /// many blobs share a folder: give keys several segments (`uploads/2026-11/…`) if there are tens of thousands.
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, BlobError> {
        let limit = limit.min(MAX_LISTED);
        let prefix = [&self.prefix, prefix].concat();
        let after = after.map(|key| key.within(&self.prefix));
        let listed = match self.engine()? {
            Engine::Folder(folder) => folder.list(&prefix, after.as_ref(), limit).await?,
            Engine::S3(s3) => s3.list(&prefix, after.as_ref(), limit).await?,
        };
        let without_prefix = |listed: Listed| {
            let key = Key::of_stored(listed.key.as_str().strip_prefix(&*self.prefix)?)?;
            Some(Listed { key, ..listed })
        };
        Ok(listed.into_iter().filter_map(without_prefix).collect())
    }

    /// Removes blobs that have expired, and what killed puts have left: some of them in each call, which takes about as
    /// long as a list. To be called from time to time, and again soon if there is [more](Swept::more).
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn remove_expired(&self) -> Result<Swept, BlobError> {
        match self.engine()? {
            Engine::Folder(folder) => folder.remove_expired().await,
            Engine::S3(s3) => s3.remove_expired().await,
        }
    }

    /// Copies all blobs to another store and reads them back, except those that are there already: so it may be repeated,
    /// after a failure or for what was put since. Of two blobs with one key, the one that was put later stays. `progress`
    /// is called after each blob.
    ///
    /// # Errors
    ///
    /// Any from either store; what was copied by then stays there. [`BlobError::Altered`] if what is read back is not what
    /// was put.
    pub async fn copy_to(
        &self,
        to: &Blobs,
        progress: impl FnMut(&Copied),
    ) -> Result<Copied, BlobError> {
        copy::copy(self, to, progress).await
    }

    /// Returns an address from which anybody can fetch the blob until `lifetime` has passed or it expires; a week at most.
    /// `None` if there is no such blob, or there are no such addresses (of a folder, or by the
    /// [settings](S3Settings::has_addresses)): the caller sends it itself then. The server sends the header
    /// `Content-Disposition` as given.
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn presigned_get(
        &self,
        key: &Key,
        lifetime: Duration,
        content_disposition: Option<&str>,
    ) -> Result<Option<String>, BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(_) => Ok(None),
            Engine::S3(s3) => s3.presigned_get(&key, lifetime, content_disposition).await,
        }
    }
}
