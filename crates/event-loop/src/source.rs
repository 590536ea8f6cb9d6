//! A descriptor that is read and written, and the rules when to make which system call.
//!
//! * It is not in the poll set until a read or write would block, or a read was short and more is wanted: a
//!   connection whose request has arrived completely is never registered.
//! * After a short read the next one would block, so it is not tried before the next event, unless the last event
//!   reported that the peer has stopped writing.
//! * Write readiness is requested only after a write would block, and no longer once an event arrives that no writer
//!   waits for (in `reactor.rs`).
//! * A task whose sockets are always ready lets others run after a number of reads and writes (`operations.rs`).
//!
//! `net/stream.rs` and `pipe.rs` have the public types on top of this; `reactor.rs` keeps the readiness.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use sys::buffers::{read_into_bytes, read_into_cursor, read_into_read_buf};

use crate::counters::count;
use crate::loop_id::LoopId;
use crate::loop_state::{no_loop, with_current, with_loop};
use crate::operations::poll_operation;
use crate::reactor::Direction;
use crate::table::Key;

/// An open, non-blocking descriptor and its registration in the poll set. `Send`, because that is an id, not a
/// pointer.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: OwnedFd,
    watch: Watch,
    /// Whether a short read means that nothing is left. Not for terminals, which return one line at a time.
    short_read_is_last: bool,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    /// Not in the poll set, or in that of a loop that has ended.
    Unregistered { read_blocked: bool, write_blocked: bool },
    /// In the poll set of this loop.
    Registered(LoopId, Key),
    /// The kernel cannot watch it, such as a regular file, which is always ready.
    Unsupported,
}

const FRESH: Watch = Watch::Unregistered { read_blocked: false, write_blocked: false };

