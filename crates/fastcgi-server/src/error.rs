//! Why a connection cannot go on.
//!
//! Everything here is the *peer's* doing and ends the connection, not the process. What ends one
//! request alone is a [`Refusal`](crate::Refusal); misuse of our own methods changes nothing and
//! returns `false`.

use std::fmt;

use crate::record::{RecordType, RequestId, VERSION};

/// What was wrong with a connection's input, and where. Its text is one sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// What was wrong.
    pub problem: Problem,
    /// Where the record concerned begins: bytes since the connection was made.
    pub record_at: u64,
}

/// What a peer did that makes the rest of its bytes meaningless.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A record of a protocol version other than 1 (FastCGI 1.0 §3.3): no FastCGI at all, or
    /// record borders were lost.
    Version {
        /// The version byte.
        found: u8,
    },
    /// A record of fixed content with another length (§4.2, §5.1, §5.4, §5.5).
    BodyLength {
        /// Which record.
        record: RecordType,
        /// The content bytes it must have.
        expected: u16,
        /// The content bytes it had.
        found: u16,
    },
    /// A name or value that would reach beyond the end of its stream or record (§3.4).
    PairLength {
        /// The stream or record.
        record: RecordType,
        /// The request, when it belongs to one.
        id: Option<RequestId>,
        /// Where the pair begins in the stream's content.
        pair_at: usize,
    },
    /// BEGIN_REQUEST for an id whose request is not over (§3.3): from here on nobody can tell
    /// whose records are whose.
    BegunTwice {
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
    /// More content for a stream that was ended (§3.3).
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
    /// The peer asks, and does not read the answers ([`Limits::reply_bytes`](crate::Limits)).
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
                "the peer speaks FastCGI version {found}, or no FastCGI: only version {VERSION} exists"
            ),
            Problem::BodyLength { record, expected, found } => {
                write!(formatter, "{record} has {found} content bytes where {expected} belong")
            }
            Problem::PairLength { record, id: Some(id), pair_at } => write!(
                formatter,
                "the name-value pair at byte {pair_at} of request {id}'s {record} is longer than the rest of the stream"
            ),
            Problem::PairLength { record, id: None, pair_at } => write!(
                formatter,
                "the name-value pair at byte {pair_at} of {record} is longer than the rest of the record"
            ),
            Problem::BegunTwice { id } => {
                write!(formatter, "request {id} was begun again before it was ended")
            }
            Problem::BeforeParamsEnd { id, record } => {
                write!(formatter, "{record} of request {id} came before the end of its PARAMS")
            }
            Problem::AfterStreamEnd { id, record } => {
                write!(formatter, "{record} of request {id} went on after its end")
            }
            Problem::WrongDirection { id, record } => {
                write!(formatter, "{record} for request {id} came from the wrong side")
            }
            Problem::RepliesUnread { limit } => write!(
                formatter,
                "the peer leaves more than {limit} bytes of answers to its own questions unread"
            ),
        }
    }
}

impl std::error::Error for ConnectionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_that_says_what_and_where() {
        let error = ConnectionError { problem: Problem::Version { found: 71 }, record_at: 48 };
        assert_eq!(
            error.to_string(),
            "the peer speaks FastCGI version 71, or no FastCGI: only version 1 exists \
             (record at byte 48 of the connection)"
        );
    }
}
