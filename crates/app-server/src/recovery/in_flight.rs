//! The connections and requests of this process as a signal handler sees them: tables of atomic numbers.
//!
//! A handler must not allocate, take a lock or trust the heap, so everything it needs is recorded here in advance:
//! the open connections, the requests in flight, and which of them is running. A transport holds a
//! [`ConnectionGuard`] per connection and a [`RequestGuard`] per request, records what was sent, and polls the
//! application's code through [`Mark::run`]. Without installed handlers none of this does anything. The cost is a
//! few stores per request.
//!
//! `settle.rs` decides which bytes each client gets when the process cannot continue.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use fastcgi_server::Header;
use sys::interval;

use super::panics::Symbolize;

/// The format of a connection's replies; selects the prepared ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFormat {
    /// Several requests on a connection, each with its own id.
    FastCgi,
    /// One request after the other.
    Http,
    /// A single request; nothing follows it.
    Cgi,
}

pub(crate) const REPLY_FORMATS: usize = ReplyFormat::Cgi as usize + 1;

/// How many connections are recorded; any beyond that are closed without a reply when the process cannot continue.
/// Eight times the default limit of open connections. Each row takes 48 bytes; rows never used take no memory.
pub(crate) const MAX_CONNECTIONS: usize = 8192;

/// How many requests are recorded; also eight times the default limit.
pub(crate) const MAX_REQUESTS: usize = 4096;

/// Bytes of a part's name that are recorded.
pub(crate) const PART_BYTES: usize = 32;

/// Bytes of method and path that are recorded, including the space between them.
const TEXT_BYTES: usize = 128;

/// Sets the listening socket to hand to the next image; on descriptor 0 if it came from there.
pub(crate) fn set_listener(listener: Option<BorrowedFd<'_>>, at_stdin: bool) {
    LISTENER.store(listener.map_or(-1, |fd| fd.as_raw_fd()), Ordering::Relaxed);
    LISTENER_AT_STDIN.store(at_stdin, Ordering::Relaxed);
}

/// Sets the launcher's file to pass on to the next image; at most 64 bytes of it are kept.
pub(crate) fn set_origin(file: &str) {
    write_text(&ORIGIN, &[file.as_bytes()]);
}

/// Whether the handlers are installed.
pub(crate) static INSTALLED: AtomicBool = AtomicBool::new(false);
pub(crate) static LISTENER: AtomicI32 = AtomicI32::new(-1);
pub(crate) static LISTENER_AT_STDIN: AtomicBool = AtomicBool::new(false);
pub(crate) static ORIGIN: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
/// The request whose code is running: its row + 1; 0 for none.
pub(crate) static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The request whose code ran last, as a suspect: its row + 1; 0 until the first one.
pub(crate) static RAN_LAST: AtomicU32 = AtomicU32::new(0);

pub(crate) static CONNECTION_ROWS: [ConnectionRow; MAX_CONNECTIONS] =
    [const { ConnectionRow::free() }; MAX_CONNECTIONS];
pub(crate) static REQUEST_ROWS: [RequestRow; MAX_REQUESTS] =
    [const { RequestRow::free() }; MAX_REQUESTS];
pub(crate) static FREE_CONNECTION_ROWS: FreeRows = FreeRows::new();
pub(crate) static FREE_REQUEST_ROWS: FreeRows = FreeRows::new();

/// One open connection as the handler sees it.
pub(crate) struct ConnectionRow {
    /// -1 if the row is free.
    pub(crate) descriptor: AtomicI32,
    pub(crate) format: AtomicU8,
    /// Whether none of its input is in our memory and it may carry further requests.
    pub(crate) settled: AtomicBool,
    /// Unsent bytes of the header of a partly sent record.
    pub(crate) owed_header: AtomicU8,
    /// Unsent bytes of that record after its header.
    pub(crate) owed: AtomicU32,
    /// The header of that record.
    pub(crate) header: AtomicU64,
    /// The id of a request that has arrived in part; 0 for none.
    pub(crate) arriving: AtomicU32,
    next_free: AtomicU32,
    /// Bytes sent on it.
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
    /// Records a record whose last `rest` bytes have not been sent.
    fn owe_record(&self, header: Header, rest: usize) {
        let after_header = usize::from(header.content_length) + usize::from(header.padding_length);
        let owed = rest.min(after_header);
        self.header.store(u64::from_ne_bytes(header.encode()), Ordering::Relaxed);
        self.owed_header.store((rest - owed).min(8) as u8, Ordering::Relaxed);
        self.owed.store(owed as u32, Ordering::Relaxed);
    }
}

