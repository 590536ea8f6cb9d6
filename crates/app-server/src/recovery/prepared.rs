//! The replies to send when the process cannot continue, byte for byte, in read-only memory.

use std::io;

use sys::mapping::{Published, seal};

use super::tables::{REPLY_FORMATS, ReplyFormat};
use crate::error_report::PLACEHOLDER;

/// Bytes to send, and the offsets at which values are filled in when they are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// What to send.
    pub(crate) bytes: Vec<u8>,
    /// The offsets of the request's id, in two bytes, big-endian. At most 4.
    pub(crate) ids: Vec<usize>,
    /// How many of the bytes to send if the response has no body (HEAD). Default: all.
    pub(crate) without_body: Option<usize>,
}

/// The replies of one format, by case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    /// To the request that was running when the signal came.
    pub(crate) failed: Reply,
    /// To all others.
    pub(crate) interrupted: Reply,
    /// To the request that was running when the loop stalled.
    pub(crate) stalled: Reply,
    /// Ends a response that has started, after a complete record. Without it, the connection is closed.
    pub(crate) cut: Option<Reply>,
    /// Whether to send `cut` even if no other request on the connection gets a reply. Otherwise the connection is
    /// closed, which more web servers recognize as a truncated response.
    pub(crate) cut_when_alone: bool,
}

/// Prepares the replies of a format. They replace any former ones.
///
/// # Errors
///
/// If there is no memory for them. The former ones stay.
pub(crate) fn prepare(format: ReplyFormat, replies: &Replies) -> io::Result<()> {
    PREPARED[format as usize].publish(PreparedReplies {
        failed: PreparedReply::seal(&replies.failed)?,
        interrupted: PreparedReply::seal(&replies.interrupted)?,
        stalled: PreparedReply::seal(&replies.stalled)?,
        cut: replies.cut.as_ref().map(PreparedReply::seal).transpose()?,
        cut_when_alone: replies.cut_when_alone,
    })
}

/// Returns the replies prepared for a format, given as a number. Async-signal-safe.
pub(super) fn prepared(format: usize) -> &'static PreparedReplies {
    PREPARED.get(format).and_then(Published::get).unwrap_or(&PreparedReplies::NOTHING)
}

/// By [`ReplyFormat`].
static PREPARED: [Published<PreparedReplies>; REPLY_FORMATS] =
    [const { Published::empty() }; REPLY_FORMATS];

/// [`Replies`] as the handler finds them.
#[derive(Clone, Copy)]
pub(super) struct PreparedReplies {
    pub(super) failed: PreparedReply,
    pub(super) interrupted: PreparedReply,
    pub(super) stalled: PreparedReply,
    pub(super) cut: Option<PreparedReply>,
    pub(super) cut_when_alone: bool,
}

impl PreparedReplies {
    const NOTHING: PreparedReplies = PreparedReplies {
        failed: PreparedReply::NOTHING,
        interrupted: PreparedReply::NOTHING,
        stalled: PreparedReply::NOTHING,
        cut: None,
        cut_when_alone: false,
    };
}

/// [`Reply`] as the handler finds it.
#[derive(Clone, Copy)]
pub(super) struct PreparedReply {
    bytes: &'static [u8],
    without_body: usize,
    ids: [Option<u32>; 4],
    references: [Option<u32>; 4],
}

impl PreparedReply {
    const NOTHING: PreparedReply =
        PreparedReply { bytes: &[], without_body: 0, ids: [None; 4], references: [None; 4] };

    fn seal(reply: &Reply) -> io::Result<PreparedReply> {
        let bytes = &reply.bytes;
        let mut prepared = PreparedReply {
            bytes: seal(bytes)?,
            without_body: reply.without_body.unwrap_or(bytes.len()).min(bytes.len()),
            ..PreparedReply::NOTHING
        };
        let references = bytes
            .windows(PLACEHOLDER.len())
            .enumerate()
            .filter(|(_, window)| *window == PLACEHOLDER.as_bytes())
            .map(|(at, _)| at as u32);
        for (slot, at) in prepared.references.iter_mut().zip(references) {
            *slot = Some(at);
        }
        let ids = reply.ids.iter().filter(|at| **at + 2 <= bytes.len()).map(|at| *at as u32);
        for (slot, at) in prepared.ids.iter_mut().zip(ids) {
            *slot = Some(at);
        }
        Ok(prepared)
    }

    /// Passes the reply to `send` piece by piece, with id and reference filled in, until `send` returns false.
    /// Returns whether there is a reply and all of it was sent. Async-signal-safe if `send` is.
    pub(super) fn fill_in(
        &self,
        id: u16,
        reference: &[u8],
        without_body: bool,
        mut send: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let length = if without_body { self.without_body } else { self.bytes.len() };
        let mut rest = &self.bytes[..length];
        let mut at = 0;
        // Copied through a small buffer, because the memory is read-only. A value may lie across two pieces.
        let mut piece = [0; 4096];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            let piece = &mut piece[..now.len()];
            piece.copy_from_slice(now);
            for offset in self.ids.iter().flatten() {
                put_at(piece, at, *offset, &id.to_be_bytes());
            }
            for offset in self.references.iter().flatten() {
                put_at(piece, at, *offset, reference);
            }
            if !send(piece) {
                return false;
            }
            at += now.len();
            rest = later;
        }
        !self.bytes.is_empty()
    }
}

/// Writes `bytes`, which belong at `offset` of the whole, into the piece that starts at `at`, as far as they lie in
/// it.
fn put_at(piece: &mut [u8], at: usize, offset: u32, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        let to = (offset as usize + index).checked_sub(at).and_then(|at| piece.get_mut(at));
        if let Some(to) = to {
            *to = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_across_several_pieces_are_filled_in() {
        let mut whole = Vec::new();
        for at in [0, 4, 8] {
            let mut piece = *b"....";
            put_at(&mut piece, at, 3, b"abcdef");
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, b"...abcdef...");
    }

    #[test]
    fn a_reply_is_sent_with_id_and_reference_filled_in() {
        let reply = Reply {
            bytes: format!("ID {PLACEHOLDER} body").into_bytes(),
            ids: vec![0],
            without_body: Some(22),
        };
        let prepared = PreparedReply::seal(&reply).unwrap();
        let reference = [b'r'; PLACEHOLDER.len()];
        for (without_body, expected) in
            [(false, "\x01\x02 rrrrrrrrrrrrrrrrrr body"), (true, "\x01\x02 rrrrrrrrrrrrrrrrrr ")]
        {
            let mut sent = Vec::new();
            assert!(prepared.fill_in(0x0102, &reference, without_body, |piece| {
                sent.extend_from_slice(piece);
                true
            }));
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
        }
        assert!(!prepared.fill_in(1, &reference, false, |_| false));
        assert!(!PreparedReply::NOTHING.fill_in(1, &reference, false, |_| true));
    }
}
