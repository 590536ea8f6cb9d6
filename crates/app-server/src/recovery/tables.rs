//! The open connections and requests in flight as a signal handler sees them: tables of atomic numbers.
//!
//! A handler must not allocate, take a lock or trust the heap, so everything it needs is recorded here in advance, by
//! the handles of `handles.rs`. `settle.rs` and `report.rs` read it. Rows that were never used are zero: they take
//! neither memory nor room in the program's file.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use fastcgi_server::Header;

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

pub(super) const REPLY_FORMATS: usize = ReplyFormat::Cgi as usize + 1;

/// How many connections are recorded; any beyond that are closed without a reply when the process cannot continue.
/// Eight times the default limit of open connections.
const MAX_CONNECTIONS: usize = 8192;

/// How many requests are recorded; also eight times the default limit.
const MAX_REQUESTS: usize = 4096;

/// Bytes of a part's name that are recorded.
pub(super) const PART_BYTES: usize = 32;

/// Bytes of method and path that are recorded, including the space between them.
const TEXT_BYTES: usize = 128;

pub(super) static CONNECTIONS: Table<ConnectionRow, MAX_CONNECTIONS> =
    Table::new([const { ConnectionRow::free() }; MAX_CONNECTIONS]);

pub(super) static REQUESTS: Table<RequestRow, MAX_REQUESTS> =
    Table::new([const { RequestRow::free() }; MAX_REQUESTS]);

/// Which request's code is running.
pub(super) static RUNNING: RunningRequest =
    RunningRequest { now: AtomicU32::new(0), last: AtomicU32::new(0) };

/// Rows, and which of them are free. One thread takes and releases rows, as installation ensures; the handler only
/// reads.
pub(super) struct Table<R, const N: usize> {
    rows: [R; N],
    /// The successor of each row in the free list: its index + 1; 0 at the end.
    next_free: [AtomicU32; N],
    /// The head of the free list, likewise.
    first_free: AtomicU32,
    /// Rows from here on have never been used.
    touched: AtomicU32,
    /// How many rows are in use.
    taken: AtomicU32,
}

impl<R, const N: usize> Table<R, N> {
    const fn new(rows: [R; N]) -> Self {
        Table {
            rows,
            next_free: [const { AtomicU32::new(0) }; N],
            first_free: AtomicU32::new(0),
            touched: AtomicU32::new(0),
            taken: AtomicU32::new(0),
        }
    }

    /// Takes a row; `None` if none is free.
    pub(super) fn take(&self) -> Option<u32> {
        let index = match self.first_free.load(Ordering::Relaxed).checked_sub(1) {
            Some(index) => {
                let next = self.next_free[index as usize].load(Ordering::Relaxed);
                self.first_free.store(next, Ordering::Relaxed);
                index
            }
            None => {
                let index = self.touched.load(Ordering::Relaxed);
                if index as usize == N {
                    return None;
                }
                self.touched.store(index + 1, Ordering::Relaxed);
                index
            }
        };
        self.taken.store(self.taken() + 1, Ordering::Relaxed);
        Some(index)
    }

    /// Frees a row.
    pub(super) fn release(&self, index: u32) {
        let next = self.first_free.load(Ordering::Relaxed);
        self.next_free[index as usize].store(next, Ordering::Relaxed);
        self.first_free.store(index + 1, Ordering::Relaxed);
        self.taken.store(self.taken() - 1, Ordering::Relaxed);
    }

    pub(super) fn row(&self, index: u32) -> &R {
        &self.rows[index as usize]
    }

    /// How many rows are in use.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// All rows that have ever been used, each with its index.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &R)> {
        (0..).zip(self.rows.iter().take(self.touched.load(Ordering::Relaxed) as usize))
    }
}

/// One open connection.
pub(super) struct ConnectionRow {
    /// The descriptor + 1; 0 if the row is free.
    descriptor: AtomicU32,
    format: AtomicU8,
    /// Unsent bytes of the header of a partly sent record.
    owed_header: AtomicU8,
    /// Unsent bytes of that record after its header.
    owed: AtomicU32,
    /// The header of that record.
    header: AtomicU64,
    /// An [`InputState`], encoded.
    input: AtomicU32,
    /// Bytes sent on it.
    sent: AtomicU64,
}

