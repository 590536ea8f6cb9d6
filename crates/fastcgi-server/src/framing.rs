//! Splits a stream of bytes into records: headers, contents, padding (FastCGI 1.0 §3.3).
//!
//! Knows where a record ends, but not what it means; `connection.rs` and `client.rs` request a header,
//! then say what they want of the content: pieces of it, eight bytes of it, all of it, or nothing.
//! Incomplete input is `None`, never an error.

use bytes::{Buf, Bytes};

use crate::record::{HEADER_LENGTH, Header};

/// The input of one connection.
///
/// ```text
///            position                 partial[..gathered] holds what was
///               v                     there of a header or a fixed body
///   ...read.....|..input..............
///               |<- content_left ->|<- padding_left ->| next header
/// ```
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// Input that is not consumed yet; empty (and holding no memory) between inputs.
    input: Bytes,
    /// Bytes consumed since the connection was made.
    position: u64,
    /// Where the current record's header begins.
    record_at: u64,
    /// The first bytes of an incomplete header or fixed body.
    partial: [u8; 8],
    /// How many bytes of `partial` are filled: 0 <= gathered < 8.
    gathered: u8,
    /// Content bytes of the current record that are not consumed.
    content_left: u16,
    /// Padding bytes of the current record that are not consumed.
    padding_left: u8,
}

impl Framing {
    /// Takes the next input. Unconsumed input, which a caller should not leave, is kept in front of it.
    pub(crate) fn handle_input(&mut self, input: Bytes) {
        if self.input.is_empty() {
            self.input = input;
        } else {
            self.input = [&self.input[..], &input[..]].concat().into();
        }
    }

    /// Returns the next record's header once it is complete. The previous record's content must have been
    /// consumed; its padding is skipped here.
    ///
    /// # Errors
    ///
    /// The version byte, if it is not 1.
    pub(crate) fn next_header(&mut self) -> Option<Result<Header, u8>> {
        debug_assert_eq!(self.content_left, 0, "content of the previous record was not consumed");
        if self.padding_left > 0 {
            let padding = self.input.len().min(usize::from(self.padding_left));
            self.padding_left -= padding as u8;
            self.consume(padding);
            if self.padding_left > 0 {
                return None;
            }
        }
        if self.gathered == 0 {
            self.record_at = self.position;
        }
        let bytes = self.eight_bytes()?;
        let header = Header::decode(bytes);
        if let Ok(header) = header {
            self.content_left = header.content_length;
            self.padding_left = header.padding_length;
        }
        Some(header)
    }

    /// Returns a fixed body once it is complete. Only for records of eight content bytes.
    pub(crate) fn fixed_body(&mut self) -> Option<[u8; 8]> {
        debug_assert_eq!(usize::from(self.content_left) + usize::from(self.gathered), 8);
        let body = self.eight_bytes();
        self.content_left = if body.is_some() { 0 } else { 8 - u16::from(self.gathered) };
        body
    }

    /// Returns as much of the content as has arrived, not copied; `None` if nothing has. The record is
    /// complete when [`content_left`](Self::content_left) is 0.
    pub(crate) fn content(&mut self) -> Option<Bytes> {
        let length = self.available_content();
        if length == 0 {
            return None;
        }
        self.content_left -= length as u16;
        self.position += length as u64;
        Some(self.input.split_to(length))
    }

    /// Appends as much of the content as has arrived to `block`; returns whether the record is complete.
    ///
    /// The common case, a stream in one record, is one allocation of the right size. Otherwise memory is
    /// allocated as bytes arrive: a header alone must not claim 64 KiB.
    pub(crate) fn gather_content(&mut self, block: &mut Vec<u8>) -> bool {
        /// Up to this size, memory for a record's stated length is reserved before its bytes arrive.
        const TRUSTED: usize = 8 * 1024;
        let length = self.available_content();
        let promised = usize::from(self.content_left);
        if block.is_empty() && (length == promised || promised <= TRUSTED) {
            block.reserve_exact(promised);
        }
        block.extend_from_slice(&self.input[..length]);
        self.skip(length)
    }

    /// Skips as much of the content as has arrived; returns whether the record is complete.
    pub(crate) fn skip_content(&mut self) -> bool {
        self.skip(self.available_content())
    }

