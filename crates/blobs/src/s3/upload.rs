//! A put: one request for what fits into a part, otherwise a multipart upload, which is aborted unless it is completed.

use std::mem;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use event_loop::time;
use http::StatusCode;
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUpload, CreateMultipartUpload};

use super::S3;
use super::client::Call;
use super::failure::{Failure, is_transient};
use super::part::{Filling, Part};
use super::{CONTENT_MD5, CONTENT_TYPE, META_EXPIRES, META_MD5, META_UPLOAD, text_of};
use crate::CHUNK_BYTES;
use crate::error::BlobError;
use crate::source::{Content, Source};
use crate::upload::{MAX_PARTS, PART_BYTES};

/// How often the server is asked to put the parts together, if it only then says that it failed.
const MAX_COMPLETIONS: u32 = 3;

/// What is kept with an object.
pub(super) struct Metadata<'a> {
    pub(super) content_type: &'a str,
    pub(super) expires: Option<u64>,
}

impl Metadata<'_> {
    fn add_to<'a, A: S3Action<'a>>(&self, call: Call<A>) -> Call<A> {
        let call = call.signed(CONTENT_TYPE, self.content_type.to_owned());
        match self.expires {
            Some(expires) => call.signed(META_EXPIRES, expires.to_string()),
            None => call,
        }
    }
}

/// Stores an object.
pub(super) async fn put<B: Content>(
    s3: &S3,
    object: &str,
    source: &mut Source<'_, B>,
    metadata: &Metadata<'_>,
) -> Result<(), BlobError> {
    let mut part = Filling::default();
    let mut _permit = None;
    // What is small waits for no large one.
    if part.fill(source, CHUNK_BYTES as u64).await? {
        _permit = Some(s3.upload_permit().await.map_err(|failure| s3.error(failure))?);
        part.fill(source, PART_BYTES).await?;
    }
    let part = part.finish();
    if part.length() < PART_BYTES {
        return put_whole(s3, object, part, metadata).await.map_err(|failure| s3.error(failure));
    }
    let upload = Upload::create(s3, object, metadata).await.map_err(|failure| s3.error(failure))?;
    upload.fill(part, source).await
}

async fn put_whole(
    s3: &S3,
    object: &str,
    part: Part,
    metadata: &Metadata<'_>,
) -> Result<(), Failure> {
    let action = s3.bucket().put_object(Some(s3.credentials()), object);
    let call = metadata.add_to(Call::new(action)).signed(META_MD5, HEXLOWER.encode(&part.md5()));
    s3.send(&with_checksum(call, &part).body(part)).await?.text().await?;
    Ok(())
}

/// The server compares it with what has arrived.
fn with_checksum<'a, A: S3Action<'a>>(call: Call<A>, part: &Part) -> Call<A> {
    call.signed(CONTENT_MD5, BASE64.encode(&part.md5()))
}

/// A multipart upload. Dropping it aborts it, unless another process may continue it.
pub(super) struct Upload {
    s3: S3,
    object: String,
    id: String,
    /// Kept with the object, to recognize it as this upload's.
    token: String,
    /// Whether its drop leaves it as it is.
    is_over: bool,
}

impl Upload {
    pub(super) async fn create(
        s3: &S3,
        object: &str,
        metadata: &Metadata<'_>,
    ) -> Result<Upload, Failure> {
        let token = format!("{:016x}", getrandom::u64().unwrap_or_default());
        let action = s3.bucket().create_multipart_upload(Some(s3.credentials()), object);
        let call = metadata.add_to(Call::new(action)).signed(META_UPLOAD, token.clone());
        let response = s3.send(&call).await?.text().await?;
        let response = CreateMultipartUpload::parse_response(&response)
            .map_err(|error| Failure::Broken(format!("its response has no upload id: {error}")))?;
        let (object, id) = (object.to_owned(), response.upload_id().to_owned());
        Ok(Upload { s3: s3.clone(), object, id, token, is_over: false })
    }

    /// Leaves it for others; returns its token and id.
    pub(super) fn leave(mut self) -> (String, String) {
        self.is_over = true;
        (mem::take(&mut self.token), mem::take(&mut self.id))
    }

