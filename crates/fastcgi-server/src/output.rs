//! What is to be written: small pieces side by side in one buffer, large payloads shared.
//!
//! Both sides of the protocol write here; the socket's owner takes bytes out with `transmit` and
//! `transmitted`. Nothing here knows what the records mean.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::record::{FULL_CONTENT, HEADER_LENGTH, Header, MAX_CONTENT, RecordType, RequestId};

/// Payloads up to this many bytes are copied behind their header; larger ones are shared.
///
/// Copying 4 KiB takes about as long as counting a reference, queueing two more slices and having the
/// kernel process them. hyper flattens up to 16 KiB before a vectored write pays off.
const COPIED_PAYLOAD: usize = 4 * 1024;

/// The initial capacity of a buffer: a response's head and a small page.
const FIRST_CAPACITY: usize = 2 * 1024;

/// The largest buffer that is kept for the next connection.
const KEPT_CAPACITY: usize = 64 * 1024;

thread_local! {
    /// One empty buffer per thread, lent to the connection that has something to send.
    ///
    /// A response is usually queued and written within one turn of the loop, so one buffer serves
    /// thousands of connections: none allocates for an ordinary response, and none holds memory while it
    /// has nothing to send.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// A queue of bytes:
///
/// ```text
///   buffer:  [ before ][ before ][ after the last ]
///                  |         |
///   shared:    payload 0  payload 1
/// ```
///
/// is sent as: first `before`, payload 0, second `before`, payload 1, the bytes after the last.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Headers and small contents, contiguous. Holds no memory while nothing is unsent.
    buffer: BytesMut,
    /// Large payloads, each with the number of buffer bytes that precede it.
    shared: VecDeque<Shared>,
    /// The sum of `shared`'s `before`: 0 <= claimed <= buffer.len().
    claimed: usize,
    /// The sum of `shared`'s payload bytes.
    shared_bytes: usize,
    /// Whether part of the buffer was sent since it was last empty.
    partly_sent: bool,
    /// The record that is partly sent, and how many of its bytes, header and padding included, are not.
    /// `None` if what is sent ends with a complete record.
    partial: Option<(Header, usize)>,
    /// Bytes queued since the connection was made.
    queued: u64,
}

#[derive(Debug)]
struct Shared {
    before: usize,
    payload: Bytes,
}

impl Output {
    /// Appends one record, copied.
    ///
    /// # Panics
    ///
    /// If the content has more than 65,535 bytes.
    pub(crate) fn record(
        &mut self,
        record_type: RecordType,
        id: Option<RequestId>,
        content: &[u8],
    ) {
        let header = Header::new(record_type, id, content.len()).encode();
        let buffer = self.buffer(HEADER_LENGTH + content.len());
        buffer.put_slice(&header);
        buffer.put_slice(content);
        self.queued += (HEADER_LENGTH + content.len()) as u64;
    }

    /// Appends a piece of a stream in as many records as necessary, copied. An empty piece makes no
    /// record, since that would end the stream.
    pub(crate) fn copied_stream(&mut self, record_type: RecordType, id: RequestId, data: &[u8]) {
        let mut rest = data;
        while rest.len() > MAX_CONTENT {
            let (full, after) = rest.split_at(FULL_CONTENT);
            self.record(record_type, Some(id), full);
            rest = after;
        }
        if !rest.is_empty() {
            self.record(record_type, Some(id), rest);
        }
    }

    /// Appends a piece of a stream in as many records as necessary; large contents are shared, not
    /// copied. An empty piece makes no record, since that would end the stream.
    pub(crate) fn stream(&mut self, record_type: RecordType, id: RequestId, mut data: Bytes) {
        while data.len() > MAX_CONTENT {
            let full = data.split_to(FULL_CONTENT);
            self.shared_record(record_type, id, full);
        }
        if data.len() > COPIED_PAYLOAD {
            self.shared_record(record_type, id, data);
        } else if !data.is_empty() {
            self.record(record_type, Some(id), &data);
        }
    }

    fn shared_record(&mut self, record_type: RecordType, id: RequestId, payload: Bytes) {
        let header = Header::new(record_type, Some(id), payload.len()).encode();
        self.buffer(HEADER_LENGTH).put_slice(&header);
        self.queued += (HEADER_LENGTH + payload.len()) as u64;
        self.shared_bytes += payload.len();
        let before = self.buffer.len() - self.claimed;
        self.claimed += before;
        self.shared.push_back(Shared { before, payload });
    }

