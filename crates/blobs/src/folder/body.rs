//! The content of a file as a body, read in pieces of bounded size.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ring::digest;

use super::footer::Checksum;
use crate::CHUNK_BYTES;
use crate::error::BlobError;
use crate::key::Key;

/// Reads a range of a file. The file is open, so replacing or deleting it changes nothing.
pub(super) struct FileBody {
    file: File,
    key: Key,
    rest: Range<u64>,
    /// Of a blob that is read whole: the checksum so far, and what it should become.
    checksum: Option<(digest::Context, Checksum)>,
    /// Whether other tasks could run since the last piece.
    has_paused: bool,
}

impl FileBody {
    pub(super) fn new(
        file: File,
        key: &Key,
        range: Range<u64>,
        checksum: Option<Checksum>,
    ) -> Self {
        let checksum = checksum.map(|expected| (digest::Context::new(&digest::SHA256), expected));
        FileBody { file, key: key.clone(), rest: range, checksum, has_paused: true }
    }

    /// Reads the next piece; the last one of a whole blob only if the checksum is right.
    fn read(&mut self) -> Result<Bytes, BlobError> {
        let damaged = || BlobError::Damaged(self.key.clone());
        let size = (self.rest.end - self.rest.start).min(CHUNK_BYTES as u64);
        // At most CHUNK_BYTES.
        let mut piece = vec![0; size as usize];
        match self.file.read_exact_at(&mut piece, self.rest.start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            Err(error) => return Err(BlobError::Read { key: self.key.clone(), error }),
            Ok(()) => self.rest.start += size,
        }
        if let Some((checksum, expected)) = &mut self.checksum {
            checksum.update(&piece);
            let is_last = self.rest.is_empty();
            if is_last && checksum.clone().finish().as_ref() != expected {
                return Err(damaged());
            }
        }
        Ok(piece.into())
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut this.has_paused, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.has_paused = false;
        let piece = this.read();
        if piece.is_err() {
            // Nothing comes after an error.
            this.rest.start = this.rest.end;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}
