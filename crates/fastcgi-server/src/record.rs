//! The record: its eight-byte header, its types, and the ids of requests.
//!
//! Only the header is described here (FastCGI 1.0 §3.3); what the contents mean is in `bodies.rs` (fixed
//! ones) and `pairs.rs`; where records begin and end in a stream of bytes is determined in `framing.rs`.

use std::fmt;
use std::num::NonZeroU16;

/// The only version of the protocol (FastCGI 1.0 §8, `FCGI_VERSION_1`).
pub(crate) const VERSION: u8 = 1;

/// Bytes in a record's header (§8, `FCGI_HEADER_LEN`).
pub(crate) const HEADER_LENGTH: usize = 8;

/// The maximum number of content bytes of one record: its length is a 16-bit number (§3.3).
pub(crate) const MAX_CONTENT: usize = 65_535;

/// The maximum number of content bytes that this crate puts into one record of several: the largest multiple of eight
/// that fits, so that the following records stay aligned as §3.3 recommends, without padding.
pub(crate) const FULL_CONTENT: usize = 65_528;

/// The number that a web server gave to one request of a connection; never zero, which denotes the
/// connection itself (FastCGI 1.0 §3.3, "null request id").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(NonZeroU16);

impl RequestId {
    /// The id that nearly every web server uses for nearly every request.
    pub const ONE: RequestId = RequestId(NonZeroU16::MIN);

    /// Creates an id from a number; `None` for zero.
    pub const fn new(number: u16) -> Option<RequestId> {
        match NonZeroU16::new(number) {
            Some(number) => Some(RequestId(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RequestId({})", self.0)
    }
}

/// What a record is about (FastCGI 1.0 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordType {
    /// The web server begins a request (§5.1).
    BeginRequest = 1,
    /// The web server no longer wants a response (§5.4).
    AbortRequest = 2,
    /// The application has finished a request (§5.5).
    EndRequest = 3,
    /// Stream of the request's name-value pairs (§5.2).
    Params = 4,
    /// Stream of the request's body (§5.3).
    Stdin = 5,
    /// Stream of the response (§5.3).
    Stdout = 6,
    /// Stream of the application's error messages (§5.3).
    Stderr = 7,
    /// Stream of the file that a filter processes (§5.3).
    Data = 8,
    /// The web server asks what the application can do (§4.1).
    GetValues = 9,
    /// The reply to GET_VALUES (§4.1).
    GetValuesResult = 10,
    /// The application does not know a management record's type (§4.2).
    UnknownType = 11,
}

impl RecordType {
    /// Every type, in the order of their numbers.
    pub const ALL: [RecordType; 11] = [
        RecordType::BeginRequest,
        RecordType::AbortRequest,
        RecordType::EndRequest,
        RecordType::Params,
        RecordType::Stdin,
        RecordType::Stdout,
        RecordType::Stderr,
        RecordType::Data,
        RecordType::GetValues,
        RecordType::GetValuesResult,
        RecordType::UnknownType,
    ];

    /// Parses a type byte; `None` for a number that the specification does not define.
    pub const fn from_byte(byte: u8) -> Option<RecordType> {
        match byte {
            1..=11 => Some(RecordType::ALL[byte as usize - 1]),
            _ => None,
        }
    }
}

impl fmt::Display for RecordType {
    /// Writes the specification's name, without its `FCGI_`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            RecordType::BeginRequest => "BEGIN_REQUEST",
            RecordType::AbortRequest => "ABORT_REQUEST",
            RecordType::EndRequest => "END_REQUEST",
            RecordType::Params => "PARAMS",
            RecordType::Stdin => "STDIN",
            RecordType::Stdout => "STDOUT",
            RecordType::Stderr => "STDERR",
            RecordType::Data => "DATA",
            RecordType::GetValues => "GET_VALUES",
            RecordType::GetValuesResult => "GET_VALUES_RESULT",
            RecordType::UnknownType => "UNKNOWN_TYPE",
        })
    }
}

