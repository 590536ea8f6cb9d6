//! The connections and requests of this process as a signal handler sees them: tables of atomic numbers.
//!
//! A handler may neither allocate nor take a lock nor trust the heap, so everything it needs about them lies here
//! before it is needed: the open connections, the requests in flight, who is running. Whoever serves enters
//! each [`ConnectionGuard`] and each [`RequestGuard`], tells what was sent, and polls foreign code through [`Mark::run`].
//! While no guard is installed all that does nothing. It costs a few stores to memory for each request.
//!
//! Who gets which bytes when the process cannot go on is decided in `settle.rs`.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use fastcgi_server::Header;
use sys::interval;

use super::panics::Symbolize;

/// How a connection's requests came in: which of the prepared answers are for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFormat {
    /// Several requests on a connection, each with an id of its own.
    FastCgi,
    /// One request after the other.
    Http,
    /// One request alone; nothing follows it.
    Cgi,
}

pub(crate) const REPLY_FORMATS: usize = 3;

/// How many connections are kept in view; those beyond are closed without a word when the process cannot
/// go on. Eight times the default of what is open at once; 48 bytes each, untouched ones cost nothing.
pub(crate) const MAX_CONNECTIONS: usize = 8192;

/// As [`MAX_CONNECTIONS`], for requests; 8 times the default as well.
pub(crate) const MAX_REQUESTS: usize = 4096;

/// Bytes of a label that are kept.
pub(crate) const PART_BYTES: usize = 32;

/// Bytes of method and path that are kept, together with the space between them.
const TEXT_BYTES: usize = 128;

/// Tells which socket listens, to be handed to the next image: at descriptor 0 when it came from there.
pub(crate) fn set_listener(listener: Option<BorrowedFd<'_>>, at_stdin: bool) {
    LISTENER.store(listener.map_or(-1, |fd| fd.as_raw_fd()), Ordering::Relaxed);
    LISTENER_AT_STDIN.store(at_stdin, Ordering::Relaxed);
}

/// Has the launcher's file passed on to the next program, at most 64 bytes of it.
pub(crate) fn set_origin(file: &str) {
    write_text(&ORIGIN, &[file.as_bytes()]);
}

/// The handlers are installed, and its loop is the only one.
pub(crate) static INSTALLED: AtomicBool = AtomicBool::new(false);
pub(crate) static LISTENER: AtomicI32 = AtomicI32::new(-1);
pub(crate) static LISTENER_AT_STDIN: AtomicBool = AtomicBool::new(false);
pub(crate) static ORIGIN: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
/// The request whose foreign code is running: its row + 1.
pub(crate) static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The request whose foreign code ran last, as a suspect: its row + 1.
pub(crate) static RAN_LAST: AtomicU32 = AtomicU32::new(0);

pub(crate) static CONNECTION_ROWS: [ConnectionRow; MAX_CONNECTIONS] =
    [const { ConnectionRow::free() }; MAX_CONNECTIONS];
pub(crate) static REQUEST_ROWS: [RequestRow; MAX_REQUESTS] =
    [const { RequestRow::free() }; MAX_REQUESTS];
pub(crate) static FREE_CONNECTION_ROWS: FreeRows = FreeRows::new();
pub(crate) static FREE_REQUEST_ROWS: FreeRows = FreeRows::new();

/// One open connection, as the handler sees it.
pub(crate) struct ConnectionRow {
    /// -1: the row is free.
    pub(crate) descriptor: AtomicI32,
    pub(crate) format: AtomicU8,
    /// Nothing of its input is in our memory, and it may carry further requests.
    pub(crate) settled: AtomicBool,
    /// Bytes that are missing of the header of the record begun.
    pub(crate) owed_header: AtomicU8,
    /// Bytes that are missing of that record behind its header.
    pub(crate) owed: AtomicU32,
    /// The header of that record.
    pub(crate) header: AtomicU64,
    /// The id of a request of which a part has come; 0 for none.
    pub(crate) arriving: AtomicU32,
    next_free: AtomicU32,
    /// Bytes that were sent on it.
    pub(crate) sent: AtomicU64,
}

impl ConnectionRow {
    const fn free() -> Self {
        ConnectionRow {
            descriptor: AtomicI32::new(-1),
            format: AtomicU8::new(0),
            settled: AtomicBool::new(false),
            owed_header: AtomicU8::new(0),
            owed: AtomicU32::new(0),
            header: AtomicU64::new(0),
            arriving: AtomicU32::new(0),
            next_free: AtomicU32::new(0),
            sent: AtomicU64::new(0),
        }
    }
}

