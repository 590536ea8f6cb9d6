//! Connected sockets. The rules of reading and writing are in `source.rs`; this file has the public type with its
//! methods, tokio's traits and hyper's.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Address, socket};
use crate::descriptor_flags::{set_close_on_exec, set_nonblocking};
use crate::source::Descriptor;
use crate::time;

/// A connected unix or TCP socket, non-blocking and close-on-exec.
///
/// Only registered with the poll set once it has to be waited for. `Send` and `Unpin`; registers with the loop of the
/// thread that polls it. Dropping it closes it.
#[derive(Debug)]
pub struct Stream {
    descriptor: Descriptor,
}

impl Stream {
    /// Connects.
    ///
    /// Waits as long as the system does: about two minutes for TCP, and forever for a unix socket whose backlog is
    /// full. Use a [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    ///
    /// Any from `connect(2)`; `InvalidInput` for a path longer than 107 bytes.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let socket = socket::stream_socket(address)?;
        if let Address::Tcp(_) = address {
            socket::set_no_delay(socket.as_fd())?;
        }
        let mut stream = Stream::accepted(socket);
        loop {
            match socket::connect(stream.as_fd(), address) {
                Ok(()) => return Ok(stream),
                // An interrupted connect continues in the background, like one in progress.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) =>
                {
                    stream.descriptor.connect_would_block();
                    poll_fn(|context| stream.descriptor.poll_connected(context)).await?;
                    socket::take_error(stream.as_fd())?;
                    return Ok(stream);
                }
                // The backlog of a unix socket is full, and no event reports when that changes.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time::sleep(CONNECT_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a connected socket; makes it non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// Any from `fcntl(2)`; the descriptor is closed then.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        set_nonblocking(socket.as_fd())?;
        set_close_on_exec(socket.as_fd())?;
        Ok(Stream::accepted(socket))
    }

    /// Creates two streams that are connected to each other (unix sockets).
    ///
    /// # Errors
    ///
    /// If descriptors are short.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        Ok((Stream::accepted(one), Stream::accepted(other)))
    }

    /// Takes a socket that is already non-blocking and close-on-exec.
    pub(crate) fn accepted(socket: OwnedFd) -> Self {
        Stream { descriptor: Descriptor::new(socket) }
    }

    /// Reads into the spare capacity of `buffer`, without zeroing it first, and returns the number of bytes;
    /// `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// Any from `read(2)`; `InvalidInput` if `buffer` has no spare capacity, because an empty read would look like
    /// the end.
    pub fn poll_read_into(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_read_bytes(context, buffer)
    }

    /// Reads into hyper's buffer like its own trait, but returns how many bytes arrived, which the trait does
    /// not.
    ///
    /// # Errors
    ///
    /// Same as [`poll_read_into`](Self::poll_read_into).
    pub fn poll_read_cursor(
        &mut self,
        context: &mut Context<'_>,
        cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_read_cursor(context, cursor)
    }

    /// Reads what has arrived, regardless of the recorded readiness: a last check before closing. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has arrived; otherwise the same as [`poll_read_into`](Self::poll_read_into).
    pub fn read_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.descriptor.read_bytes_now(buffer)
    }

    /// Ready once the peer has closed the connection or stopped writing, even if there are still bytes to read: for
    /// callers that do not want to read now but need to know when the peer is gone.
    ///
    /// Shares the waker of reads: of the two, the one polled last is woken.
    ///
    /// # Errors
    ///
    /// If the socket cannot be watched (no memory).
    pub fn poll_read_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_closed(context)
    }

    /// Writes the start of `slices` and returns the number of bytes written, at least one unless all slices are
    /// empty.
    ///
    /// # Errors
    ///
    /// Any from `write(2)`; `BrokenPipe` if the peer has closed the connection.
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(context, slices)
    }

    /// Shuts down the write direction: the peer reads end-of-file. Does nothing if the connection is already gone.
    ///
    /// # Errors
    ///
    /// Any from `shutdown(2)`, except `NotConnected`.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match socket::shutdown_write(self.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    ///
    /// `NotConnected`, or `Unsupported` for a family other than unix and TCP.
    pub fn peer_address(&self) -> io::Result<Address> {
        socket::peer_address(self.as_fd())
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a family other than unix and TCP.
    pub fn local_address(&self) -> io::Result<Address> {
        socket::local_address(self.as_fd())
    }
}

/// The pause between two attempts to connect to a unix socket whose backlog is full.
const CONNECT_RETRY: Duration = Duration::from_millis(5);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_buf(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_cursor(context, cursor).map_ok(|_| ())
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}