/// How much of its input a connection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputState {
    /// Nothing is in memory, no record is partly read, and the peer wants to keep the connection: it can be handed
    /// over as it is once its requests are answered.
    Settled,
    /// Part of a request with this id has arrived, and the request is not registered yet.
    Arriving(u16),
    /// Anything else.
    Unsettled,
}

impl InputState {
    fn encode(self) -> u32 {
        match self {
            InputState::Unsettled => 0,
            InputState::Settled => 1,
            InputState::Arriving(id) => 2 + u32::from(id),
        }
    }

    fn decode(number: u32) -> InputState {
        match number {
            0 => InputState::Unsettled,
            1 => InputState::Settled,
            arriving => InputState::Arriving((arriving - 2) as u16),
        }
    }
}

impl ConnectionRow {
    const fn free() -> Self {
        ConnectionRow {
            descriptor: AtomicU32::new(0),
            format: AtomicU8::new(0),
            owed_header: AtomicU8::new(0),
            owed: AtomicU32::new(0),
            header: AtomicU64::new(0),
            input: AtomicU32::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Fills the row for a connection on which nothing has happened yet.
    pub(super) fn fill(&self, descriptor: RawFd, format: ReplyFormat) {
        self.format.store(format as u8, Ordering::Relaxed);
        let is_last = format == ReplyFormat::Cgi;
        self.set_input(if is_last { InputState::Unsettled } else { InputState::Settled });
        self.owe(None);
        self.sent.store(0, Ordering::Relaxed);
        // From here on the handler sees the row.
        self.descriptor.store(descriptor as u32 + 1, Ordering::Release);
    }

    /// Hides the row from the handler.
    pub(super) fn hide(&self) {
        self.descriptor.store(0, Ordering::Release);
    }

    pub(super) fn set_input(&self, input: InputState) {
        self.input.store(input.encode(), Ordering::Relaxed);
    }

    /// Records the header of a partly sent record and how many of the record's bytes are unsent.
    pub(super) fn owe(&self, record: Option<(Header, usize)>) {
        let Some((header, rest)) = record else {
            self.owed_header.store(0, Ordering::Relaxed);
            self.owed.store(0, Ordering::Relaxed);
            return;
        };
        let after_header = usize::from(header.content_length) + usize::from(header.padding_length);
        let owed = rest.min(after_header);
        self.header.store(u64::from_ne_bytes(header.encode()), Ordering::Relaxed);
        self.owed_header.store((rest - owed).min(8) as u8, Ordering::Relaxed);
        self.owed.store(owed as u32, Ordering::Relaxed);
    }

    pub(super) fn set_sent(&self, bytes: u64) {
        self.sent.store(bytes, Ordering::Relaxed);
    }

    // What the handler reads.

    /// The descriptor; `None` if the row is free.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.descriptor.load(Ordering::Acquire).checked_sub(1).map(|descriptor| descriptor as RawFd)
    }

    pub(super) fn is(&self, format: ReplyFormat) -> bool {
        self.format() == format as usize
    }

    pub(super) fn format(&self) -> usize {
        usize::from(self.format.load(Ordering::Relaxed))
    }

    pub(super) fn input(&self) -> InputState {
        InputState::decode(self.input.load(Ordering::Relaxed))
    }

    /// Bytes sent on the connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The header of a partly sent record, how many of its bytes are unsent, and how many after it.
    pub(super) fn owed(&self) -> ([u8; 8], usize, usize) {
        let header = self.header.load(Ordering::Relaxed).to_ne_bytes();
        let of_header = usize::from(self.owed_header.load(Ordering::Relaxed)).min(header.len());
        (header, of_header, self.owed.load(Ordering::Relaxed) as usize)
    }
}

/// One request in flight.
pub(super) struct RequestRow {
    /// The connection's row + 1; 0 if this row is free.
    connection: AtomicU32,
    id: AtomicU16,
    without_body: AtomicBool,
    /// Which byte of all that the connection sends is the first of this response, counted from 1; 0 until it is known.
    first_byte: AtomicU64,
    part: Text<{ PART_BYTES / 8 }>,
    /// Method, space, path.
    method_and_path: Text<{ TEXT_BYTES / 8 }>,
}

impl RequestRow {
    const fn free() -> Self {
        RequestRow {
            connection: AtomicU32::new(0),
            id: AtomicU16::new(0),
            without_body: AtomicBool::new(false),
            first_byte: AtomicU64::new(0),
            part: Text::empty(),
            method_and_path: Text::empty(),
        }
    }

