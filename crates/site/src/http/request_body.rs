//! Request bodies of any size, a chunk at a time.
//!
//! `multipart.rs` parses forms with files on top of this; what a chunk means is the tool's business.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use http::StatusCode;
use http_body::Body as _;

use super::error::HttpError;

/// How many bytes of a body are handed out in one turn of the loop before other requests are served.
///
/// A client on the same machine can send faster than a tool can work, and then the body is never pending. 1 MiB takes
/// the slowest tool that reads bodies (five digests at once) about 8 ms.
const BYTES_A_TURN: usize = 1024 * 1024;

/// A request body as a stream of chunks: never more than one in memory, and fair to the other requests in the one
/// thread.
///
/// ```
/// # async fn count(body: axum::body::Body) -> Result<usize, site::BodyBroken> {
/// let mut chunks = site::Chunks::new(body);
/// let mut length = 0;
/// while let Some(chunk) = chunks.next().await {
///     length += chunk?.len();
/// }
/// # Ok(length)
/// # }
/// ```
#[derive(Debug)]
pub struct Chunks {
    body: Body,
    bytes_this_turn: usize,
}

impl Chunks {
    /// Takes the body of a request.
    pub fn new(body: Body) -> Self {
        Chunks { body, bytes_this_turn: 0 }
    }

    /// Returns the rest of the body.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// Returns the next chunk, and `None` at the end of the body.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyBroken>> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Reads the whole body into memory, if it has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// 413 that names the limit; 400 if the body broke off.
    pub async fn collect(mut self, limit: usize) -> Result<Vec<u8>, HttpError> {
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit as u64));
        }
        let mut collected = Vec::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if collected.len() + chunk.len() > limit {
                return Err(too_large(limit as u64));
            }
            collected.extend_from_slice(&chunk);
        }
        Ok(collected)
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        if self.bytes_this_turn >= BYTES_A_TURN {
            self.bytes_this_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyBroken(error)))),
                Some(Ok(frame)) => frame,
            };
            // Tools have no use for trailers.
            if let Ok(chunk) = frame.into_data()
                && !chunk.is_empty()
            {
                self.bytes_this_turn += chunk.len();
                return Poll::Ready(Some(Ok(chunk)));
            }
        }
    }
}

impl Stream for Chunks {
    type Item = Result<Bytes, BodyBroken>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(context)
    }
}

/// The body of a request ended early: the client or the connection went away.
#[derive(Debug)]
pub struct BodyBroken(axum::Error);

impl fmt::Display for BodyBroken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the request body broke off: {}", self.0)
    }
}

impl std::error::Error for BodyBroken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<BodyBroken> for HttpError {
    fn from(broken: BodyBroken) -> Self {
        tracing::info!("The request body broke off: {}.", broken.0);
        HttpError::new(StatusCode::BAD_REQUEST)
            .title("Upload incomplete")
            .message("What you sent did not arrive in full. Please send it again.")
    }
}

/// Returns 413 that names the limit.
pub(crate) fn too_large(limit: u64) -> HttpError {
    const MIB: u64 = 1024 * 1024;
    let limit = match limit {
        limit if limit >= MIB && limit % MIB == 0 => format!("{} MiB", limit / MIB),
        limit if limit >= 1024 && limit % 1024 == 0 => format!("{} KiB", limit / 1024),
        limit => format!("{limit} bytes"),
    };
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE)
        .message(format!("What you sent is larger than the limit of {limit}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block_on, body_of_chunks, body_that_breaks_off};

    struct AlwaysReady {
        chunks: usize,
    }

    impl http_body::Body for AlwaysReady {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            const CHUNK: &[u8] = &[0; BYTES_A_TURN / 4];
            let Some(rest) = self.chunks.checked_sub(1) else { return Poll::Ready(None) };
            self.chunks = rest;
            Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(CHUNK)))))
        }
    }

    #[test]
    fn a_body_arrives_chunk_by_chunk() {
        let mut chunks = Chunks::new(body_of_chunks(["ab", "", "c"]));
        let collected = block_on(async {
            let mut collected = Vec::new();
            while let Some(chunk) = chunks.next().await {
                collected.push(chunk.unwrap());
            }
            collected
        });
        assert_eq!(collected, ["ab", "c"]);
    }

    #[test]
    fn a_body_that_is_always_ready_yields_to_others() {
        let mut chunks = Chunks::new(Body::new(AlwaysReady { chunks: 9 }));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut turns = vec![0];
        loop {
            match chunks.poll_chunk(&mut context) {
                Poll::Ready(Some(_)) => *turns.last_mut().unwrap() += 1,
                Poll::Ready(None) => break,
                Poll::Pending => turns.push(0),
            }
        }
        assert_eq!(turns, [4, 4, 1]);
    }

    #[test]
    fn collecting_stops_at_the_limit() {
        let collect = |body, limit| block_on(Chunks::new(body).collect(limit));
        assert_eq!(collect(body_of_chunks(["ab", "cd"]), 4).unwrap(), b"abcd");
        let error = collect(body_of_chunks(["ab", "cd"]), 3).unwrap_err();
        assert_eq!(error.status(), 413);
        // A body of known length is refused before a byte of it is read.
        assert_eq!(collect(Body::from("abcd"), 3).unwrap_err().status(), 413);
        assert_eq!(collect(body_that_breaks_off(["ab"]), 3).unwrap_err().status(), 400);
    }

    #[test]
    fn a_limit_is_named_in_words() {
        for (limit, words) in [(1024 * 1024, "1 MiB"), (64 * 1024, "64 KiB"), (1000, "1000 bytes")]
        {
            assert!(too_large(limit).to_string().contains(words), "{}", too_large(limit));
        }
    }
}