impl ConnectionRow {
    /// Notes the header of a record of which the last `rest` bytes are missing.
    fn owe_record(&self, header: Header, rest: usize) {
        let behind_header = usize::from(header.content_length) + usize::from(header.padding_length);
        let owed = rest.min(behind_header);
        self.header.store(u64::from_ne_bytes(header.encode()), Ordering::Relaxed);
        self.owed_header.store((rest - owed).min(8) as u8, Ordering::Relaxed);
        self.owed.store(owed as u32, Ordering::Relaxed);
    }
}

/// One request in flight, as the handler sees it.
pub(crate) struct RequestRow {
    /// The connection's row + 1; 0: the row is free.
    pub(crate) connection: AtomicU32,
    pub(crate) id: AtomicU32,
    next_free: AtomicU32,
    pub(crate) without_body: AtomicBool,
    /// How many bytes the connection had sent, or will have, before the first of this answer.
    pub(crate) starts_at: AtomicU64,
    pub(crate) part: [AtomicU64; PART_BYTES / 8],
    /// Method, space, path.
    pub(crate) text: [AtomicU64; TEXT_BYTES / 8],
}

/// No byte of the response is there yet.
const NOT_STARTED: u64 = u64::MAX;

impl RequestRow {
    const fn free() -> Self {
        RequestRow {
            connection: AtomicU32::new(0),
            id: AtomicU32::new(0),
            next_free: AtomicU32::new(0),
            without_body: AtomicBool::new(false),
            starts_at: AtomicU64::new(NOT_STARTED),
            part: [const { AtomicU64::new(0) }; PART_BYTES / 8],
            text: [const { AtomicU64::new(0) }; TEXT_BYTES / 8],
        }
    }
}

/// Which rows of a table are free. One thread uses it, as the installation made sure; the handler reads
/// `touched` alone.
pub(crate) struct FreeRows {
    /// The first row of the list of free ones, + 1.
    first_free: AtomicU32,
    /// Rows from here on were never used.
    pub(crate) touched: AtomicU32,
    /// How many are taken.
    pub(crate) taken: AtomicU32,
}

impl FreeRows {
    const fn new() -> Self {
        FreeRows {
            first_free: AtomicU32::new(0),
            touched: AtomicU32::new(0),
            taken: AtomicU32::new(0),
        }
    }

    /// Takes a row of a table of `length`; `next` tells a free row's successor.
    fn take(&self, length: usize, next: impl Fn(usize) -> u32) -> Option<usize> {
        let first = self.first_free.load(Ordering::Relaxed);
        let index = if first > 0 {
            let index = first as usize - 1;
            self.first_free.store(next(index), Ordering::Relaxed);
            index
        } else {
            let index = self.touched.load(Ordering::Relaxed) as usize;
            if index == length {
                return None;
            }
            self.touched.store(index as u32 + 1, Ordering::Relaxed);
            index
        };
        self.taken.store(self.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(index)
    }

    /// Gives a row back; returns its successor in the list of free ones.
    fn give_back(&self, index: usize) -> u32 {
        self.taken.store(self.taken.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let next = self.first_free.load(Ordering::Relaxed);
        self.first_free.store(index as u32 + 1, Ordering::Relaxed);
        next
    }
}

/// An open connection, from its accept until the value is dropped; do that before the socket is closed.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    index: Option<u32>,
    /// What the row has to know of the input was told when the last of it was taken.
    input_is_recorded: Cell<bool>,
}

/// What a connection holds of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputState {
    /// Nothing is in memory, no record half read, and the other side wants to go on with the connection: it can be
    /// handed over as it is once its requests are answered.
    Settled,
    /// A part of a request with this id has come, of which nobody knows yet.
    Arriving(u32),
    /// Anything else.
    Unsettled,
}

impl ConnectionGuard {
    /// Notes a connection. There is none to note when nothing is installed.
    pub(crate) fn register(descriptor: BorrowedFd<'_>, format: ReplyFormat) -> ConnectionGuard {
        let index = INSTALLED.load(Ordering::Relaxed).then(|| Self::take_row(descriptor, format));
        ConnectionGuard { index: index.flatten(), input_is_recorded: Cell::new(true) }
    }

    fn take_row(descriptor: BorrowedFd<'_>, format: ReplyFormat) -> Option<u32> {
        let index = FREE_CONNECTION_ROWS.take(MAX_CONNECTIONS, |index| {
            CONNECTION_ROWS[index].next_free.load(Ordering::Relaxed)
        })?;
        let row = &CONNECTION_ROWS[index];
        row.format.store(format as u8, Ordering::Relaxed);
        row.settled.store(format != ReplyFormat::Cgi, Ordering::Relaxed);
        row.owed_header.store(0, Ordering::Relaxed);
        row.owed.store(0, Ordering::Relaxed);
        row.arriving.store(0, Ordering::Relaxed);
        row.sent.store(0, Ordering::Relaxed);
        // From here on the handler sees it.
        row.descriptor.store(descriptor.as_raw_fd(), Ordering::Release);
        Some(index as u32)
    }