    /// Fills the row for a request on this connection.
    pub(super) fn fill(
        &self,
        connection: u32,
        id: u16,
        part: Option<&str>,
        method: &str,
        path: &str,
    ) {
        self.id.store(id, Ordering::Relaxed);
        self.without_body.store(method == "HEAD", Ordering::Relaxed);
        self.first_byte.store(0, Ordering::Relaxed);
        match part {
            Some(part) => self.part.write(&[part.as_bytes()]),
            None => self.part.clear(),
        }
        self.method_and_path.write(&[method.as_bytes(), b" ", path.as_bytes()]);
        // From here on the handler sees the row.
        self.connection.store(connection + 1, Ordering::Release);
    }

    /// Hides the row from the handler.
    pub(super) fn hide(&self) {
        self.connection.store(0, Ordering::Release);
    }

    /// Records that the response follows the first `bytes` that the connection sends in total.
    pub(super) fn set_follows(&self, bytes: u64) {
        self.first_byte.store(bytes + 1, Ordering::Relaxed);
    }

    // What the handler reads.

    pub(super) fn id(&self) -> u16 {
        self.id.load(Ordering::Relaxed)
    }

    /// Whether the response must not have a body: the request is a HEAD.
    pub(super) fn without_body(&self) -> bool {
        self.without_body.load(Ordering::Relaxed)
    }

    /// Whether any of the response is among the first `sent` bytes of the connection.
    pub(super) fn has_started(&self, sent: u64) -> bool {
        (1..=sent).contains(&self.first_byte.load(Ordering::Relaxed))
    }

    /// Copies the name of the part that the request is for; returns its length.
    pub(super) fn part(&self, to: &mut [u8]) -> usize {
        self.part.read(to)
    }

    /// Copies method, space and path; returns their length.
    pub(super) fn method_and_path(&self, to: &mut [u8]) -> usize {
        self.method_and_path.read(to)
    }
}

/// The requests of a connection, each with its index.
pub(super) fn requests_of(connection: u32) -> impl Iterator<Item = (u32, &'static RequestRow)> {
    let is_on_it = move |row: &RequestRow| row.connection.load(Ordering::Acquire) == connection + 1;
    REQUESTS.rows().filter(move |(_, row)| is_on_it(row))
}

/// The requests whose code is running, and ran last.
pub(super) struct RunningRequest {
    /// The row + 1; 0 for none.
    now: AtomicU32,
    /// The row + 1; 0 until the first one.
    last: AtomicU32,
}

impl RunningRequest {
    /// Records that the code of a request, given as its row + 1, runs from here on. Returns the one that ran before.
    #[inline]
    pub(super) fn enter(&self, number: u32) -> u32 {
        let before = self.now.load(Ordering::Relaxed);
        self.now.store(number, Ordering::Relaxed);
        self.last.store(number, Ordering::Relaxed);
        before
    }

    /// Records that the code has ended, and that of the request that ran before it continues.
    #[inline]
    pub(super) fn leave(&self, before: u32) {
        self.now.store(before, Ordering::Relaxed);
    }

    /// The index of the request whose code is running.
    pub(super) fn now(&self) -> Option<u32> {
        self.now
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .filter(|index| (*index as usize) < MAX_REQUESTS)
    }

