//! A descriptor that is read and written, and the rules when to ask the kernel what.
//!
//! * Not in the poll set until a read or write said "would block", or a read came back short and more is
//!   wanted: a connection whose request is wholly there never enters it.
//! * After a short read the next one would block; it is not tried before the next event. The exception:
//!   the last event said that the other end writes no more.
//! * Interest in writing is asked for only after a write would block, and taken back when an event comes
//!   that no writer waits for (in `reactor.rs`).
//! * A task that finds its sockets always ready lets others run after a number of reads and
//!   writes (`operations.rs`).
//!
//! `net/stream.rs` and `pipe.rs` put their faces in front of this; readiness is kept by `reactor.rs`.

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

/// An open, non-blocking descriptor and its place in the poll set. `Send`: an id, no pointer.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: OwnedFd,
    place: Place,
    /// A short read means that nothing is left. Not so for terminals, which hand out line by line.
    short_reads_tell: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not in the poll set, or in that of a loop that has ended.
    Outside { read_blocked: bool, write_blocked: bool },
    /// In the poll set of this loop.
    Watched(LoopId, Key),
    /// The kernel refuses to watch it: a regular file, say, which is always ready.
    Unwatchable,
}

const FRESH: Place = Place::Outside { read_blocked: false, write_blocked: false };