    fn row(&self) -> Option<&'static ConnectionRow> {
        self.index.map(|index| &CONNECTION_ROWS[index as usize])
    }

    /// Whether anything is noted at all.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.index.is_some()
    }

    /// More input was taken: what was noted of it may not be true any more.
    #[inline]
    pub(crate) fn input_changed(&self) {
        self.input_is_recorded.set(false);
    }

    /// Notes what is held of the input, if that has changed since.
    #[inline]
    pub(crate) fn record_input(&self, input: impl FnOnce() -> InputState) {
        if self.is_registered() && !self.input_is_recorded.replace(true) {
            self.set_input(input());
        }
    }

    /// Notes what is held of the input when a request of it has begun. Once that is settled there is nothing left
    /// that could change it.
    #[inline]
    pub(crate) fn record_input_after_request(&self, input: impl FnOnce() -> InputState) {
        if self.is_registered() {
            let input = input();
            self.set_input(input);
            self.input_is_recorded.set(input == InputState::Settled);
        }
    }

    fn set_input(&self, input: InputState) {
        if let Some(row) = self.row() {
            let arriving = if let InputState::Arriving(id) = input { id } else { 0 };
            row.settled.store(input == InputState::Settled, Ordering::Relaxed);
            row.arriving.store(arriving, Ordering::Relaxed);
        }
    }

    /// Notes how many bytes were sent so far; and, when they end within a FastCGI record, the header of that and how
    /// many of its bytes are missing.
    #[inline]
    pub(crate) fn record_sent(&self, sent: u64, record: Option<(Header, usize)>) {
        let Some(row) = self.row() else { return };
        match record {
            None => {
                row.owed_header.store(0, Ordering::Relaxed);
                row.owed.store(0, Ordering::Relaxed);
            }
            Some((header, rest)) => row.owe_record(header, rest),
        }
        row.sent.store(sent, Ordering::Relaxed);
    }

    /// Notes a request: its id on the connection, which part of the program it is for, and what was asked (without the query,
    /// which may hold secrets).
    pub(crate) fn register_request(
        &self,
        id: u32,
        part: Option<&str>,
        method: &str,
        path: &str,
    ) -> RequestGuard {
        let Some(connection) = self.index else { return RequestGuard { index: None } };
        let index = FREE_REQUEST_ROWS
            .take(MAX_REQUESTS, |index| REQUEST_ROWS[index].next_free.load(Ordering::Relaxed));
        let Some(index) = index else { return RequestGuard { index: None } };
        let row = &REQUEST_ROWS[index];
        row.id.store(id, Ordering::Relaxed);
        row.without_body.store(method == "HEAD", Ordering::Relaxed);
        row.starts_at.store(NOT_STARTED, Ordering::Relaxed);
        match part {
            Some(part) => write_text(&row.part, &[part.as_bytes()]),
            None => row.part[0].store(0, Ordering::Relaxed),
        }
        write_text(&row.text, &[method.as_bytes(), b" ", path.as_bytes()]);
        // From here on the handler sees it.
        row.connection.store(connection + 1, Ordering::Release);
        // There is something to watch: see `watchdog.rs`.
        if interval::can_be_armed() {
            interval::arm();
        }
        RequestGuard { index: Some(index as u32) }
    }

    /// The socket is about to be closed, though the value lives on.
    pub(crate) fn unregister(&self) {
        if let Some(row) = self.row() {
            row.descriptor.store(-1, Ordering::Release);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let index = index as usize;
            let row = &CONNECTION_ROWS[index];
            row.descriptor.store(-1, Ordering::Release);
            row.next_free.store(FREE_CONNECTION_ROWS.give_back(index), Ordering::Relaxed);
        }
    }
}

/// A request in flight, until its response is sent to its last byte or nobody wants it any more: then the
/// value is to be dropped.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    index: Option<u32>,
}

impl RequestGuard {
    /// Names the request to those who run its code.
    pub(crate) fn mark(&self) -> Mark {
        Mark { number: self.index.map_or(0, |index| index + 1), symbolize: Symbolize::InChild }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let index = index as usize;
            let row = &REQUEST_ROWS[index];
            row.connection.store(0, Ordering::Release);
            row.next_free.store(FREE_REQUEST_ROWS.give_back(index), Ordering::Relaxed);
        }
    }
}