/// One request in flight as the handler sees it.
pub(crate) struct RequestRow {
    /// The connection's row + 1; 0 if this row is free.
    pub(crate) connection: AtomicU32,
    pub(crate) id: AtomicU32,
    next_free: AtomicU32,
    pub(crate) without_body: AtomicBool,
    /// How many bytes the connection sends before the first byte of this response.
    pub(crate) starts_at: AtomicU64,
    pub(crate) part: [AtomicU64; PART_BYTES / 8],
    /// Method, space, path.
    pub(crate) method_and_path: [AtomicU64; TEXT_BYTES / 8],
}

/// No byte of the response exists yet.
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
            method_and_path: [const { AtomicU64::new(0) }; TEXT_BYTES / 8],
        }
    }
}

/// Which rows of a table are free. Used by one thread, as installation ensures; the handler reads only `touched`
/// and `taken`.
pub(crate) struct FreeRows {
    /// The head of the free list: its row + 1; 0 if the list is empty.
    first_free: AtomicU32,
    /// Rows from here on have never been used.
    pub(crate) touched: AtomicU32,
    /// How many rows are in use.
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

    /// Takes a row of a table of `length` rows; `next` returns a row's successor in the free list.
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

    /// Frees a row; returns its successor in the free list.
    fn release(&self, index: usize) -> u32 {
        self.taken.store(self.taken.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let next = self.first_free.load(Ordering::Relaxed);
        self.first_free.store(index as u32 + 1, Ordering::Relaxed);
        next
    }
}

/// The row of an open connection. Drop it before the socket is closed.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    index: Option<u32>,
    /// Whether the row reflects all input that has been read.
    input_is_recorded: Cell<bool>,
}

/// How much of its input a connection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputState {
    /// Nothing is in memory, no record is partly read, and the peer wants to keep the connection: it can be handed
    /// over as it is once its requests are answered.
    Settled,
    /// Part of a request with this id has arrived, and the request is not registered yet.
    Arriving(u32),
    /// Anything else.
    Unsettled,
}

impl ConnectionGuard {
    /// Registers a connection. Does nothing unless the handlers are installed and a row is free.
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
        // From here on the handler sees the row.
        row.descriptor.store(descriptor.as_raw_fd(), Ordering::Release);
        Some(index as u32)
    }

    fn row(&self) -> Option<&'static ConnectionRow> {
        self.index.map(|index| &CONNECTION_ROWS[index as usize])
    }

    /// Whether the connection has a row.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.index.is_some()
    }

    /// Call after reading: what is recorded of the input may no longer hold.
    #[inline]
    pub(crate) fn input_changed(&self) {
        self.input_is_recorded.set(false);
    }

    /// Records the state of the input if it has changed since the last call.
    #[inline]
    pub(crate) fn record_input(&self, input: impl FnOnce() -> InputState) {
        if self.is_registered() && !self.input_is_recorded.replace(true) {
            self.set_input(input());
        }
    }

    /// Records the state of the input when a request has started. A settled state is final until the next read.
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

    /// Records how many bytes have been sent so far and, if they end within a FastCGI record, that record's header
    /// and how many of its bytes are unsent.
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

    /// Registers a request: its id on the connection, the part it is for, its method and path (without the query,
    /// which may contain secrets).
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
        write_text(&row.method_and_path, &[method.as_bytes(), b" ", path.as_bytes()]);
        // From here on the handler sees the row.
        row.connection.store(connection + 1, Ordering::Release);
        // `watchdog.rs` stops the timer while there are no requests.
        if interval::can_be_armed() {
            interval::arm();
        }
        RequestGuard { index: Some(index as u32) }
    }

    /// Hides the connection from the handler, because its socket is about to be closed before the value is dropped.
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
            row.next_free.store(FREE_CONNECTION_ROWS.release(index), Ordering::Relaxed);
        }
    }
}

