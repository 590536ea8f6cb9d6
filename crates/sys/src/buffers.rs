//! `read(2)` into the uninitialized spare capacity of other libraries' buffers.

use std::io;
use std::os::fd::BorrowedFd;

use bytes::BytesMut;

/// Reads into the spare capacity and extends `buffer` by what was read. Returns the number of bytes; 0 at the end.
pub fn read_into_bytes(fd: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let (read, _) = rustix::io::read(fd, buffer.spare_capacity_mut())?;
    let read = read.len();
    // SAFETY: the kernel has initialized `read` bytes right after the current length, within capacity.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// Reads into the unfilled part and advances `buffer` by what was read. Returns the number of bytes; 0 at the end.
pub fn read_into_read_buf(
    fd: BorrowedFd<'_>,
    buffer: &mut tokio::io::ReadBuf<'_>,
) -> io::Result<usize> {
    // SAFETY: no byte is de-initialized: the kernel only writes some.
    let (read, _) = rustix::io::read(fd, unsafe { buffer.unfilled_mut() })?;
    let read = read.len();
    // SAFETY: the first `read` bytes of the unfilled part have just been written by the kernel.
    unsafe { buffer.assume_init(read) };
    buffer.advance(read);
    Ok(read)
}

/// Reads into the cursor and advances it by what was read. Returns the number of bytes; 0 at the end.
pub fn read_into_cursor(
    fd: BorrowedFd<'_>,
    cursor: &mut hyper::rt::ReadBufCursor<'_>,
) -> io::Result<usize> {
    // SAFETY: no byte is de-initialized: the kernel only writes some.
    let (read, _) = rustix::io::read(fd, unsafe { cursor.as_mut() })?;
    let read = read.len();
    // SAFETY: the first `read` bytes of the cursor have just been written by the kernel.
    unsafe { cursor.advance(read) };
    Ok(read)
}
