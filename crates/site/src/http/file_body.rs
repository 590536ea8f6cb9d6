//! The content of a file as a response body, read in pieces of bounded size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much is read at a time, in bytes.
const PIECE: u64 = 64 * 1024;

/// Reads a file as long as it was in the beginning. It is open, so replacing or deleting it changes nothing.
pub(crate) struct FileBody {
    file: File,
    at: u64,
    length: u64,
    /// Whether other tasks could run since the last piece.
    has_paused: bool,
}

impl FileBody {
    /// # Errors
    ///
    /// If the system does not tell how long it is.
    pub(crate) fn of(file: File) -> io::Result<FileBody> {
        let length = file.metadata()?.len();
        Ok(FileBody { file, at: 0, length, has_paused: true })
    }

    fn left(&self) -> u64 {
        self.length - self.at
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.has_paused, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_paused = false;
        let size = self.left().min(PIECE);
        // At most PIECE.
        let mut piece = vec![0; size as usize];
        if let Err(error) = self.file.read_exact_at(&mut piece, self.at) {
            // Nothing comes after an error.
            self.at = self.length;
            return Poll::Ready(Some(Err(error)));
        }
        self.at += size;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
