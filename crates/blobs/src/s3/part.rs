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

/// The size of a part: what a put may hold in memory. S3 wants at least 5 MiB and at most 10,000 parts, so that a blob has
/// at most 78 GiB.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// The body of a request. Clones share the bytes, and are sent from the start.
#[derive(Clone, Default)]
pub(super) struct Part {
    chunks: Arc<[Bytes]>,
    length: u64,
    md5: [u8; 16],
    /// How many chunks have been sent.
    sent: usize,
}

impl Part {
    /// Reads up to [`PART_BYTES`]; less only if the source ends. Copies, because a small frame may keep a large buffer
    /// alive.
    pub(super) async fn read<B: Content>(source: &mut Source<'_, B>) -> Result<Part, BlobError> {
        let (mut chunks, mut chunk) = (Vec::new(), BytesMut::new());
        let (mut length, mut md5) = (0, Md5::new());
        while length < PART_BYTES {
            let room = usize::try_from(PART_BYTES - length).unwrap_or(usize::MAX);
            let Some(mut piece) = source.next(room).await? else { break };
            length += piece.len() as u64;
            md5.update(&piece);
            while !piece.is_empty() {
                if chunk.len() == CHUNK_BYTES {
                    chunks.push(chunk.split().freeze());
                }
                if chunk.is_empty() {
                    chunk = BytesMut::with_capacity(CHUNK_BYTES);
                }
                let fits = piece.split_to(piece.len().min(CHUNK_BYTES - chunk.len()));
                chunk.extend_from_slice(&fits);
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk.freeze());
        }
        Ok(Part { chunks: chunks.into(), length, md5: md5.finalize().into(), sent: 0 })
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