    /// Lets `write` append a piece of a stream directly behind its header in the buffer. More than 65,535
    /// bytes become several records, at the cost of moving them; no bytes make no record.
    ///
    /// # Panics
    ///
    /// If `write` removes bytes that were there before. (If `write` itself panics, what it appended is
    /// removed.)
    pub(crate) fn in_place(
        &mut self,
        record_type: RecordType,
        id: RequestId,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let buffer = self.buffer(FIRST_CAPACITY);
        let start = buffer.len();
        let content_start = start + HEADER_LENGTH;
        buffer.put_bytes(0, HEADER_LENGTH);
        let appending = Appending { buffer, start, finished: false };
        write(appending.buffer);
        assert!(
            appending.buffer.len() >= content_start,
            "bytes queued earlier were removed from the output buffer"
        );
        let content_length = appending.finish() - content_start;
        if content_length == 0 {
            self.buffer.truncate(start);
            return;
        }
        let records = insert_headers(&mut self.buffer, start, record_type, id);
        self.queued += (records * HEADER_LENGTH + content_length) as u64;
    }

    /// Fills `slices` with what is to be written next; returns how many were filled.
    pub(crate) fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut put = |part: &'a [u8]| {
            if !part.is_empty() && filled < slices.len() {
                slices[filled] = IoSlice::new(part);
                filled += 1;
            }
            filled < slices.len()
        };
        let mut rest = &self.buffer[..];
        for shared in &self.shared {
            let (before, after) = rest.split_at(shared.before);
            rest = after;
            if !put(before) || !put(&shared.payload) {
                return filled;
            }
        }
        put(rest);
        filled
    }

    /// Drops the first `bytes` unsent bytes: they are written. A larger number counts as all of them.
    pub(crate) fn transmitted(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.unsent(), "more bytes were written than were unsent");
        if bytes >= self.unsent() {
            self.clear();
            return;
        }
        self.partly_sent = true;
        self.follow_records(bytes);
        let mut left = bytes;
        while let Some(shared) = self.shared.front_mut() {
            let before = left.min(shared.before);
            self.buffer.advance(before);
            shared.before -= before;
            self.claimed -= before;
            left -= before;
            let payload = left.min(shared.payload.len());
            shared.payload.advance(payload);
            self.shared_bytes -= payload;
            left -= payload;
            if shared.before > 0 || !shared.payload.is_empty() {
                return;
            }
            self.shared.pop_front();
        }
        self.buffer.advance(left);
    }

    /// Determines which record is partly sent once the first `bytes` unsent bytes, which are not all, are
    /// sent.
    fn follow_records(&mut self, bytes: usize) {
        let mut left = bytes;
        let mut position = match self.partial {
            Some((header, rest)) if left < rest => {
                self.partial = Some((header, rest - left));
                return;
            }
            Some((_, rest)) => {
                left -= rest;
                rest
            }
            None => 0,
        };
        self.partial = None;
        // Headers are never shared: they are in the buffer, in front of their content.
        let mut payloads = self.shared.iter();
        let mut next = payloads.next();
        // How many payload bytes precede `position`, and where the next payload begins.
        let (mut passed, mut payload_at) = (0, next.map_or(0, |shared| shared.before));
        while left > 0 {
            while let Some(shared) = next
                && payload_at < position
            {
                passed += shared.payload.len();
                next = payloads.next();
                payload_at += shared.payload.len() + next.map_or(0, |shared| shared.before);
            }
            let header = self.buffer.get(position - passed..).and_then(|it| it.first_chunk());
            let Some(Ok(header)) = header.map(|bytes| Header::decode(*bytes)) else {
                debug_assert!(false, "no record begins at {position}");
                return;
            };
            let length = HEADER_LENGTH
                + usize::from(header.content_length)
                + usize::from(header.padding_length);
            if left < length {
                self.partial = Some((header, length - left));
                return;
            }
            left -= length;
            position += length;
        }
    }

    /// The record that is partly sent, and how many of its bytes, header and padding included, are not.
    pub(crate) fn partial_record(&self) -> Option<(Header, usize)> {
        self.partial
    }

    /// Takes all unsent bytes in one copied piece.
    pub(crate) fn take_unsent(&mut self) -> Bytes {
        let mut taken = BytesMut::with_capacity(self.unsent());
        let mut rest = &self.buffer[..];
        for shared in &self.shared {
            let (before, after) = rest.split_at(shared.before);
            taken.put_slice(before);
            taken.put_slice(&shared.payload);
            rest = after;
        }
        taken.put_slice(rest);
        self.clear();
        taken.freeze()
    }

    /// Unsent bytes.
    pub(crate) fn unsent(&self) -> usize {
        self.buffer.len() + self.shared_bytes
    }

    /// Bytes queued so far.
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    /// Bytes written so far.
    pub(crate) fn sent(&self) -> u64 {
        self.queued - self.unsent() as u64
    }

    /// The buffer, with memory for about `expected` more bytes.
    #[inline]
    fn buffer(&mut self, expected: usize) -> &mut BytesMut {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE
                .try_with(Cell::take)
                .ok()
                .flatten()
                .unwrap_or_else(|| BytesMut::with_capacity(expected.max(FIRST_CAPACITY)));
        }
        &mut self.buffer
    }

    /// Forgets everything and releases the memory.
    fn clear(&mut self) {
        /// A queue of this many payloads is kept: 160 bytes.
        const KEPT_QUEUE: usize = 4;
        self.shared.clear();
        if self.shared.capacity() > KEPT_QUEUE {
            self.shared = VecDeque::new();
        }
        self.claimed = 0;
        self.shared_bytes = 0;
        self.partial = None;
        let mut buffer = std::mem::take(&mut self.buffer);
        // After a partial send, `capacity` no longer reflects the size of the allocation.
        let partly_sent = std::mem::take(&mut self.partly_sent);
        if !partly_sent && (1..=KEPT_CAPACITY).contains(&buffer.capacity()) {
            buffer.clear();
            // Fails on a thread that is ending, which has no use for the buffer.
            let _ = SPARE.try_with(|spare| spare.set(Some(buffer)));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A record being appended; removed if its writer panics, so that record boundaries stay intact.
struct Appending<'a> {
    buffer: &'a mut BytesMut,
    start: usize,
    finished: bool,
}

impl Appending<'_> {
    /// Keeps what was appended; returns the buffer's length.
    fn finish(mut self) -> usize {
        self.finished = true;
        self.buffer.len()
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.buffer.truncate(self.start);
        }
    }
}

