//! Why a connection cannot continue.
//!
//! Everything here is the *peer's* fault and ends the connection, not the process. What ends only one
//! request is a [`Refusal`](crate::Refusal); misuse of this crate's methods changes nothing and returns
//! `false`.

use std::fmt;

use crate::record::{RecordType, RequestId, VERSION};

/// What was wrong with a connection's input, and where. Displays as one sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// What was wrong.
    pub problem: Problem,
    /// Where the record in question begins: bytes since the connection was made.
    pub record_at: u64,
}

/// What a peer did that makes the rest of its bytes meaningless.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A record with a protocol version other than 1 (FastCGI 1.0 §3.3): the peer does not speak FastCGI,
    /// or record boundaries were lost.
    Version {
        /// The version byte.
        found: u8,
    },
    /// A record of fixed content with a different length (§4.2, §5.1, §5.4, §5.5).
    BodyLength {
        /// Which record.
        record: RecordType,
        /// The content length it must have.
        expected: u16,
        /// The content length it had.
        found: u16,
    },
    /// A name or value that extends beyond the end of its stream or record (§3.4).
    PairLength {
        /// The stream or record.
        record: RecordType,
        /// The request, if it belongs to one.
        id: Option<RequestId>,
        /// Where the pair begins in the stream's content.
        pair_at: usize,
    },
    /// BEGIN_REQUEST for an id whose request is active (§3.3): from here on, records can no longer be
    /// attributed.
    DuplicateBegin {
        /// The id.
        id: RequestId,
    },
    /// STDIN or DATA before the end of PARAMS (§6.2, §6.4).
    BeforeParamsEnd {
        /// The request.
        id: RequestId,
        /// The record that came too early.
        record: RecordType,
    },
    /// More content for a stream that had ended (§3.3).
    AfterStreamEnd {
        /// The request.
        id: RequestId,
        /// The stream.
        record: RecordType,
    },
    /// A record that only the other side may send (§3.3), for an active request.
    WrongDirection {
        /// The request.
        id: RequestId,
        /// The record.
        record: RecordType,
    },
    /// The peer sends queries but does not read the replies ([`Limits::reply_bytes`](crate::Limits)).
    RepliesUnread {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (record at byte {} of the connection)", self.problem, self.record_at)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Version { found } => write!(
                formatter,
                "the peer speaks FastCGI version {found} or another protocol; the only version is {VERSION}"
            ),
            Problem::BodyLength { record, expected, found } => {
                write!(formatter, "{record} has {found} content bytes instead of {expected}")
            }
            Problem::PairLength { record, id: Some(id), pair_at } => write!(
                formatter,
                "the name-value pair at byte {pair_at} of request {id}'s {record} extends beyond the end of the stream"
            ),
            Problem::PairLength { record, id: None, pair_at } => write!(
                formatter,
                "the name-value pair at byte {pair_at} of {record} extends beyond the end of the record"
            ),
            Problem::DuplicateBegin { id } => {
                write!(formatter, "request {id} was started again before it ended")
            }
            Problem::BeforeParamsEnd { id, record } => {
                write!(formatter, "{record} of request {id} came before the end of its PARAMS")
            }
            Problem::AfterStreamEnd { id, record } => {
                write!(formatter, "{record} of request {id} continued after its end")
            }
            Problem::WrongDirection { id, record } => {
                write!(formatter, "{record} for request {id} may not be sent by this side")
            }
            Problem::RepliesUnread { limit } => write!(
                formatter,
                "the peer leaves more than {limit} bytes of replies to its own queries unread"
            ),
        }
    }
}

impl std::error::Error for ConnectionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_and_where_in_one_sentence() {
        let error = ConnectionError { problem: Problem::Version { found: 71 }, record_at: 48 };
        assert_eq!(
            error.to_string(),
            "the peer speaks FastCGI version 71 or another protocol; the only version is 1 \
             (record at byte 48 of the connection)"
        );
    }
}
