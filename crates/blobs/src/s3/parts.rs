//! Uploads that any process can continue: multipart uploads that no future's drop aborts.
//!
//! Their id is the token of the upload, by which the object is recognized once it is complete, and S3's id, in base64.

use std::num::NonZeroU16;

use data_encoding::BASE64URL_NOPAD;
use rusty_s3::actions::ListParts;

use super::client::Call;
use super::expiring;
use super::failure::{Failure, Refusal};
use super::part::Filling;
use super::upload::{Metadata, Upload};
use super::{S3, upload};
use crate::CHUNK_BYTES;
use crate::blob::PutOptions;
use crate::error::BlobError;
use crate::key::Key;
use crate::source::{Content, Source};
use crate::upload::{PART_BYTES, PartSizes, UploadId};

impl S3 {
    pub(crate) async fn begin_upload(
        &self,
        key: &Key,
        options: &PutOptions,
    ) -> Result<UploadId, BlobError> {
        let content_type = options.checked_content_type()?;
        let expires = options.expires_seconds();
        let metadata = Metadata { content_type, expires };
        let begin = async {
            if let Some(seconds) = expires {
                expiring::note(self, key.as_str(), seconds).await?;
            }
            Upload::create(self, &self.object(key.as_str()), &metadata).await
        };
        let (token, id) = begin.await.map_err(|failure| self.error(failure))?.leave();
        Ok(UploadId::new(BASE64URL_NOPAD.encode(format!("{token} {id}").as_bytes())))
    }

    pub(crate) async fn put_part<B: Content>(
        &self,
        key: &Key,
        id: &UploadId,
        number: NonZeroU16,
        mut source: Source<'_, B>,
    ) -> Result<(), BlobError> {
        let upload = self.upload(key, id)?;
        let mut part = Filling::default();
        let mut _permit = None;
        // What is small waits for no large one.
        if part.fill(&mut source, CHUNK_BYTES as u64).await? {
            _permit = Some(self.upload_permit().await.map_err(|failure| self.error(failure))?);
            part.fill(&mut source, PART_BYTES).await?;
            // Too long if anything comes.
            source.next(1).await?;
        }
        let sent = upload.send_part(number.get(), part.finish()).await;
        sent.map(drop).map_err(|failure| self.upload_error(key, failure))
    }

    pub(crate) async fn finish_upload(
        &self,
        key: &Key,
        id: &UploadId,
        sizes: PartSizes,
    ) -> Result<(), BlobError> {
        let upload = self.upload(key, id)?;
        let parts = match self.list_parts(&upload).await {
            Ok(parts) => parts,
            Err(failure) if is_missing_upload(&failure) => {
                let is_complete = upload.is_complete().await;
                return match is_complete.map_err(|failure| self.error(failure))? {
                    true => Ok(()),
                    false => Err(BlobError::NoUpload(key.clone())),
                };
            }
            Err(failure) => return Err(self.error(failure)),
        };
        let mut etags = Vec::new();
        for (number, size) in sizes.iter() {
            let part = parts.binary_search_by_key(&number, |part| part.number).ok();
            match part.and_then(|at| parts.get(at)).filter(|part| part.size == size) {
                Some(part) => etags.push(part.etag.clone()),
                None => return Err(BlobError::Incomplete { key: key.clone(), part: number }),
            }
        }
        let completed = upload.complete(&etags).await;
        completed.map_err(|failure| self.upload_error(key, failure))
    }

    pub(crate) async fn cancel_upload(&self, key: &Key, id: &UploadId) -> Result<(), BlobError> {
        let Ok(upload) = self.upload(key, id) else { return Ok(()) };
        let aborted = upload::abort(self, upload.object(), upload.id()).await;
        aborted.map_err(|failure| self.error(failure))
    }

    fn upload(&self, key: &Key, id: &UploadId) -> Result<Upload, BlobError> {
        let text = BASE64URL_NOPAD.decode(id.as_str().as_bytes()).ok();
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        let (token, id) = text
            .as_deref()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(|| BlobError::NoUpload(key.clone()))?;
        Ok(Upload::continued(self, self.object(key.as_str()), token, id))
    }

    /// Returns the parts that are there, in the order of their numbers.
    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Uploaded>, Failure> {
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let credentials = Some(self.credentials());
            let mut action =
                ListParts::new(self.bucket(), credentials, upload.object(), upload.id());
            if let Some(marker) = marker {
                action.set_part_number_marker(marker);
            }
            let text = self.send(&Call::new(action)).await?.text().await?;
            let page = ListParts::parse_response(&text).map_err(|error| {
                Failure::Broken(format!("its list of parts cannot be read: {error}"))
            })?;
            parts.extend(page.parts.into_iter().map(|part| Uploaded {
                number: part.number,
                size: part.size,
                etag: part.etag,
            }));
            if page.next_part_number_marker <= marker {
                return Ok(parts);
            }
            marker = page.next_part_number_marker;
        }
    }

    fn upload_error(&self, key: &Key, failure: Failure) -> BlobError {
        match is_missing_upload(&failure) {
            true => BlobError::NoUpload(key.clone()),
            false => self.error(failure),
        }
    }
}

/// A part that the server has.
struct Uploaded {
    number: u16,
    size: u64,
    etag: String,
}

/// Returns whether the server does not know the upload, or it is another object's.
fn is_missing_upload(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(Refusal { code, .. }) if code == "NoSuchUpload")
}
