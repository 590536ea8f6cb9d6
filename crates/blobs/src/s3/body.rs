//! The body of a GET as the content of a blob.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use event_loop::time::{self, Sleep};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use md5::{Digest, Md5};

use super::client::Reply;
use super::pool::{Lease, problem_of};
use crate::error::BlobError;
use crate::key::Key;

/// Reads a response to its end. Dropped before, it closes the connection.
pub(super) struct ReplyBody {
    body: Incoming,
    /// `None` once the response has ended.
    lease: Option<Lease>,
    key: Key,
    left: u64,
    /// Of a blob that was put as a whole and is read as a whole: the checksum so far, and what it should become.
    checksum: Option<(Md5, [u8; 16])>,
    /// How long the next piece may take once it is waited for.
    timeout: Duration,
    /// When that is over, while it is waited for.
    deadline: Option<Sleep>,
}

impl ReplyBody {
    pub(super) fn new(reply: Reply, key: &Key, length: u64, checksum: Option<[u8; 16]>) -> Self {
        let mut lease = Some(reply.lease);
        if length == 0
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
        ReplyBody {
            body: reply.body,
            lease,
            key: key.clone(),
            left: length,
            checksum: checksum.map(|expected| (Md5::new(), expected)),
            timeout: reply.timeout,
            deadline: None,
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BlobError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let deadline = self.deadline.get_or_insert_with(|| time::sleep(self.timeout));
            ready!(Pin::new(deadline).poll(context));
            let seconds = self.timeout.as_secs_f32();
            return Poll::Ready(Some(Err(self.cut(format!("nothing came for {seconds} s")))));
        };
        // Whoever reads may take any time between two pieces.
        self.deadline = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.check(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Some(Err(self.cut(problem_of(&error)))),
            None if self.left > 0 => Some(Err(self.cut("the response is too short".to_owned()))),
            None => None,
        })
    }

    /// Checks a piece; the last one of a whole blob only passes if the checksum is right.
    fn check(&mut self, piece: Bytes) -> Result<Bytes, BlobError> {
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return Err(self.cut("the response is too long".to_owned()));
        };
        self.left = left;
        if let Some((checksum, expected)) = &mut self.checksum {
            checksum.update(&piece);
            if left == 0 && checksum.finalize_reset() != *expected {
                return Err(BlobError::Damaged(self.key.clone()));
            }
        }
        Ok(piece)
    }

    fn cut(&self, problem: String) -> BlobError {
        BlobError::Cut { key: self.key.clone(), problem }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let this = self.get_mut();
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        let piece = ready!(this.poll_piece(context));
        if !matches!(piece, Some(Ok(_))) {
            // Nothing comes after an error, and the connection is closed.
            this.lease = None;
        } else if this.left == 0
            && let Some(lease) = this.lease.take()
        {
            lease.give_back();
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