/// Names a request whose code is run: should it never come back, the request is the culprit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    number: u32,
    symbolize: Symbolize,
}

impl Mark {
    /// The mark of a request after which the process exits.
    #[must_use]
    pub(crate) fn of_last_request(self) -> Mark {
        Mark { symbolize: Symbolize::Here, ..self }
    }

    /// Where the backtraces of the request's panics are to be symbolized.
    pub(crate) fn symbolize(self) -> Symbolize {
        self.symbolize
    }

    /// Notes that the response begins behind the first `at` bytes that the connection sends in all.
    #[inline]
    pub(crate) fn set_starts_at(self, at: u64) {
        if let Some(row) = (self.number as usize).checked_sub(1).and_then(|at| REQUEST_ROWS.get(at))
        {
            row.starts_at.store(at, Ordering::Relaxed);
        }
    }

    /// Runs code of the request's.
    #[inline]
    pub(crate) fn run<T>(self, code: impl FnOnce() -> T) -> T {
        struct PutBack(u32);
        impl Drop for PutBack {
            fn drop(&mut self) {
                RUNNING.store(self.0, Ordering::Relaxed);
            }
        }
        let _put_back = PutBack(RUNNING.load(Ordering::Relaxed));
        RUNNING.store(self.number, Ordering::Relaxed);
        RAN_LAST.store(self.number, Ordering::Relaxed);
        code()
    }
}

/// How many requests there are.
pub(crate) fn in_flight() -> u32 {
    FREE_REQUEST_ROWS.taken.load(Ordering::Relaxed)
}

/// The request whose foreign code ran last.
pub(crate) fn ran_last() -> Option<&'static RequestRow> {
    let index = RAN_LAST.load(Ordering::Relaxed).checked_sub(1)?;
    REQUEST_ROWS.get(index as usize)
}

/// Says whether the handlers are installed.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Writes texts one after the other, as much as has room, with a zero byte at the end if there is room.
fn write_text(to: &[AtomicU64], texts: &[&[u8]]) {
    let mut bytes = [0; TEXT_BYTES];
    let room = TEXT_BYTES.min(to.len() * 8);
    let mut length = 0;
    for text in texts {
        let count = text.len().min(room - length);
        bytes[length..length + count].copy_from_slice(&text[..count]);
        length += count;
    }
    // The words that are used, and one more that ends the text.
    let (words, _) = bytes.as_chunks::<8>();
    for (to, word) in to.iter().zip(&words[..(length / 8 + 1).min(words.len())]) {
        to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
}

/// Reads a text that [`write_text`] wrote; returns its length.
pub(crate) fn read_text(from: &[AtomicU64], to: &mut [u8]) -> usize {
    let mut length = 0;
    for word in from {
        for byte in word.load(Ordering::Relaxed).to_ne_bytes() {
            if byte == 0 || length == to.len() {
                return length;
            }
            to[length] = byte;
            length += 1;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_the_end_of_their_room() {
        let room = [const { AtomicU64::new(u64::MAX) }; 2];
        let mut bytes = [0; 64];
        for (texts, expected) in [
            (&["GET", " ", "/a"][..], "GET /a"),
            (&[], ""),
            (&["12345678"], "12345678"),
            (&["1234567", "89"], "123456789"),
            (&["12345678", "9abcdefgh"], "123456789abcdefg"),
        ] {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
            write_text(&room, &texts);
            let length = read_text(&room, &mut bytes);
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn places_are_used_again_before_new_ones() {
        let places = FreeRows::new();
        let mut next = [0; 3];
        let take = |next: &[u32; 3]| places.take(3, |index| next[index]);
        let taken: Vec<_> = (0..3).map(|_| take(&next).unwrap()).collect();
        assert_eq!((taken, take(&next)), (vec![0, 1, 2], None));
        next[1] = places.give_back(1);
        next[0] = places.give_back(0);
        assert_eq!([take(&next), take(&next), take(&next)], [Some(0), Some(1), None]);
        assert_eq!(places.taken.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn without_an_installation_nothing_is_registered() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let connection =
            ConnectionGuard::register(std::os::fd::AsFd::as_fd(&one), ReplyFormat::Http);
        let request = connection.register_request(0, Some("part"), "GET", "/");
        request.mark().set_starts_at(1);
        assert!(!connection.is_registered());
        assert_eq!(FREE_REQUEST_ROWS.taken.load(Ordering::Relaxed), 0);
        assert_eq!(request.mark().run(|| 5), 5);
    }
}