/// A record's header, as it is on the wire (FastCGI 1.0 §3.3):
///
/// ```text
///   0         1      2       3      4         5          6         7
/// +---------+------+-------+------+---------+----------+---------+----------+
/// | version | type |  request id  | content length     | padding | reserved |
/// +---------+------+-------+------+---------+----------+---------+----------+
/// ```
///
/// Any type byte and any id can be represented; the reader decides what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte; [`RecordType::from_byte`] knows eleven of them.
    pub record_type: u8,
    /// The request's id, or `None` in management records (zero on the wire).
    pub id: Option<RequestId>,
    /// Bytes of content after the header, 0 to 65,535.
    pub content_length: u16,
    /// Padding bytes after the content, 0 to 255; ignored.
    pub padding_length: u8,
}

impl Header {
    /// Creates the header of a record without padding.
    ///
    /// # Panics
    ///
    /// If the content has more than 65,535 bytes. A length truncated to 16 bits would make the peer parse the
    /// rest of the content as records.
    pub const fn new(
        record_type: RecordType,
        id: Option<RequestId>,
        content_length: usize,
    ) -> Self {
        assert!(content_length <= MAX_CONTENT, "a record has at most 65,535 content bytes");
        let content_length = content_length as u16;
        Header { record_type: record_type as u8, id, content_length, padding_length: 0 }
    }

    /// Parses a header.
    ///
    /// # Errors
    ///
    /// The version byte, if it is not 1: no other byte can be trusted then.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Header, u8> {
        let [version, record_type, id_1, id_0, length_1, length_0, padding_length, _reserved] =
            bytes;
        if version != VERSION {
            return Err(version);
        }
        Ok(Header {
            record_type,
            id: RequestId::new(u16::from_be_bytes([id_1, id_0])),
            content_length: u16::from_be_bytes([length_1, length_0]),
            padding_length,
        })
    }

    /// Encodes the header for the wire.
    pub const fn encode(self) -> [u8; HEADER_LENGTH] {
        let id = match self.id {
            Some(id) => id.get().to_be_bytes(),
            None => [0, 0],
        };
        let length = self.content_length.to_be_bytes();
        [VERSION, self.record_type, id[0], id[1], length[0], length[1], self.padding_length, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_numbers_of_section_8() {
        for (index, record_type) in RecordType::ALL.into_iter().enumerate() {
            assert_eq!(record_type as usize, index + 1, "{record_type}");
            assert_eq!(RecordType::from_byte(record_type as u8), Some(record_type));
        }
        assert_eq!(RecordType::from_byte(0), None);
        for unknown in 12..=255 {
            assert_eq!(RecordType::from_byte(unknown), None);
        }
    }

    #[test]
    fn headers_are_in_network_byte_order() {
        let bytes = [1, 6, 0x12, 0x34, 0xab, 0xcd, 7, 0];
        let header = Header::decode(bytes).unwrap();
        assert_eq!(header.record_type, RecordType::Stdout as u8);
        assert_eq!(header.id.map(RequestId::get), Some(0x1234));
        assert_eq!(header.content_length, 0xabcd);
        assert_eq!(header.padding_length, 7);
        assert_eq!(header.encode(), bytes);
    }

    #[test]
    fn rejects_a_length_of_17_bits() {
        for (length, bytes) in [(0, [0, 0]), (65_535, [0xff, 0xff])] {
            let header = Header::new(RecordType::Stdin, None, length).encode();
            assert_eq!(header[4..6], bytes);
        }
        for length in [65_536, 99_000, 1 << 17, usize::MAX] {
            let header = std::panic::catch_unwind(|| Header::new(RecordType::Stdin, None, length));
            assert!(header.is_err(), "{length} bytes: {header:?}");
        }
    }

    #[test]
    fn the_reserved_byte_is_ignored_and_other_versions_are_rejected() {
        assert!(Header::decode([1, 9, 0, 0, 0, 0, 0, 255]).is_ok());
        assert_eq!(Header::decode([0; 8]), Err(0));
        assert_eq!(Header::decode([2, 1, 0, 1, 0, 8, 0, 0]), Err(2));
    }
}
