//! Reading the content that is to be put, in pieces of bounded size and without keeping the loop to itself.

use std::error::Error;
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;

use crate::CHUNK_BYTES;
use crate::error::BlobError;

/// What can be put: a body of bytes.
pub(crate) trait Content:
    Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
{
}

impl<B> Content for B where B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> {}

/// The content of a blob on its way in.
pub(crate) struct Source<'a, B> {
    body: Pin<&'a mut B>,
    /// The rest of a frame that is longer than a piece.
    rest: Bytes,
    /// How many bytes were taken since other tasks could run.
    since_pause: usize,
    /// How many bytes were taken in all, and how many may be.
    taken: u64,
    max: u64,
}

impl<'a, B: Content> Source<'a, B> {
    pub(crate) fn new(body: Pin<&'a mut B>) -> Self {
        Source { body, rest: Bytes::new(), since_pause: 0, taken: 0, max: u64::MAX }
    }

    /// Refuses more than so many bytes.
    pub(crate) fn at_most(self, max: u64) -> Self {
        Source { max, ..self }
    }

    /// Waits for the next byte; returns whether there is none.
    pub(crate) async fn is_over(&mut self) -> Result<bool, BlobError> {
        while self.rest.is_empty() {
            match self.body.as_mut().frame().await {
                None => return Ok(true),
                Some(Err(error)) => return Err(BlobError::Source(error.into())),
                // Trailers have no meaning here.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        Ok(false)
    }

    /// Returns the next piece, 1 to `max` and at most [`CHUNK_BYTES`] long; `None` at the end. Lets other tasks run once
    /// per [`CHUNK_BYTES`].
    pub(crate) async fn next(&mut self, max: usize) -> Result<Option<Bytes>, BlobError> {
        if self.since_pause >= CHUNK_BYTES {
            self.since_pause = 0;
            event_loop::yield_now().await;
        }
        if self.is_over().await? {
            return Ok(None);
        }
        let piece = self.rest.split_to(self.rest.len().min(CHUNK_BYTES).min(max));
        self.since_pause += piece.len();
        self.taken += piece.len() as u64;
        if self.taken > self.max {
            return Err(BlobError::TooLarge(self.max));
        }
        Ok(Some(piece))
    }
}
