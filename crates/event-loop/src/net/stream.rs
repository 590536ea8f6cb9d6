//! Connected sockets. The rules of reading and writing are in `source.rs`; here are the faces: our own
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
/// Not in the poll set until it has to be waited for. `Send` and `Unpin`; waits in the loop of the thread
/// that polls it. Dropping it closes it.
#[derive(Debug)]
pub struct Stream {
    descriptor: Descriptor,
}

impl Stream {
    /// Connects.
    ///
    /// Waits as long as the system lets it, for TCP some two minutes, and on a unix socket whose backlog is
    /// full for ever: put it into a [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    ///
    /// What `connect(2)` answers; `InvalidInput` for a path longer than 107 bytes.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let socket = socket::stream_socket(address)?;
        if let Address::Tcp(_) = address {
            socket::set_no_delay(socket.as_fd())?;
        }
        let mut stream = Stream::accepted(socket);
        loop {
            match socket::connect(stream.as_fd(), address) {
                Ok(()) => return Ok(stream),
                // An interrupted connect goes on by itself, as one in progress.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) =>
                {
                    stream.descriptor.connect_would_block();
                    poll_fn(|cx| stream.descriptor.poll_connected(cx)).await?;
                    socket::take_error(stream.as_fd())?;
                    return Ok(stream);
                }
                // A unix socket's backlog is full, and no event will tell when it is not.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time::sleep(CONNECT_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a connected socket; makes it non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// What `fcntl(2)` answers; the descriptor is closed then.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        set_nonblocking(socket.as_fd())?;
        set_close_on_exec(socket.as_fd())?;
        Ok(Stream::accepted(socket))
    }

    /// Makes two streams that are connected to one another (unix sockets).
    ///
    /// # Errors
    ///
    /// When descriptors are short.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        Ok((Stream::accepted(one), Stream::accepted(other)))
    }

    /// Takes a socket that is non-blocking and close-on-exec already.
    pub(crate) fn accepted(socket: OwnedFd) -> Self {
        Stream { descriptor: Descriptor::new(socket) }
    }

    /// Reads into the spare capacity of `buffer` and returns how many bytes came; `Ok(0)` is the end of
    /// the stream. Nothing is zeroed beforehand.
    ///
    /// # Errors
    ///
    /// What `read(2)` answers; `InvalidInput` when `buffer` has no spare capacity, for that could not be
    /// told from the end.
    pub fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_read_bytes(cx, buffer)
    }

    /// Reads into hyper's buffer like its own trait, but returns how many bytes arrived, which the trait does
    /// not.
    ///
    /// # Errors
    ///
    /// As for [`poll_read_into`](Self::poll_read_into).
    pub fn poll_read_cursor(
        &mut self,
        cx: &mut Context<'_>,
        cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_read_cursor(cx, cursor)
    }

    /// Reads what is there now, whatever was heard of it before: a last look before closing. Never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there, else as [`poll_read_into`](Self::poll_read_into).
    pub fn read_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.descriptor.read_bytes_now(buffer)
    }

    /// Ready when the other end has closed or writes no more, though bytes of it may still wait to be read:
    /// for those who do not want to read now and still want to know that nobody is there any more.
    ///
    /// It waits as a read does: of the two, the one polled last is woken.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched (no memory).
    pub fn poll_read_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_closed(cx)
    }

    /// Writes the start of `slices` and returns how many bytes were taken, at least one unless all slices
    /// are empty.
    ///
    /// # Errors
    ///
    /// What `write(2)` answers; `BrokenPipe` when the other end is closed.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(cx, slices)
    }

    /// Tells the other end that nothing more will be written.
    ///
    /// # Errors
    ///
    /// What `shutdown(2)` answers, except that a connection that is gone already is well.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match socket::shutdown_write(self.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    /// Returns the address of the other end.
    ///
    /// # Errors
    ///
    /// `NotConnected`, or `Unsupported` for a family other than unix and TCP.
    pub fn peer_address(&self) -> io::Result<Address> {
        socket::peer_address(self.as_fd())
    }

    /// Returns the address of this end.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a family other than unix and TCP.
    pub fn local_address(&self) -> io::Result<Address> {
        socket::local_address(self.as_fd())
    }
}

/// How long a connect waits for room in a unix socket's backlog before it tries again.
const CONNECT_AGAIN: Duration = Duration::from_millis(5);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_buf(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(cx, slices)
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
        cx: &mut Context<'_>,
        cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_cursor(cx, cursor).map_ok(|_| ())
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.descriptor.poll_write(cx, slices)
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
