//! Copies all blobs of one store to another: to move a site, or as a backup.
//!
//! * **Compared**: each blob is read back from the target, and its length and SHA-256 are those of what was read.
//! * **To be repeated**: what is there already is passed over, so a copy that was killed goes on when it is started again,
//!   and a later one takes what has been put since. Of two blobs with one key, the one that was put later stays, by the
//!   clocks of both stores, to the second.
//! * **The site may be in use meanwhile**, of either store. Nothing is deleted: a blob that was deleted from the source
//!   since the last copy stays in the target.
//!
//! A blob that is damaged, or on a bad part of the disk, does not keep the others from being copied.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use ring::digest;

use crate::blob::{BlobBody, Details, PutOptions};
use crate::error::BlobError;
use crate::key::Key;
use crate::{Blobs, MAX_LISTED};

/// How many blobs are copied at a time: a server takes its time for each, and 8 MiB of memory.
const AT_A_TIME: usize = 4;

/// After how many blobs that cannot be read the copy ends: something else is wrong then.
const MAX_UNREADABLE: usize = 100;

/// What was copied.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Copied {
    /// How many blobs were copied.
    pub blobs: u64,
    /// How many bytes are in them.
    pub bytes: u64,
    /// How many were passed over: the target has them already.
    pub present: u64,
    /// Why some were not copied: they are [damaged](BlobError::Damaged) or [cannot be read](BlobError::Read).
    pub unreadable: Vec<BlobError>,
}

/// Copies all blobs of `from` to `to`.
pub(crate) async fn copy(
    from: &Blobs,
    to: &Blobs,
    mut progress: impl FnMut(&Copied),
) -> Result<Copied, BlobError> {
    let mut copied = Copied::default();
    let mut after = None;
    loop {
        let page = from.list("", after.as_ref(), MAX_LISTED).await?;
        let Some(last) = page.last() else { return Ok(copied) };
        after = Some(last.key.clone());
        let blobs = page.into_iter().map(|listed| copy_blob(from, to, listed.key));
        let mut outcomes = stream::iter(blobs).buffer_unordered(AT_A_TIME);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(Outcome::Copied(length)) => {
                    copied.blobs += 1;
                    copied.bytes += length;
                }
                Ok(Outcome::Present) => copied.present += 1,
                Ok(Outcome::Gone) => {}
                Err(Failure::Source(error))
                    if is_of_one_blob(&error) && copied.unreadable.len() < MAX_UNREADABLE =>
                {
                    copied.unreadable.push(error);
                }
                Err(Failure::Source(error) | Failure::Target(error)) => return Err(error),
            }
            progress(&copied);
        }
    }
}

fn is_of_one_blob(error: &BlobError) -> bool {
    matches!(error, BlobError::Damaged(_) | BlobError::Read { .. })
}

/// What became of a blob.
enum Outcome {
    /// So many bytes were copied.
    Copied(u64),
    Present,
    /// It was deleted or has expired meanwhile.
    Gone,
}

/// Which store has failed.
enum Failure {
    Source(BlobError),
    Target(BlobError),
}

async fn copy_blob(from: &Blobs, to: &Blobs, key: Key) -> Result<Outcome, Failure> {
    let Some(details) = from.head(&key).await.map_err(Failure::Source)? else {
        return Ok(Outcome::Gone);
    };
    match to.head(&key).await {
        Ok(Some(present)) if is_later(&present, &details) => return Ok(Outcome::Present),
        // What is damaged there is replaced.
        Ok(_) | Err(BlobError::Damaged(_)) => {}
        Err(error) => return Err(Failure::Target(error)),
    }
    let Some(blob) = from.get(&key, ..).await.map_err(Failure::Source)? else {
        return Ok(Outcome::Gone);
    };
    let Details { content_type, expires, .. } = blob.details;
    let options = PutOptions { content_type: Some(content_type), expires };
    let mut content = Summed::new(blob.body);
    to.put(&key, &mut content, options).await.map_err(|error| match error {
        BlobError::Source(error) => match error.downcast() {
            Ok(error) => Failure::Source(*error),
            Err(error) => Failure::Target(BlobError::Source(error)),
        },
        error => Failure::Target(error),
    })?;
    let expected = content.finish();
    match read_back(to, &key).await {
        Ok(None) => Ok(Outcome::Gone),
        Ok(Some(found)) if found == expected => Ok(Outcome::Copied(found.0)),
        Ok(Some(_)) | Err(BlobError::Damaged(_)) => Err(Failure::Target(BlobError::Altered(key))),
        Err(error) => Err(Failure::Target(error)),
    }
}

/// Returns the length and checksum of a blob.
async fn read_back(blobs: &Blobs, key: &Key) -> Result<Option<(u64, Checksum)>, BlobError> {
    let Some(blob) = blobs.get(key, ..).await? else { return Ok(None) };
    let mut content = Summed::new(blob.body);
    while let Some(piece) = content.frame().await {
        piece?;
    }
    Ok(Some(content.finish()))
}

/// Returns whether a blob was put later than another, in a later second: not every store counts in less.
fn is_later(one: &Details, other: &Details) -> bool {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    seconds(one.modified) > seconds(other.modified)
}

type Checksum = Vec<u8>;

/// A body whose bytes are counted and summed as they pass.
struct Summed {
    body: BlobBody,
    length: u64,
    checksum: digest::Context,
}

impl Summed {
    fn new(body: BlobBody) -> Self {
        Summed { body, length: 0, checksum: digest::Context::new(&digest::SHA256) }
    }

    /// Returns how many bytes have passed, and their SHA-256.
    fn finish(self) -> (u64, Checksum) {
        (self.length, self.checksum.finish().as_ref().to_vec())
    }
}

impl Body for Summed {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            this.length += piece.len() as u64;
            this.checksum.update(piece);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