    /// Returns an upload that was left.
    pub(super) fn continued(s3: &S3, object: String, token: &str, id: &str) -> Upload {
        Upload { s3: s3.clone(), object, id: id.into(), token: token.into(), is_over: true }
    }

    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Uploads all parts, of which the first was read already, and completes the object.
    async fn fill<B: Content>(
        mut self,
        first: Part,
        source: &mut Source<'_, B>,
    ) -> Result<(), BlobError> {
        let (mut part, mut etags) = (first, Vec::new());
        for number in 1.. {
            let is_last = part.length() < PART_BYTES;
            if part.length() > 0 {
                if number > MAX_PARTS {
                    return Err(BlobError::TooLarge(u64::from(MAX_PARTS) * PART_BYTES));
                }
                let etag = self.send_part(number, part).await;
                etags.push(etag.map_err(|failure| self.s3.error(failure))?);
            }
            if is_last {
                break;
            }
            part = Part::read(source).await?;
        }
        self.complete(&etags).await.map_err(|failure| self.s3.error(failure))?;
        self.is_over = true;
        Ok(())
    }

    /// Returns the part's ETag.
    pub(super) async fn send_part(&self, number: u16, part: Part) -> Result<String, Failure> {
        let s3 = &self.s3;
        let credentials = Some(s3.credentials());
        let action = s3.bucket().upload_part(credentials, &self.object, number, &self.id);
        let reply = s3.send(&with_checksum(Call::new(action), &part).body(part)).await?;
        let etag = text_of(&reply.head.headers, "etag").map(str::to_owned);
        reply.text().await?;
        etag.ok_or_else(|| Failure::Broken("its response to a part has no ETag".to_owned()))
    }

    pub(super) async fn complete(&self, etags: &[String]) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            match self.try_to_complete(etags).await {
                Ok(()) => return Ok(()),
                // An attempt before this one has succeeded, but its response was lost?
                Err(Failure::Refused(refusal))
                    if refusal.status == StatusCode::NOT_FOUND && self.is_complete().await? =>
                {
                    return Ok(());
                }
                Err(Failure::Refused(refusal))
                    if refusal.status == StatusCode::OK
                        && is_transient(refusal.status, &refusal.code)
                        && attempt < MAX_COMPLETIONS =>
                {
                    attempt += 1;
                    time::sleep(Duration::from_secs(1)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_to_complete(&self, etags: &[String]) -> Result<(), Failure> {
        let s3 = &self.s3;
        let action = || {
            let credentials = Some(s3.credentials());
            let etags = etags.iter().map(String::as_str);
            CompleteMultipartUpload::new(s3.bucket(), credentials, &self.object, &self.id, etags)
        };
        let reply = s3.send(&Call::new(action()).body(action().body().into())).await?;
        let head = reply.head.clone();
        // The server sends the head before it starts, so this may be an error.
        let body = reply.text().await?;
        match body.contains("<Error>") {
            true => Err(s3.refusal(&head, &body)),
            false => Ok(()),
        }
    }

    pub(super) async fn is_complete(&self) -> Result<bool, Failure> {
        let head = self.s3.head_object(&self.object).await?;
        Ok(head.is_some_and(|head| text_of(&head, META_UPLOAD) == Some(&self.token)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_over || !event_loop::is_running() {
            return;
        }
        let (s3, object, id) = (self.s3.clone(), self.object.clone(), self.id.clone());
        let abort = async move { try_to_abort(&s3, &object, &id).await };
        event_loop::spawn(abort).detach();
    }
}

/// Removes the parts of an upload. What fails here is removed with what killed processes have left.
pub(super) async fn try_to_abort(s3: &S3, object: &str, id: &str) {
    if let Err(failure) = abort(s3, object, id).await {
        let error = s3.error(failure);
        tracing::warn!(%error, "Parts of a cancelled upload could not be removed.");
    }
}

/// Removes the parts of an upload, if it is still there: another process may have removed them.
pub(super) async fn abort(s3: &S3, object: &str, id: &str) -> Result<(), Failure> {
    let action = s3.bucket().abort_multipart_upload(Some(s3.credentials()), object, id);
    match s3.send(&Call::new(action)).await {
        Ok(reply) => reply.text().await.map(drop),
        Err(Failure::Refused(refusal)) if refusal.is_missing_object() => Ok(()),
        Err(failure) => Err(failure),
    }
}
