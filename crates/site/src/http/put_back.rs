//! A body whose first frame has been read and is handed out again.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Returns a body that starts with what was read of it.
pub(crate) fn put_back(first: Result<Frame<Bytes>, axum::Error>, rest: Body) -> Body {
    Body::new(PutBack { first: Some(first), rest })
}

struct PutBack {
    first: Option<Result<Frame<Bytes>, axum::Error>>,
    rest: Body,
}

impl HttpBody for PutBack {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let first = first.and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_body::Chunks;
    use crate::testing::{block_on, body_that_breaks_off};

    fn frame(text: &'static str) -> Result<Frame<Bytes>, axum::Error> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn the_body_is_complete_and_keeps_its_length() {
        let body = put_back(frame("ab"), Body::from("cd"));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(block_on(Chunks::new(body).collect(4)).unwrap(), b"abcd");
        let body = put_back(frame("ab"), body_that_breaks_off(["cd"]));
        assert!(block_on(Chunks::new(body).collect(9)).is_err());
    }
}
