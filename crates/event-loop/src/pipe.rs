//! Pipes: one-way byte streams within the process, to children, and on inherited descriptors.
//!
//! The rules of reading and writing are in `source.rs`; this file has the public types.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::descriptor_flags::{set_close_on_exec, set_nonblocking};
use crate::source::Descriptor;

/// Creates a pipe with both ends non-blocking and close-on-exec. It holds 64 KiB on Linux.
///
/// # Errors
///
/// If descriptors are short.
pub fn pipe() -> io::Result<(Reader, Writer)> {
    let (reader, writer) = ends()?;
    Ok((
        Reader { descriptor: Descriptor::new(reader) },
        Writer { descriptor: Some(Descriptor::new(writer)) },
    ))
}

/// Same as [`pipe()`], but returns descriptors: (read end, write end). For passing one to a child;
/// [`Reader::from_fd`] and [`Writer::from_fd`] take the other.
///
/// # Errors
///
/// If descriptors are short.
pub fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// The read end of a pipe. `Send` and `Unpin`; dropping it closes it.
#[derive(Debug)]
pub struct Reader {
    descriptor: Descriptor,
}

/// The write end of a pipe. `Send` and `Unpin`; dropping it closes it, and the reader then gets end-of-file.
#[derive(Debug)]
pub struct Writer {
    /// `None` after a shutdown.
    descriptor: Option<Descriptor>,
}

impl Reader {
    /// Takes a readable descriptor: a pipe, a terminal, a regular file. Makes it non-blocking (for all processes that
    /// share the open file) and close-on-exec.
    ///
    /// Regular files are always ready: reading them may block on the disk.
    ///
    /// # Errors
    ///
    /// Any from `fcntl(2)`; the descriptor is closed then.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let (fd, kind) = prepare(fd)?;
        Ok(Reader {
            descriptor: if kind.is_fifo() || kind.is_socket() {
                Descriptor::new(fd)
            } else {
                Descriptor::with_short_reads(fd)
            },
        })
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

    /// Ready once the write end is closed, even if there are still bytes to read. Never ready for what the kernel
    /// cannot watch (a regular file).
    ///
    /// Shares the waker of reads: of the two, the one polled last is woken.
    ///
    /// # Errors
    ///
    /// If the pipe cannot be watched (no memory).
    pub fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_closed(context)
    }
}

impl Writer {
    /// Takes a writable descriptor: a pipe, a terminal, a regular file. Makes it non-blocking (for all processes that
    /// share the open file) and close-on-exec.
    ///
    /// Regular files are always ready: writing them may block on the disk.
    ///
    /// # Errors
    ///
    /// Any from `fcntl(2)`; the descriptor is closed then.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let (fd, _) = prepare(fd)?;
        Ok(Writer { descriptor: Some(Descriptor::new(fd)) })
    }

    /// Writes the start of `slices` and returns the number of bytes written, at least one unless all slices are
    /// empty.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the read end is closed, or after a shutdown.
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.descriptor {
            Some(descriptor) => descriptor.poll_write(context, slices),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

/// Makes a descriptor non-blocking and close-on-exec, and returns its file type.
fn prepare(fd: OwnedFd) -> io::Result<(OwnedFd, std::fs::FileType)> {
    set_nonblocking(fd.as_fd())?;
    set_close_on_exec(fd.as_fd())?;
    let file = File::from(fd);
    let kind = file.metadata()?.file_type();
    Ok((file.into(), kind))
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_buf(context, buffer)
    }
}

impl hyper::rt::Read for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.descriptor.poll_read_cursor(context, cursor).map_ok(|_| ())
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Writer::poll_write_vectored(&mut self, context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Writer::poll_write_vectored(&mut self, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes the pipe, which is the only way to signal end-of-file.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.descriptor = None;
        Poll::Ready(Ok(()))
    }
}