/// Splits what is in the buffer after `start`, where room for one header was left, into records;
/// returns how many.
///
/// ```text
///   before:  [header][content.......................]
///   after:   [header][65,528 bytes][header][the rest]
/// ```
fn insert_headers(
    buffer: &mut BytesMut,
    start: usize,
    record_type: RecordType,
    id: RequestId,
) -> usize {
    let content_start = start + HEADER_LENGTH;
    let content_length = buffer.len() - content_start;
    let records =
        if content_length <= MAX_CONTENT { 1 } else { content_length.div_ceil(FULL_CONTENT) };
    buffer.put_bytes(0, (records - 1) * HEADER_LENGTH);
    // From the last to the first, so that nothing is overwritten before it is moved.
    for record in (0..records).rev() {
        let offset = record * FULL_CONTENT;
        let length =
            if records == 1 { content_length } else { (content_length - offset).min(FULL_CONTENT) };
        let from = content_start + offset;
        let to = from + record * HEADER_LENGTH;
        if record > 0 {
            buffer.copy_within(from..from + length, to);
        }
        let header = Header::new(record_type, Some(id), length).encode();
        buffer[to - HEADER_LENGTH..to].copy_from_slice(&header);
    }
    records
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const ID: RequestId = RequestId::ONE;

    /// The unsent bytes, taken in writes of at most `step` bytes and `slices` slices.
    fn taken(output: &mut Output, step: usize, slices: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while output.unsent() > 0 {
            let mut lent = vec![IoSlice::new(&[]); slices];
            let filled = output.transmit(&mut lent);
            assert!(filled > 0, "{} bytes are unsent, but no slice is filled", output.unsent());
            let before = taken.len();
            for slice in &lent[..filled] {
                assert!(!slice.is_empty());
                let room = step - (taken.len() - before);
                taken.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            let written = taken.len() - before;
            let (unsent, sent) = (output.unsent(), output.sent());
            output.transmitted(written);
            assert_eq!(output.unsent(), unsent - written);
            assert_eq!(output.sent(), sent + written as u64);
        }
        taken
    }

    /// The content lengths of the records in `bytes`, and their concatenated content.
    fn records(mut bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
        let (mut lengths, mut content) = (Vec::new(), Vec::new());
        while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
            let header = Header::decode(*header).unwrap();
            let (part, rest) = rest.split_at(usize::from(header.content_length));
            lengths.push(part.len());
            content.extend_from_slice(part);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "incomplete record");
        (lengths, content)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    fn fill(output: &mut Output) {
        output
            .in_place(RecordType::Stdout, ID, |out| out.extend_from_slice(b"Status: 200\r\n\r\n"));
        output.stream(RecordType::Stdout, ID, Bytes::from(pattern(150_000)));
        output.stream(RecordType::Stdout, ID, Bytes::from_static(b"small"));
        output.stream(RecordType::Stdout, ID, Bytes::from(pattern(COPIED_PAYLOAD + 1)));
        output.record(RecordType::Stdout, Some(ID), &[]);
        output.record(RecordType::EndRequest, Some(ID), &[0; 8]);
    }

    #[test]
    fn output_does_not_depend_on_write_sizes() {
        let mut output = Output::default();
        fill(&mut output);
        let whole = output.take_unsent();
        assert_eq!(output.unsent(), 0);
        let (lengths, content) = records(&whole);
        assert_eq!(lengths, [15, 65_528, 65_528, 18_944, 5, 4097, 0, 8]);
        assert_eq!(content[15..150_015], pattern(150_000));
        for (step, slices) in [(1 << 30, 64), (1 << 30, 1), (7, 3), (8, 64), (65_536, 2), (1000, 1)]
        {
            let mut output = Output::default();
            fill(&mut output);
            assert_eq!(taken(&mut output, step, slices), whole, "{step} bytes, {slices} slices");
        }
    }

    #[test]
    fn queueing_between_partial_writes_keeps_the_order() {
        let mut whole = Vec::new();
        let mut output = Output::default();
        let mut written = Vec::new();
        for round in 0..200_usize {
            let piece = vec![round as u8; 1 + (round * 997) % 9000];
            whole.extend_from_slice(&piece);
            output.stream(RecordType::Stdout, ID, Bytes::from(piece));
            let mut lent = [IoSlice::new(&[]); 2];
            let filled = output.transmit(&mut lent);
            let part =
                lent[..filled].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
            let part = &part[..part.len().min(4000)];
            written.extend_from_slice(part);
            let part = part.len();
            output.transmitted(part);
        }
        written.extend(taken(&mut output, 1 << 30, 64));
        assert_eq!(records(&written).1, whole);
    }

    #[test]
    fn the_partly_sent_record_is_known_after_every_write() {
        for step in [1, 3, 7, 8, 9, 1000, 65_535, 65_536, 70_000] {
            let mut output = Output::default();
            fill(&mut output);
            let mut whole = Vec::new();
            {
                let mut copy = Output::default();
                fill(&mut copy);
                whole.extend_from_slice(&copy.take_unsent());
            }
            // Where each record ends, by its header.
            let mut records = Vec::new();
            let mut at = 0;
            while at < whole.len() {
                let header = Header::decode(*whole[at..].first_chunk().unwrap()).unwrap();
                at += HEADER_LENGTH + usize::from(header.content_length);
                records.push((header, at));
            }
            let mut sent = 0;
            while output.unsent() > 0 {
                let now = step.min(output.unsent());
                output.transmitted(now);
                sent += now;
                let expected = records
                    .iter()
                    .find(|(_, end)| *end > sent)
                    .map(|(header, end)| (*header, end - sent))
                    .filter(|(header, rest)| {
                        *rest < HEADER_LENGTH + usize::from(header.content_length)
                    });
                assert_eq!(output.partial_record(), expected, "steps of {step}, {sent} sent");
            }
            assert_eq!(output.partial_record(), None);
        }
    }

    #[test]
    fn large_payloads_are_shared_and_small_pieces_are_contiguous() {
        let payload = Bytes::from(pattern(10_000));
        let mut output = Output::default();
        output.stream(RecordType::Stdout, ID, payload.clone());
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(output.transmit(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());

        let mut output = Output::default();
        output.in_place(RecordType::Stdout, ID, |out| out.extend_from_slice(b"head"));
        output.stream(RecordType::Stdout, ID, Bytes::from(pattern(COPIED_PAYLOAD)));
        output.record(RecordType::Stdout, Some(ID), &[]);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(output.transmit(&mut slices), 1);
    }

    #[test]
    fn records_are_split_correctly_around_the_largest_content() {
        let all = pattern(4 * MAX_CONTENT);
        for length in [
            0,
            1,
            COPIED_PAYLOAD,
            65_527,
            65_528,
            65_529,
            65_535,
            65_536,
            131_056,
            131_057,
            131_063,
            131_064,
            200_000,
        ] {
            let data = &all[..length];
            type Queue = fn(&mut Output, &[u8]);
            let ways: [(&str, Queue); 3] = [
                ("shared", |output, data| {
                    output.stream(RecordType::Stdout, ID, Bytes::copy_from_slice(data));
                }),
                ("copied", |output, data| output.copied_stream(RecordType::Stderr, ID, data)),
                ("in place", |output, data| {
                    output.in_place(RecordType::Stdout, ID, |out| out.extend_from_slice(data));
                }),
            ];
            for (way, queue) in ways {
                let mut output = Output::default();
                output.record(RecordType::Stdout, Some(ID), b"before");
                queue(&mut output, data);
                output.record(RecordType::Stdout, Some(ID), b"after");
                assert_eq!(output.queued(), output.unsent() as u64, "{way}, {length}");
                let (lengths, content) = records(&output.take_unsent());
                assert_eq!(content, [b"before", data, b"after"].concat(), "{way}, {length}");
                let parts = lengths.len() - 2;
                assert!(parts <= length.div_ceil(FULL_CONTENT), "{way}, {length}: {lengths:?}");
                assert!(!lengths.contains(&0), "{way}, {length}: {lengths:?}");
            }
        }
    }

    /// Pieces are split beforehand; should that be forgotten, a record whose header states less than its
    /// content must not be sent.
    #[test]
    fn a_record_longer_than_its_header_can_state_is_never_queued() {
        type Queue = fn(&mut Output, Vec<u8>);
        let ways: [(&str, Queue); 2] = [
            ("copied", |output, data| output.record(RecordType::Stdout, Some(ID), &data)),
            ("shared", |output, data| output.shared_record(RecordType::Stdout, ID, data.into())),
        ];
        for (way, queue) in ways {
            let mut output = Output::default();
            queue(&mut output, pattern(MAX_CONTENT));
            assert_eq!(records(&output.take_unsent()).0, [MAX_CONTENT], "{way}");
            let outcome =
                catch_unwind(AssertUnwindSafe(|| queue(&mut output, pattern(MAX_CONTENT + 1))));
            assert!(outcome.is_err(), "{way}");
            assert_eq!(output.unsent(), 0, "{way}");
        }
    }

    #[test]
    fn bytes_appended_by_a_panicking_writer_are_removed() {
        let mut output = Output::default();
        output.record(RecordType::Stdout, Some(ID), b"before");
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            output.in_place(RecordType::Stdout, ID, |out| {
                out.extend_from_slice(b"half");
                panic!("the writer gives up");
            });
        }));
        assert!(outcome.is_err());
        output.record(RecordType::Stdout, Some(ID), b"after");
        assert_eq!(records(&output.take_unsent()).1, b"beforeafter");
    }

    #[test]
    fn an_idle_output_returns_its_buffer_for_reuse() {
        let mut first = Output::default();
        first.record(RecordType::Stdout, Some(ID), b"hello");
        let memory = first.buffer.as_ptr();
        let unsent = first.unsent();
        first.transmitted(unsent);
        assert_eq!(first.buffer.capacity(), 0);
        let mut second = Output::default();
        second.record(RecordType::Stdout, Some(ID), b"hello");
        assert_eq!(second.buffer.as_ptr(), memory);
    }

    #[test]
    fn a_slow_reader_of_small_pieces_does_not_grow_the_buffer() {
        let mut output = Output::default();
        output.record(RecordType::Stdout, Some(ID), &[1; 1000]);
        for _ in 0..100_000 {
            output.record(RecordType::Stdout, Some(ID), &[1; 1000]);
            output.transmitted(1008);
        }
        assert!(output.buffer.capacity() < 16 * 1024, "{}", output.buffer.capacity());
    }
}