impl Descriptor {
    /// Takes a descriptor, which must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Descriptor { fd, watch: FRESH, short_read_is_last: true }
    }

    /// Same as [`new`](Self::new), for files where more data may be left after a short read.
    pub(crate) fn with_short_reads(fd: OwnedFd) -> Self {
        Descriptor { fd, watch: FRESH, short_read_is_last: false }
    }

    /// Reads into the spare capacity of `buffer`.
    pub(crate) fn poll_read_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let room = buffer.capacity() - buffer.len();
        if room == 0 {
            return Poll::Ready(Err(full_buffer()));
        }
        self.poll_read(context, room, |fd| read_into_bytes(fd, buffer))
    }

    /// Reads into the spare capacity of `buffer` without checking the recorded readiness.
    pub(crate) fn read_bytes_now(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if buffer.capacity() == buffer.len() {
            return Err(full_buffer());
        }
        loop {
            count(|counters| &counters.reads);
            match read_into_bytes(self.fd.as_fd(), buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Waits until the peer has stopped writing.
    pub(crate) fn poll_read_closed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.watch {
                // Without the poll set, only a read finds out.
                Watch::Unsupported => return Poll::Pending,
                Watch::Unregistered { read_blocked, write_blocked } => {
                    self.register(read_blocked, write_blocked)?;
                }
                Watch::Registered(owner, key) => {
                    let closed = with_loop(owner, |state| {
                        let closed = state.reactor.read_is_closed(key);
                        if closed == Some(false) {
                            state.reactor.wait_edge(key, Direction::Read, context.waker());
                        }
                        closed
                    });
                    match closed.flatten() {
                        Some(true) => return Poll::Ready(Ok(())),
                        Some(false) => return Poll::Pending,
                        // The loop that watched it is not this thread's.
                        None => self.watch = FRESH,
                    }
                }
            }
        }
    }

    /// Reads into the unfilled part of tokio's buffer.
    pub(crate) fn poll_read_buf(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        self.poll_read(context, room, |fd| read_into_read_buf(fd, buffer)).map_ok(|_| ())
    }

    /// Reads into the unfilled part of hyper's buffer.
    pub(crate) fn poll_read_cursor(
        &mut self,
        context: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = cursor.remaining();
        self.poll_read(context, room, |fd| read_into_cursor(fd, &mut cursor))
    }

    /// Writes the start of `slices`; returns the number of bytes written.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(poll_operation(context));
        loop {
            ready!(self.poll_ready(context, Direction::Write))?;
            count(|counters| &counters.writes);
            match write_slices(self.fd.as_fd(), slices) {
                Ok(written) => {
                    if written < total && slices.len() <= libc::UIO_MAXIOV as usize {
                        self.record_blocked(Direction::Write);
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) => self.after_error(error, Direction::Write)?,
            }
        }
    }

    /// Waits until the descriptor is writable for the first time: the end of a connect.
    pub(crate) fn poll_connected(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(context, Direction::Write)
    }

    /// Records that a connect is in progress, as if a write had blocked.
    pub(crate) fn connect_would_block(&mut self) {
        self.record_blocked(Direction::Write);
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(poll_operation(context));
        loop {
            ready!(self.poll_ready(context, Direction::Read))?;
            count(|counters| &counters.reads);
            match read(self.fd.as_fd()) {
                Ok(count) => {
                    if 0 < count && count < room && self.short_read_is_last {
                        self.record_short_read();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => self.after_error(error, Direction::Read)?,
            }
        }
    }

    /// Handles the error of a read or write; `Ok` to try again (and wait, if it would block).
    fn after_error(&mut self, error: io::Error, direction: Direction) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            // What cannot be watched cannot be waited for.
            io::ErrorKind::WouldBlock if !matches!(self.watch, Watch::Unsupported) => {
                count(|counters| match direction {
                    Direction::Read => &counters.blocked_reads,
                    Direction::Write => &counters.blocked_writes,
                });
                self.record_blocked(direction);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Waits until a read or write is worth trying.
    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.watch {
                Watch::Unsupported => return Poll::Ready(Ok(())),
                Watch::Unregistered { read_blocked, write_blocked } => {
                    let blocked = match direction {
                        Direction::Read => read_blocked,
                        Direction::Write => write_blocked,
                    };
                    if !blocked {
                        return Poll::Ready(Ok(()));
                    }
                    self.register(read_blocked, write_blocked)?;
                }
                Watch::Registered(owner, key) => {
                    let may_try = with_loop(owner, |state| {
                        let may_try = state.reactor.may_try(key, direction);
                        if may_try == Some(false) {
                            state.reactor.wait_edge(key, direction, context.waker());
                        }
                        may_try
                    });
                    match may_try.flatten() {
                        Some(true) => return Poll::Ready(Ok(())),
                        Some(false) => return Poll::Pending,
                        // The loop that watched it is not this thread's. Try, and register with this one.
                        None => self.watch = FRESH,
                    }
                }
            }
        }
    }

    fn register(&mut self, read_blocked: bool, write_blocked: bool) -> io::Result<()> {
        let registered = with_current(|state| {
            let key = state.reactor.add_edge(self.fd.as_raw_fd(), !read_blocked, write_blocked)?;
            Ok(Watch::Registered(state.id, key))
        });
        self.watch = match registered.unwrap_or_else(|| Err(no_loop())) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Watch::Unsupported,
            other => other?,
        };
        Ok(())
    }

    /// Records that a read or write would block.
    fn record_blocked(&mut self, direction: Direction) {
        match &mut self.watch {
            Watch::Unsupported => {}
            Watch::Unregistered { read_blocked, write_blocked } => match direction {
                Direction::Read => *read_blocked = true,
                Direction::Write => *write_blocked = true,
            },
            Watch::Registered(owner, key) => {
                with_loop(*owner, |state| match direction {
                    Direction::Read => state.reactor.read_would_block(*key),
                    Direction::Write => state.reactor.write_would_block(*key),
                });
            }
        }
    }

    /// Records that a read did not fill its buffer.
    fn record_short_read(&mut self) {
        match &mut self.watch {
            Watch::Unsupported => {}
            Watch::Unregistered { read_blocked, .. } => *read_blocked = true,
            Watch::Registered(owner, key) => {
                with_loop(*owner, |state| state.reactor.read_was_short(*key));
            }
        }
    }
}

/// `write(2)` for one slice, `writev(2)` for more; slices beyond the system's limit of 1,024 are left for the next
/// call.
fn write_slices(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(match slices {
        [one] => rustix::io::write(fd, one)?,
        many => rustix::io::writev(fd, many)?,
    })
}

/// The error for a full buffer: an empty read would look like the end of the stream.
fn full_buffer() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the read buffer is full; reserve() some capacity first",
    )
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Watch::Registered(owner, key) = self.watch {
            with_loop(owner, |state| state.reactor.remove(key));
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