/// The row of a request in flight. Drop it when the last byte of the response has been sent, or the response is no
/// longer wanted.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    index: Option<u32>,
}

impl RequestGuard {
    /// The mark to run the request's code with.
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
            row.next_free.store(FREE_REQUEST_ROWS.release(index), Ordering::Relaxed);
        }
    }
}

/// Identifies the request whose code is running: if that code crashes or stalls, this request is the culprit.
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

    /// Records that the response starts after the first `at` bytes that the connection sends in total.
    #[inline]
    pub(crate) fn set_starts_at(self, at: u64) {
        if let Some(row) = (self.number as usize).checked_sub(1).and_then(|at| REQUEST_ROWS.get(at))
        {
            row.starts_at.store(at, Ordering::Relaxed);
        }
    }

    /// Runs the request's code; the mark that was running before is restored even after a panic.
    #[inline]
    pub(crate) fn run<T>(self, code: impl FnOnce() -> T) -> T {
        struct RestoreRunning(u32);
        impl Drop for RestoreRunning {
            fn drop(&mut self) {
                RUNNING.store(self.0, Ordering::Relaxed);
            }
        }
        let _restore = RestoreRunning(RUNNING.load(Ordering::Relaxed));
        RUNNING.store(self.number, Ordering::Relaxed);
        RAN_LAST.store(self.number, Ordering::Relaxed);
        code()
    }
}

/// Returns the number of requests in flight.
pub(crate) fn in_flight() -> u32 {
    FREE_REQUEST_ROWS.taken.load(Ordering::Relaxed)
}

/// Returns the request whose code ran last.
pub(crate) fn ran_last() -> Option<&'static RequestRow> {
    let index = RAN_LAST.load(Ordering::Relaxed).checked_sub(1)?;
    REQUEST_ROWS.get(index as usize)
}

/// Returns whether the handlers are installed.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Writes the concatenated texts, truncated to the buffer, and a terminating zero byte if it fits.
fn write_text(to: &[AtomicU64], texts: &[&[u8]]) {
    let mut bytes = [0; TEXT_BYTES];
    let capacity = TEXT_BYTES.min(to.len() * 8);
    let mut length = 0;
    for text in texts {
        let count = text.len().min(capacity - length);
        bytes[length..length + count].copy_from_slice(&text[..count]);
        length += count;
    }
    // The words in use, and one more to terminate the text.
    let (words, _) = bytes.as_chunks::<8>();
    for (to, word) in to.iter().zip(&words[..(length / 8 + 1).min(words.len())]) {
        to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
}

/// Reads a text written by [`write_text`]; returns its length.
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
    fn texts_are_truncated_to_their_buffer() {
        let buffer = [const { AtomicU64::new(u64::MAX) }; 2];
        let mut bytes = [0; 64];
        for (texts, expected) in [
            (&["GET", " ", "/a"][..], "GET /a"),
            (&[], ""),
            (&["12345678"], "12345678"),
            (&["1234567", "89"], "123456789"),
            (&["12345678", "9abcdefgh"], "123456789abcdefg"),
        ] {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
            write_text(&buffer, &texts);
            let length = read_text(&buffer, &mut bytes);
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn released_rows_are_reused_before_new_ones() {
        let rows = FreeRows::new();
        let mut next = [0; 3];
        let take = |next: &[u32; 3]| rows.take(3, |index| next[index]);
        let taken: Vec<_> = (0..3).map(|_| take(&next).unwrap()).collect();
        assert_eq!((taken, take(&next)), (vec![0, 1, 2], None));
        next[1] = rows.release(1);
        next[0] = rows.release(0);
        assert_eq!([take(&next), take(&next), take(&next)], [Some(0), Some(1), None]);
        assert_eq!(rows.taken.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn nothing_is_registered_without_installed_handlers() {
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
