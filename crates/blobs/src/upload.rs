//! Uploads in parts, which any process that uses the store can continue: begun by one, sent to several, finished by
//! another.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU16;
use std::pin::pin;
use std::str::FromStr;

use bytes::Bytes;
use http_body::Body;

use crate::blob::PutOptions;
use crate::error::BlobError;
use crate::key::Key;
use crate::source::Source;
use crate::{Blobs, Engine};

/// The size of each part of an upload but the last, which may be smaller. S3 wants at least 5 MiB, and a part is held in
/// memory while it is sent there.
pub const PART_BYTES: u64 = 8 << 20;

/// The most parts, as S3 has it: 78 GiB in all.
pub const MAX_PARTS: u16 = 10_000;

/// Names an upload: a text of letters and digits of ASCII, `-` and `_`, for a row of the store or a URL. Only the blob's
/// key and this together give access to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(Box<str>);

/// What S3 may have as an id, and more.
const MAX_ID_BYTES: usize = 2048;

impl UploadId {
    pub(crate) fn new(id: String) -> Self {
        UploadId(id.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(is_allowed) {
            true => Ok(UploadId(text.into())),
            false => Err(UploadIdError),
        }
    }
}

/// The text is not an [`UploadId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadIdError;

impl fmt::Display for UploadIdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("this is not the id of an upload")
    }
}

impl Error for UploadIdError {}

/// Uploads in parts. An upload has to be finished within a day; after that it may be removed.
impl Blobs {
    /// Begins an upload. The blob is there once it is [finished](Self::finish_upload).
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn begin_upload(
        &self,
        key: &Key,
        options: PutOptions,
    ) -> Result<UploadId, BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.begin_upload(&key, &options).await,
            Engine::S3(s3) => s3.begin_upload(&key, &options).await,
        }
    }

    /// Stores a part, in place of one with this number. Parts may come in any order, several at a time. Part 1 is the
    /// beginning; each but the last has [`PART_BYTES`], and none is empty.
    ///
    /// # Errors
    ///
    /// [`BlobError::NoUpload`]; [`BlobError::TooLarge`] if `content` has more than [`PART_BYTES`] or there are too many
    /// parts; [`BlobError::Incomplete`] if it is empty; [`BlobError::Source`] if it ends in an error; any other from
    /// the store. The part is as before then.
    pub async fn put_part<B>(
        &self,
        key: &Key,
        upload: &UploadId,
        number: NonZeroU16,
        content: B,
    ) -> Result<(), BlobError>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        if number.get() > MAX_PARTS {
            return Err(BlobError::TooLarge(u64::from(MAX_PARTS) * PART_BYTES));
        }
        let mut content = pin!(content);
        let mut source = Source::new(content.as_mut()).at_most(PART_BYTES);
        let key = key.within(&self.prefix);
        // S3 takes no empty parts.
        if source.is_over().await? {
            return Err(BlobError::Incomplete { key, part: number.get() });
        }
        match self.engine()? {
            Engine::Folder(folder) => folder.put_part(&key, upload, number, source).await,
            Engine::S3(s3) => s3.put_part(&key, upload, number, source).await,
        }
    }

    /// Makes the parts a blob of `length` bytes, 1 or more, in place of one that has this key. An upload that is finished
    /// already may be finished again, by a client that has not heard of it, as long as the blob is there.
    ///
    /// # Errors
    ///
    /// [`BlobError::NoUpload`]; [`BlobError::Incomplete`], which names a part to be put first; any other from the store.
    pub async fn finish_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        length: u64,
    ) -> Result<(), BlobError> {
        let key = key.within(&self.prefix);
        let sizes = PartSizes::of(length)?;
        match self.engine()? {
            Engine::Folder(folder) => folder.finish_upload(&key, upload, sizes).await,
            Engine::S3(s3) => s3.finish_upload(&key, upload, sizes).await,
        }
    }

    /// Removes the parts of an upload. One that is not there is cancelled already.
    ///
    /// # Errors
    ///
    /// Any from the store.
    pub async fn cancel_upload(&self, key: &Key, upload: &UploadId) -> Result<(), BlobError> {
        let key = key.within(&self.prefix);
        match self.engine()? {
            Engine::Folder(folder) => folder.cancel_upload(&key, upload).await,
            Engine::S3(s3) => s3.cancel_upload(&key, upload).await,
        }
    }
}

/// Which parts a blob of some length has: at least one, and none is empty except of an empty blob, which is not uploaded
/// in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartSizes {
    count: u16,
    last: u64,
}

impl PartSizes {
    fn of(length: u64) -> Result<Self, BlobError> {
        let count = length.div_ceil(PART_BYTES).max(1);
        match u16::try_from(count) {
            Ok(count) if count <= MAX_PARTS => {
                let before = u64::from(count - 1) * PART_BYTES;
                Ok(PartSizes { count, last: length - before })
            }
            _ => Err(BlobError::TooLarge(u64::from(MAX_PARTS) * PART_BYTES)),
        }
    }

    /// Returns the numbers and sizes, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, u64)> {
        (1..=self.count)
            .map(move |part| (part, if part == self.count { self.last } else { PART_BYTES }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_its_parts() {
        let parts = |length| PartSizes::of(length).map(|sizes| sizes.iter().collect::<Vec<_>>());
        for (length, expected) in [
            (0, &[(1, 0)][..]),
            (1, &[(1, 1)]),
            (PART_BYTES, &[(1, PART_BYTES)]),
            (PART_BYTES + 1, &[(1, PART_BYTES), (2, 1)]),
            (2 * PART_BYTES, &[(1, PART_BYTES), (2, PART_BYTES)]),
        ] {
            assert_eq!(parts(length).unwrap(), expected, "{length}");
        }
        let longest = u64::from(MAX_PARTS) * PART_BYTES;
        assert_eq!(parts(longest).unwrap().len(), 10_000);
        for length in [longest + 1, u64::MAX] {
            assert!(matches!(parts(length), Err(BlobError::TooLarge(_))), "{length}");
        }
    }

    #[test]
    fn ids_are_safe_in_paths_and_urls() {
        for id in ["0123456789abcdef", "A-b_C"] {
            assert_eq!(id.parse::<UploadId>().unwrap().as_str(), id);
        }
        for text in ["", "..", "a/b", "a.b", "a%2f", "ä", "a\0", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert_eq!(text.parse::<UploadId>(), Err(UploadIdError), "{text:?}");
        }
    }
}
