//! The socket as hyper sees it: what is written has to be read by the peer in time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use event_loop::net::Stream;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::watched::WatchedConnection;
use crate::request::patience::Patience;
use crate::settings::Settings;

/// Notifies the crash guard that the socket is about to be closed.
struct Leaving(Rc<WatchedConnection>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.unregister();
    }
}

/// A stream whose peer has to read what is written in time.
pub(super) struct PatientStream {
    // Declared before the stream: fields are dropped in declaration order.
    _leaving: Leaving,
    pub(super) watched: Rc<WatchedConnection>,
    stream: Stream,
    patience: Patience,
    /// Bytes read earlier, to be returned first.
    pub(super) first: Bytes,
}

impl PatientStream {
    pub(super) fn new(stream: Stream, first: Bytes, settings: &Settings) -> Self {
        let watched = Rc::new(WatchedConnection::new(&stream));
        PatientStream {
            _leaving: Leaving(watched.clone()),
            watched,
            stream,
            patience: Patience::new(settings.send_timeout, settings.min_rate),
            first,
        }
    }

    /// Gives the socket back, without the crash guard's registration.
    pub(super) fn into_socket(self) -> Stream {
        drop(self._leaving);
        self.stream
    }

    fn patiently(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(Pin::new(&mut self.stream), context);
        self.watched.wrote(offered, &written);
        match written {
            Poll::Ready(written) => {
                self.patience.progress(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending if self.patience.poll_over(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            self.watched.received(count);
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.stream.poll_read_cursor(context, buffer))?;
        self.watched.received(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.patiently(context, data.len(), |stream, context| {
            Write::poll_write(stream, context, data)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        self.patiently(context, offered, |stream, context| {
            Write::poll_write_vectored(stream, context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched.flushed();
        Write::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watched.stays_open.get() {
            return Poll::Ready(Ok(()));
        }
        Write::poll_shutdown(Pin::new(&mut self.stream), context)
    }
}
