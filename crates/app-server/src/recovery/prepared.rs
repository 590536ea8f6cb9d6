//! The answers to send when the process cannot go on, word for word, in memory that is only read.

use std::io;

use sys::mapping::{Published, seal};

use super::in_flight::{REPLY_FORMATS, ReplyFormat};
use crate::error_report::PLACEHOLDER;

/// Bytes to send, with the places that are filled in then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// What to send.
    pub(crate) bytes: Vec<u8>,
    /// Where the request's id goes, in two bytes, the higher first. At most 4 places.
    pub(crate) ids: Vec<usize>,
    /// How many bytes are for a request whose answer has no body (HEAD); all, unless this says less.
    pub(crate) without_body: Option<usize>,
}

/// What to send in which case, for one transport.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    /// To whoever was running when the signal came.
    pub(crate) failed: Reply,
    /// To the others.
    pub(crate) interrupted: Reply,
    /// To whoever was running when the loop stalled.
    pub(crate) stalled: Reply,
    /// Ends a response that has begun, behind a whole record. Without it the connection is closed.
    pub(crate) cut: Option<Reply>,
    /// Whether to end it so also when nobody else is answered on the connection. Else that is closed, which
    /// more web servers understand.
    pub(crate) cut_when_alone: bool,
}

/// Puts the answers of a transport ready; in place of those that were there before.
///
/// # Errors
/// When there is no memory for them. The ones before stay.
pub(crate) fn prepare(format: ReplyFormat, replies: &Replies) -> io::Result<()> {
    PREPARED[format as usize].publish(PreparedReplies {
        failed: PreparedReply::seal(&replies.failed)?,
        interrupted: PreparedReply::seal(&replies.interrupted)?,
        stalled: PreparedReply::seal(&replies.stalled)?,
        cut: replies.cut.as_ref().map(PreparedReply::seal).transpose()?,
        cut_when_alone: replies.cut_when_alone,
    })
}

/// What was prepared for a transport, of which the number is given. Async-signal-safe.
pub(super) fn prepared(format: usize) -> &'static PreparedReplies {
    PREPARED.get(format).and_then(Published::get).unwrap_or(&PreparedReplies::NOTHING)
}

/// A row a transport.
static PREPARED: [Published<PreparedReplies>; REPLY_FORMATS] =
    [const { Published::nothing() }; REPLY_FORMATS];

/// [`Replies`], as the handler finds them.
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

/// [`Reply`], as the handler finds it.
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
        for (place, at) in prepared.references.iter_mut().zip(references) {
            *place = Some(at);
        }
        let ids = reply.ids.iter().filter(|at| **at + 2 <= bytes.len()).map(|at| *at as u32);
        for (place, at) in prepared.ids.iter_mut().zip(ids) {
            *place = Some(at);
        }
        Ok(prepared)
    }

    /// Gives the page to `send` piece by piece, with id and reference in their places, as long as that says
    /// yes. Says whether there is a page and all of it was sent. Async-signal-safe, if `send` is.
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
        // Through a small buffer, in which the places are filled in. A place may lie across the border of two
        // pieces.
        let mut piece = [0; 4096];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            let piece = &mut piece[..now.len()];
            piece.copy_from_slice(now);
            for place in self.ids.iter().flatten() {
                put_at(piece, at, *place, &id.to_be_bytes());
            }
            for place in self.references.iter().flatten() {
                put_at(piece, at, *place, reference);
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

/// Puts `bytes`, which belong at `place` of the whole, into the piece that begins at `at`.
fn put_at(piece: &mut [u8], at: usize, place: u32, bytes: &[u8]) {
    for (offset, byte) in bytes.iter().enumerate() {
        let to = (place as usize + offset).checked_sub(at).and_then(|at| piece.get_mut(at));
        if let Some(to) = to {
            *to = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_across_the_border_of_two_pieces_are_filled_in() {
        let mut whole = Vec::new();
        for at in [0, 4, 8] {
            let mut piece = *b"....";
            put_at(&mut piece, at, 3, b"abcdef");
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, b"...abcdef...");
    }

    #[test]
    fn a_reply_is_sent_with_its_places_filled_in() {
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
