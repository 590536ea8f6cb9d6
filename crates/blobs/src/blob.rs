//! What goes into the store and comes out of it, whichever engine keeps it.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::error::BlobError;
use crate::key::Key;

/// What is kept with a blob.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// The media type, as in the header `Content-Type`: at most 255 visible characters of ASCII and spaces. Without it,
    /// [`DEFAULT_CONTENT_TYPE`].
    pub content_type: Option<String>,
    /// When the blob expires, to the second. From then on it is not served, and
    /// [`remove_expired`](crate::Blobs::remove_expired) removes it. Without it, it is kept until it is deleted.
    pub expires: Option<SystemTime>,
}

/// The media type of a blob that was put without one.
pub const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

/// The longest media type, in bytes: both names of it at their longest (RFC 6838 §4.2) without parameters.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

impl PutOptions {
    /// Returns the content type to keep.
    pub(crate) fn checked_content_type(&self) -> Result<&str, BlobError> {
        let content_type = self.content_type.as_deref().unwrap_or(DEFAULT_CONTENT_TYPE);
        let is_text = content_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_trimmed = content_type.trim() == content_type && !content_type.is_empty();
        match is_text && is_trimmed && content_type.len() <= MAX_CONTENT_TYPE_BYTES {
            true => Ok(content_type),
            false => Err(BlobError::ContentType(content_type.chars().take(80).collect())),
        }
    }

    /// Returns the time of expiry in whole seconds since 1970, rounded up.
    pub(crate) fn expires_seconds(&self) -> Option<u64> {
        let since = self.expires?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(since.as_secs() + u64::from(since.subsec_nanos() > 0))
    }
}

/// What is known of a blob without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Its length in bytes.
    pub length: u64,
    /// Its media type.
    pub content_type: String,
    /// When it expires.
    pub expires: Option<SystemTime>,
    /// When it was put, by the clock of the store, which may count in seconds.
    pub modified: SystemTime,
    /// A text that is another one whenever the content is, for an ETag: of visible ASCII, without quotes. `None` if the
    /// store has none.
    pub tag: Option<String>,
}

impl Details {
    pub(crate) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= SystemTime::now())
    }
}

/// Returns the time that many seconds after 1970; the end of time if the system cannot represent it.
pub(crate) fn time_at(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// A blob on its way out.
#[derive(Debug)]
pub struct Blob {
    /// What is known of the whole blob.
    pub details: Details,
    /// Which of its bytes are in the body: what was asked for, as far as the blob has them.
    pub range: Range<u64>,
    /// These bytes, as a stream.
    pub body: BlobBody,
}

/// Cuts what was asked for to what there is.
pub(crate) fn cut(range: &impl RangeBounds<u64>, length: u64) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(&first) => first,
        Bound::Excluded(&before) => before.saturating_add(1),
    };
    let end = match range.end_bound() {
        Bound::Unbounded => length,
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
    };
    let end = end.min(length);
    start.min(end)..end
}

/// The content of a blob, read piece by piece as it is polled: at most [`CHUNK_BYTES`](crate::CHUNK_BYTES) at a time
/// from a folder.
///
/// A blob that was replaced or deleted meanwhile is still read to its end. An error ends it: what came before is the
/// start of the blob, no more.
pub struct BlobBody(Pin<Box<dyn Body<Data = Bytes, Error = BlobError> + Send>>);

impl BlobBody {
    pub(crate) fn new(body: impl Body<Data = Bytes, Error = BlobError> + Send + 'static) -> Self {
        BlobBody(Box::pin(body))
    }
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        self.0.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for BlobBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlobBody").field("length", &self.size_hint().exact()).finish()
    }
}

/// A blob in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its length in bytes.
    pub length: u64,
}

/// What one call of [`remove_expired`](crate::Blobs::remove_expired) has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many expired blobs it has removed.
    pub removed: usize,
    /// Whether there is more to look at, for another call.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_blob() {
        for (found, expected) in [
            (cut(&.., 10), 0..10),
            (cut(&(3..), 10), 3..10),
            (cut(&(..3), 10), 0..3),
            (cut(&(2..=5), 10), 2..6),
            (cut(&(2..100), 10), 2..10),
            (cut(&(10..), 10), 10..10),
            (cut(&(100..200), 10), 10..10),
            (cut(&(0..=u64::MAX), 10), 0..10),
            (cut(&.., 0), 0..0),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn content_types_are_one_line() {
        let check = |text: &str| {
            let options = PutOptions { content_type: Some(text.into()), expires: None };
            options.checked_content_type().is_ok()
        };
        assert!(check("text/plain; charset=utf-8"));
        assert!(check(&"x".repeat(255)));
        for refused in ["", " text/plain", "a\nb", "text/ü", &"x".repeat(256)] {
            assert!(!check(refused), "{refused}");
        }
        assert_eq!(PutOptions::default().checked_content_type().unwrap(), DEFAULT_CONTENT_TYPE);
    }

    #[test]
    fn expiry_is_rounded_up_to_a_second() {
        let at = |time| PutOptions { content_type: None, expires: Some(time) }.expires_seconds();
        assert_eq!(at(UNIX_EPOCH + Duration::from_millis(1500)), Some(2));
        assert_eq!(at(UNIX_EPOCH + Duration::from_secs(2)), Some(2));
        assert_eq!(at(UNIX_EPOCH - Duration::from_secs(2)), Some(0));
        assert_eq!(time_at(2), Some(UNIX_EPOCH + Duration::from_secs(2)));
    }
}
