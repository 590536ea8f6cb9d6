//! Contents: bodies whose every byte is known from its position, and that end well, badly or never.

use std::pin::Pin;
use std::task::{Context, Poll};

use blobs::{Blob, BlobError};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

/// A prime, so that no power of two hides a piece in the wrong place.
const PERIOD: usize = 65_521;

/// How a content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Error,
    Never,
}

/// A content of some length, different for each seed.
pub(crate) struct Content {
    block: Bytes,
    at: u64,
    rest: u64,
    end: End,
}

impl Content {
    pub(crate) fn new(seed: u8, length: u64) -> Self {
        Content { block: block(seed), at: 0, rest: length, end: End::Good }
    }

    /// As much of a longer content, from there on.
    pub(crate) fn from(self, at: u64) -> Self {
        Content { at, ..self }
    }

    pub(crate) fn ending(self, end: End) -> Self {
        Content { end, ..self }
    }
}

fn block(seed: u8) -> Bytes {
    (0..PERIOD).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let start = self.at % PERIOD as u64;
        let size = self.rest.min(PERIOD as u64 - start);
        (self.at, self.rest) = (self.at + size, self.rest - size);
        match (size, self.end) {
            (0, End::Good) => Poll::Ready(None),
            (0, End::Error) => Poll::Ready(Some(Err(std::io::Error::other("the visitor left")))),
            (0, End::Never) => Poll::Pending,
            _ => {
                let (start, size) = (start as usize, size as usize);
                Poll::Ready(Some(Ok(Frame::data(self.block.slice(start..start + size)))))
            }
        }
    }
}

/// Reads a blob to its end, and checks that it is that part of that content.
pub(crate) async fn check(blob: Blob, seed: u8, length: u64) -> Result<(), BlobError> {
    assert_eq!(blob.details.length, length);
    let block = block(seed);
    let mut body = blob.body;
    let mut at = blob.range.start;
    while let Some(frame) = body.frame().await {
        let piece = frame?.into_data().unwrap();
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let expected = &block[(at % PERIOD as u64) as usize..];
            let size = rest.len().min(expected.len());
            assert!(rest[..size] == expected[..size], "wrong bytes at {at}");
            rest = &rest[size..];
            at += size as u64;
        }
    }
    assert_eq!(at, blob.range.end, "it ends too early or too late");
    Ok(())
}

/// Reads a small blob.
pub(crate) async fn text(blob: Option<Blob>) -> String {
    let bytes = blob.expect("there is such a blob").body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
