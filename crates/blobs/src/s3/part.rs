//! What one request carries: at most a part of a multipart upload, in memory, so that it can be sent again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest, Md5};

use crate::CHUNK_BYTES;
use crate::error::BlobError;
use crate::source::{Content, Source};
use crate::upload::PART_BYTES;

/// The body of a request. Clones share the bytes, and are sent from the start.
#[derive(Clone, Default)]
pub(super) struct Part {
    chunks: Arc<[Bytes]>,
    length: u64,
    md5: [u8; 16],
    /// How many chunks have been sent.
    sent: usize,
}

/// A part that is being read.
#[derive(Default)]
pub(super) struct Filling {
    chunks: Vec<Bytes>,
    /// At most [`CHUNK_BYTES`].
    chunk: BytesMut,
    length: u64,
    md5: Md5,
}

impl Filling {
    /// Reads until it has `max` bytes, at most [`PART_BYTES`]; returns whether it has, or else the source has ended.
    /// Copies, because a small frame may keep a large buffer alive.
    pub(super) async fn fill<B: Content>(
        &mut self,
        source: &mut Source<'_, B>,
        max: u64,
    ) -> Result<bool, BlobError> {
        while self.length < max {
            let room = usize::try_from(max - self.length).unwrap_or(usize::MAX);
            let Some(mut piece) = source.next(room).await? else { return Ok(false) };
            self.length += piece.len() as u64;
            self.md5.update(&piece);
            while !piece.is_empty() {
                if self.chunk.len() == CHUNK_BYTES {
                    self.chunks.push(self.chunk.split().freeze());
                }
                if self.chunk.is_empty() {
                    self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
                }
                let fits = piece.split_to(piece.len().min(CHUNK_BYTES - self.chunk.len()));
                self.chunk.extend_from_slice(&fits);
            }
        }
        Ok(true)
    }

    pub(super) fn finish(mut self) -> Part {
        if !self.chunk.is_empty() {
            self.chunks.push(self.chunk.freeze());
        }
        let (chunks, md5) = (self.chunks.into(), self.md5.finalize().into());
        Part { chunks, length: self.length, md5, sent: 0 }
    }
}

impl Part {
    /// Reads up to [`PART_BYTES`]; less only if the source ends.
    pub(super) async fn read<B: Content>(source: &mut Source<'_, B>) -> Result<Part, BlobError> {
        let mut part = Filling::default();
        part.fill(source, PART_BYTES).await?;
        Ok(part.finish())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn md5(&self) -> [u8; 16] {
        self.md5
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        let (length, md5) = (text.len() as u64, Md5::digest(&text).into());
        Part { chunks: [Bytes::from(text)].into(), length, md5, sent: 0 }
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.chunks.get(self.sent).cloned();
        self.sent += 1;
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent >= self.chunks.len()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.chunks.iter().skip(self.sent).map(|chunk| chunk.len() as u64).sum();
        SizeHint::with_exact(left)
    }
}