impl Descriptor {
    /// Takes a descriptor that is non-blocking already.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Descriptor { fd, place: FRESH, short_reads_tell: true }
    }

    /// As [`new`](Self::new), for files where a short read says nothing about what is left.
    pub(crate) fn with_short_reads(fd: OwnedFd) -> Self {
        Descriptor { fd, place: FRESH, short_reads_tell: false }
    }

    /// Reads into the spare capacity of `buffer`.
    pub(crate) fn poll_read_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let room = buffer.capacity() - buffer.len();
        if room == 0 {
            return Poll::Ready(Err(full_buffer()));
        }
        self.poll_read(cx, room, |fd| read_into_bytes(fd, buffer))
    }

    /// Reads into the spare capacity of `buffer`, whatever is known of the descriptor's readiness.
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

    /// Waits until the other end writes no more.
    pub(crate) fn poll_read_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.place {
                // Without a poll set nobody tells; a read will.
                Place::Unwatchable => return Poll::Pending,
                Place::Outside { read_blocked, write_blocked } => {
                    self.enter(read_blocked, write_blocked)?;
                }
                Place::Watched(owner, key) => {
                    let closed = with_loop(owner, |state| {
                        let closed = state.reactor.read_is_closed(key);
                        if closed == Some(false) {
                            state.reactor.wait(key, Direction::Read, cx.waker());
                        }
                        closed
                    });
                    match closed.flatten() {
                        Some(true) => return Poll::Ready(Ok(())),
                        Some(false) => return Poll::Pending,
                        // The loop that watched it is not this thread's.
                        None => self.place = FRESH,
                    }
                }
            }
        }
    }

    /// Reads into what is unfilled of tokio's buffer.
    pub(crate) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        self.poll_read(cx, room, |fd| read_into_read_buf(fd, buffer)).map_ok(|_| ())
    }

    /// Reads into what is unfilled of hyper's buffer.
    pub(crate) fn poll_read_cursor(
        &mut self,
        cx: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = cursor.remaining();
        self.poll_read(cx, room, |fd| read_into_cursor(fd, &mut cursor))
    }

    /// Writes the start of `slices`; returns how many bytes were taken.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(poll_operation(cx));
        loop {
            ready!(self.poll_ready(cx, Direction::Write))?;
            count(|counters| &counters.writes);
            match write_slices(self.fd.as_fd(), slices) {
                Ok(written) => {
                    if written < total && slices.len() <= libc::UIO_MAXIOV as usize {
                        self.note(Direction::Write);
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) => self.after_error(error, Direction::Write)?,
            }
        }
    }

    /// Waits until the descriptor is writable for the first time: the end of a connect.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(cx, Direction::Write)
    }

    /// Notes that a connect is under way, as if a write had blocked.
    pub(crate) fn connect_would_block(&mut self) {
        self.note(Direction::Write);
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(poll_operation(cx));
        loop {
            ready!(self.poll_ready(cx, Direction::Read))?;
            count(|counters| &counters.reads);
            match read(self.fd.as_fd()) {
                Ok(got) => {
                    if 0 < got && got < room && self.short_reads_tell {
                        self.note_short_read();
                    }
                    return Poll::Ready(Ok(got));
                }
                Err(error) => self.after_error(error, Direction::Read)?,
            }
        }
    }

    /// Decides after a failed read or write: `Ok` to go on (and wait, when it would block).
    fn after_error(&mut self, error: io::Error, direction: Direction) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            // Who is always ready and says otherwise cannot be waited for.
            io::ErrorKind::WouldBlock if !matches!(self.place, Place::Unwatchable) => {
                count(|counters| match direction {
                    Direction::Read => &counters.reads_in_vain,
                    Direction::Write => &counters.writes_in_vain,
                });
                self.note(direction);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Waits until a read or write is worth trying.
    fn poll_ready(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        loop {
            match self.place {
                Place::Unwatchable => return Poll::Ready(Ok(())),
                Place::Outside { read_blocked, write_blocked } => {
                    let blocked = match direction {
                        Direction::Read => read_blocked,
                        Direction::Write => write_blocked,
                    };
                    if !blocked {
                        return Poll::Ready(Ok(()));
                    }
                    self.enter(read_blocked, write_blocked)?;
                }
                Place::Watched(owner, key) => {
                    let may_try = with_loop(owner, |state| {
                        let may_try = state.reactor.may_try(key, direction);
                        if may_try == Some(false) {
                            state.reactor.wait(key, direction, cx.waker());
                        }
                        may_try
                    });
                    match may_try.flatten() {
                        Some(true) => return Poll::Ready(Ok(())),
                        Some(false) => return Poll::Pending,
                        // The loop that watched it is not this thread's. Try, and enter this one's.
                        None => self.place = FRESH,
                    }
                }
            }
        }
    }

    fn enter(&mut self, read_blocked: bool, write_blocked: bool) -> io::Result<()> {
        let entered = with_current(|state| {
            let key = state.reactor.add_edge(self.fd.as_raw_fd(), !read_blocked, write_blocked)?;
            Ok(Place::Watched(state.id, key))
        });
        self.place = match entered.unwrap_or_else(|| Err(no_loop())) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Place::Unwatchable,
            other => other?,
        };
        Ok(())
    }

    /// Notes that a read or write would block.
    fn note(&mut self, direction: Direction) {
        match &mut self.place {
            Place::Unwatchable => {}
            Place::Outside { read_blocked, write_blocked } => match direction {
                Direction::Read => *read_blocked = true,
                Direction::Write => *write_blocked = true,
            },
            Place::Watched(owner, key) => {
                with_loop(*owner, |state| match direction {
                    Direction::Read => state.reactor.read_would_block(*key),
                    Direction::Write => state.reactor.write_would_block(*key),
                });
            }
        }
    }

    /// Notes that a read brought less than there was room for.
    fn note_short_read(&mut self) {
        match &mut self.place {
            Place::Unwatchable => {}
            Place::Outside { read_blocked, .. } => *read_blocked = true,
            Place::Watched(owner, key) => {
                with_loop(*owner, |state| state.reactor.read_was_short(*key));
            }
        }
    }
}

/// `write(2)` for one slice, `writev(2)` for more; slices beyond the system's 1,024 wait for the next call.
fn write_slices(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(match slices {
        [one] => rustix::io::write(fd, one)?,
        many => rustix::io::writev(fd, many)?,
    })
}

/// An empty read could not be told from the end of the stream.
fn full_buffer() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a read was asked for with a buffer that is full; reserve() some room",
    )
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Place::Watched(owner, key) = self.place {
            with_loop(owner, |state| state.reactor.remove(key));
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