    /// Whether no code of a request is running and none is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.now.load(Ordering::Relaxed) == 0 && REQUESTS.taken() == 0
    }

    /// The request whose code ran last, as a suspect.
    pub(super) fn last(&self) -> Option<&'static RequestRow> {
        let index = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        REQUESTS.rows.get(index as usize)
    }
}

/// A text of at most `WORDS` × 8 bytes, which ends at the first zero byte.
pub(super) struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Text<WORDS> {
    pub(super) const fn empty() -> Self {
        Text([const { AtomicU64::new(0) }; WORDS])
    }

    fn clear(&self) {
        self.0[0].store(0, Ordering::Relaxed);
    }

    /// Writes the concatenated texts, truncated to what fits.
    pub(super) fn write(&self, texts: &[&[u8]]) {
        let mut bytes = [0; TEXT_BYTES];
        let capacity = TEXT_BYTES.min(WORDS * 8);
        let mut length = 0;
        for text in texts {
            let count = text.len().min(capacity - length);
            bytes[length..length + count].copy_from_slice(&text[..count]);
            length += count;
        }
        // The words in use, and one more to terminate the text.
        let (words, _) = bytes.as_chunks::<8>();
        for (to, word) in self.0.iter().zip(&words[..(length / 8 + 1).min(words.len())]) {
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
    }

    /// Copies the text; returns its length.
    pub(super) fn read(&self, to: &mut [u8]) -> usize {
        let mut length = 0;
        for word in &self.0 {
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
}

#[cfg(test)]
mod tests {
    use fastcgi_server::{RecordType, RequestId};

    use super::*;

    #[test]
    fn texts_are_truncated_to_their_buffer() {
        let text = Text::<2>([const { AtomicU64::new(u64::MAX) }; 2]);
        let mut bytes = [0; 64];
        for (texts, expected) in [
            (&["GET", " ", "/a"][..], "GET /a"),
            (&[], ""),
            (&["12345678"], "12345678"),
            (&["1234567", "89"], "123456789"),
            (&["12345678", "9abcdefgh"], "123456789abcdefg"),
        ] {
            let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
            text.write(&texts);
            let length = text.read(&mut bytes);
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn released_rows_are_reused_before_new_ones() {
        let table = Table::new([(); 3]);
        let taken: Vec<_> = (0..3).map(|_| table.take().unwrap()).collect();
        assert_eq!((taken, table.take()), (vec![0, 1, 2], None));
        table.release(1);
        table.release(0);
        assert_eq!(table.taken(), 1);
        assert_eq!([table.take(), table.take(), table.take()], [Some(0), Some(1), None]);
        assert_eq!((table.taken(), table.rows().count()), (3, 3));
    }

    #[test]
    fn input_states_are_what_was_stored() {
        let row = ConnectionRow::free();
        for input in [
            InputState::Settled,
            InputState::Unsettled,
            InputState::Arriving(1),
            InputState::Arriving(u16::MAX),
        ] {
            row.set_input(input);
            assert_eq!(row.input(), input);
        }
    }

    #[test]
    fn a_response_has_started_once_its_first_byte_is_sent() {
        let request = RequestRow::free();
        assert!(!request.has_started(u64::MAX));
        request.set_follows(7);
        assert_eq!([6, 7, 8].map(|sent| request.has_started(sent)), [false, false, true]);
    }

    #[test]
    fn a_partly_sent_record_is_owed_to_its_end() {
        let row = ConnectionRow::free();
        let header = Header {
            padding_length: 4,
            ..Header::new(RecordType::Stdout, Some(RequestId::ONE), 100)
        };
        for (unsent, expected) in [(112, (8, 104)), (105, (1, 104)), (104, (0, 104)), (3, (0, 3))] {
            row.owe(Some((header, unsent)));
            let (bytes, of_header, after) = row.owed();
            assert_eq!((bytes, of_header, after), (header.encode(), expected.0, expected.1));
        }
        row.owe(None);
        assert_eq!((row.owed().1, row.owed().2), (0, 0));
    }
}