    /// Content bytes of the current record still to come.
    pub(crate) fn content_left(&self) -> u16 {
        self.content_left
    }

    /// Where the current record begins, in bytes since the connection was made.
    pub(crate) fn record_at(&self) -> u64 {
        self.record_at
    }

    /// Returns whether the last record is fully consumed and nothing of the next has arrived.
    pub(crate) fn is_between_records(&self) -> bool {
        self.input.is_empty()
            && self.gathered == 0
            && self.content_left == 0
            && self.padding_left == 0
    }

    /// Releases the input, so that its memory can be used for the next read.
    pub(crate) fn release_input(&mut self) {
        if self.input.is_empty() {
            self.input = Bytes::new();
        }
    }

    /// Discards any input.
    pub(crate) fn discard_input(&mut self) {
        self.input = Bytes::new();
    }

    fn available_content(&self) -> usize {
        self.input.len().min(usize::from(self.content_left))
    }

    fn skip(&mut self, length: usize) -> bool {
        self.content_left -= length as u16;
        self.consume(length);
        self.content_left == 0
    }

    /// Takes eight bytes, directly from the input or gathered over several inputs.
    #[inline]
    fn eight_bytes(&mut self) -> Option<[u8; 8]> {
        const { assert!(HEADER_LENGTH == 8) }
        if self.gathered == 0
            && let Some(bytes) = self.input.first_chunk::<8>()
        {
            let bytes = *bytes;
            self.consume(8);
            return Some(bytes);
        }
        let gathered = usize::from(self.gathered);
        let length = self.input.len().min(8 - gathered);
        self.partial[gathered..gathered + length].copy_from_slice(&self.input[..length]);
        self.consume(length);
        if gathered + length < 8 {
            self.gathered = (gathered + length) as u8;
            return None;
        }
        self.gathered = 0;
        Some(self.partial)
    }

    #[inline]
    fn consume(&mut self, length: usize) {
        self.input.advance(length);
        self.position += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(input: &[u8]) -> Framing {
        let mut framing = Framing::default();
        framing.handle_input(Bytes::copy_from_slice(input));
        framing
    }

    #[test]
    fn content_is_a_slice_of_the_input() {
        let input = Bytes::from([&[1, 5, 0, 1, 0, 3, 2, 0][..], b"abc", &[9, 9], &[1; 8]].concat());
        let mut framing = Framing::default();
        framing.handle_input(input.clone());
        framing.next_header().unwrap().unwrap();
        let content = framing.content().unwrap();
        assert_eq!(content.as_ptr(), input[8..].as_ptr());
        assert_eq!(framing.content_left(), 0);
        assert_eq!(framing.next_header().unwrap().unwrap().record_type, 1);
        assert_eq!(framing.record_at(), 13);
        assert!(!framing.is_between_records(), "content of the second record is missing");
    }

    #[test]
    fn gathers_headers_from_single_bytes_and_skips_padding() {
        let mut framing = framing(&[]);
        for byte in [1, 5, 0, 1, 0, 0, 2] {
            framing.handle_input(Bytes::copy_from_slice(&[byte]));
            assert!(framing.next_header().is_none());
            assert!(!framing.is_between_records());
        }
        framing.handle_input(Bytes::from_static(&[0]));
        assert!(framing.next_header().unwrap().is_ok());
        for _ in 0..2 {
            assert!(!framing.is_between_records());
            framing.handle_input(Bytes::from_static(&[77]));
            assert!(framing.next_header().is_none());
        }
        assert!(framing.is_between_records());
    }

    #[test]
    fn announced_content_reserves_no_memory() {
        let mut framing = framing(&[1, 4, 0, 1, 0xff, 0xff, 0, 0, 1]);
        framing.next_header().unwrap().unwrap();
        let mut block = Vec::new();
        assert!(!framing.gather_content(&mut block));
        assert!(block.capacity() < 100, "{}", block.capacity());
    }

    #[test]
    fn early_input_is_kept() {
        let mut framing = framing(&[1, 5, 0, 1]);
        framing.handle_input(Bytes::from_static(&[0, 0, 0, 0]));
        assert!(framing.next_header().unwrap().is_ok());
    }
}
