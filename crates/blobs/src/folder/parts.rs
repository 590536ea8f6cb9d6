//! Uploads in parts.
//!
//! ```text
//! FOLDER/incoming/upload.ID/blob     the key as content, and what is to be kept with the blob
//! FOLDER/incoming/upload.ID/NUMBER   the parts
//! ```
//!
//! All of them have footers, like blobs. The last step puts a blob whose content is that of the parts, so that a part which
//! is still on its way from another process cannot change it any more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::num::NonZeroU16;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use atomic_file::Durability;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body::{Body, Frame};
use http_body_util::Full;

use super::body::FileBody;
use super::footer::{self, Footer};
use super::{Folder, PAUSE, sync};
use crate::blob::PutOptions;
use crate::error::BlobError;
use crate::key::Key;
use crate::source::{Content, Source};
use crate::upload::{PartSizes, UploadId};

/// How the names of uploads in `incoming` start.
pub(super) const PREFIX: &str = "upload.";

/// The length of an id.
const ID_BYTES: usize = 32;

impl Folder {
    pub(crate) async fn begin_upload(
        &self,
        key: &Key,
        options: &PutOptions,
    ) -> Result<UploadId, BlobError> {
        options.checked_content_type()?;
        let mut id = [0; ID_BYTES / 2];
        let incoming = &self.shared.incoming;
        let failed = |error| self.failed(incoming, error);
        getrandom::fill(&mut id).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let id = UploadId::new(HEXLOWER.encode(&id));
        let folder = incoming.join([PREFIX, id.as_str()].concat());
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        sync(incoming);
        let mut content = pin!(Full::from(Bytes::from(key.as_str().to_owned())));
        let source = Source::new(content.as_mut());
        let mut draft = self.draft(&folder, source, options, None).await?;
        draft.replace(&folder.join(BLOB), 0o600, Durability::Synced).map_err(failed)?;
        Ok(id)
    }

    pub(crate) async fn put_part<B: Content>(
        &self,
        key: &Key,
        id: &UploadId,
        number: NonZeroU16,
        source: Source<'_, B>,
    ) -> Result<(), BlobError> {
        let Some((folder, _)) = self.upload(key, id)? else {
            return Err(BlobError::NoUpload(key.clone()));
        };
        let written = async {
            let mut draft = self.draft(&folder, source, &PutOptions::default(), None).await?;
            let path = part(&folder, number.get());
            let named = draft.replace(&path, 0o600, Durability::Synced);
            named.map_err(|error| self.failed(&path, error))
        };
        match written.await {
            // Finished or cancelled meanwhile.
            Err(BlobError::File { .. }) if !folder.exists() => {
                Err(BlobError::NoUpload(key.clone()))
            }
            done => done,
        }
    }

    pub(crate) async fn finish_upload(
        &self,
        key: &Key,
        id: &UploadId,
        sizes: PartSizes,
    ) -> Result<(), BlobError> {
        let is_finished = || {
            // A damaged blob is replaced, as by a put.
            let stored = self.find(key).ok().flatten();
            stored.is_some_and(|(_, footer)| footer.upload.as_deref() == Some(id.as_str()))
        };
        let Some((folder, options)) = self.upload(key, id)? else {
            return if is_finished() { Ok(()) } else { Err(BlobError::NoUpload(key.clone())) };
        };
        if !is_finished() {
            match self.put_parts(key, id, sizes, &folder, &options).await {
                // By another process, meanwhile.
                Err(_) if is_finished() => {}
                done => done?,
            }
        }
        // What cannot be removed now is after a day.
        let _ = remove(&folder).await;
        Ok(())
    }

    async fn put_parts(
        &self,
        key: &Key,
        id: &UploadId,
        sizes: PartSizes,
        folder: &Path,
        options: &PutOptions,
    ) -> Result<(), BlobError> {
        for (number, size) in sizes.iter() {
            if usize::from(number) % PAUSE == 0 {
                event_loop::yield_now().await;
            }
            open_part(key, folder, number, size)?;
        }
        let mut parts = pin!(Parts { key, folder, sizes: sizes.iter(), current: None });
        let source = Source::new(parts.as_mut());
        match self.put_uploaded(key, source, options, Some(id.as_str())).await {
            Err(BlobError::Source(error)) => Err(match error.downcast() {
                Ok(error) => *error,
                Err(error) => BlobError::Source(error),
            }),
            done => done,
        }
    }

    pub(crate) async fn cancel_upload(&self, key: &Key, id: &UploadId) -> Result<(), BlobError> {
        let Some((folder, _)) = self.upload(key, id)? else { return Ok(()) };
        remove(&folder).await.map_err(|error| self.failed(&folder, error))
    }

    /// Returns the folder of an upload and what is to be kept with its blob.
    fn upload(&self, key: &Key, id: &UploadId) -> Result<Option<(PathBuf, PutOptions)>, BlobError> {
        if id.as_str().len() != ID_BYTES {
            return Ok(None);
        }
        let folder = self.shared.incoming.join([PREFIX, id.as_str()].concat());
        let path = folder.join(BLOB);
        let read = || {
            let Some((_, footer)) = open(&path)? else { return Ok(None) };
            let content = fs::read(&path)?;
            io::Result::Ok(content.starts_with(key.as_str().as_bytes()).then_some(footer.details))
        };
        let details = read().map_err(|error| self.failed(&path, error))?;
        // The key is all of the content, not only its start.
        let details = details.filter(|details| details.length == key.as_str().len() as u64);
        Ok(details.map(|details| {
            let content_type = Some(details.content_type);
            (folder, PutOptions { content_type, expires: details.expires })
        }))
    }
}

/// The name of the file with what is known of the blob.
const BLOB: &str = "blob";

fn part(folder: &Path, number: u16) -> PathBuf {
    folder.join(number.to_string())
}

/// Opens a file of an upload; `None` if it is not there, or not whole.
fn open(path: &Path) -> io::Result<Option<(File, Footer)>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => {
            let file = opened?;
            Ok(footer::read(&file)?.map(|footer| (file, footer)))
        }
    }
}

/// Removes the folder of an upload: first the file without which there is none, so that nothing is added meanwhile.
pub(super) async fn remove(folder: &Path) -> io::Result<()> {
    let _ = fs::remove_file(folder.join(BLOB));
    for entry in fs::read_dir(folder)? {
        // A large file takes a while.
        event_loop::yield_now().await;
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(folder)
}

/// Opens a part, which has to have that size.
fn open_part(key: &Key, folder: &Path, number: u16, size: u64) -> Result<FileBody, BlobError> {
    let found = open(&part(folder, number));
    match found.map_err(|error| BlobError::Read { key: key.clone(), error })? {
        Some((file, footer)) if footer.details.length == size => {
            Ok(FileBody::new(file, key, 0..size, Some(footer.checksum)))
        }
        _ => Err(BlobError::Incomplete { key: key.clone(), part: number }),
    }
}

/// The contents of the parts, one after the other. One is open at a time.
struct Parts<'a, S> {
    key: &'a Key,
    folder: &'a Path,
    sizes: S,
    current: Option<FileBody>,
}

impl<S: Iterator<Item = (u16, u64)> + Unpin> Body for Parts<'_, S> {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        loop {
            if let Some(body) = &mut self.current
                && let Some(frame) = ready!(Pin::new(body).poll_frame(context))
            {
                return Poll::Ready(Some(frame));
            }
            let Some((number, size)) = self.sizes.next() else { return Poll::Ready(None) };
            match open_part(self.key, self.folder, number, size) {
                Ok(body) => self.current = Some(body),
                // It was there before: another process has just finished or cancelled the upload.
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}
