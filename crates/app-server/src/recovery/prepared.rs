//! The answers to send when the process cannot go on, word for word, in memory that is only read.

use std::io;

use sys::mapping::{Published, seal};

use super::in_flight::{REPLY_FORMATS, ReplyFormat};
use crate::error_report::PLACEHOLDER;

/// Bytes to send, with the places that are filled in then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// What to send.
    pub(crate) bytes: Vec<u8>,
    /// Where the request's id goes, in two bytes, the higher first. At most 4 places.
    pub(crate) ids: Vec<usize>,
    /// How many bytes are for a request whose answer has no body (HEAD); all, unless this says less.
    pub(crate) without_body: Option<usize>,
}

/// What to send in which case, for one transport.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// To whoever was running when the signal came.
    pub(crate) failed: Answer,
    /// To the others.
    pub(crate) interrupted: Answer,
    /// To whoever was running when the loop stalled.
    pub(crate) stalled: Answer,
    /// Ends a response that has begun, behind a whole record. Without it the connection is closed.
    pub(crate) cut: Option<Answer>,
    /// Whether to end it so also when nobody else is answered on the connection. Else that is closed, which
    /// more web servers understand.
    pub(crate) cut_when_alone: bool,
}

/// Puts the answers of a transport ready; in place of those that were there before.
///
/// # Errors
/// When there is no memory for them. The ones before stay.
pub(crate) fn prepare(format: ReplyFormat, answers: &Answers) -> io::Result<()> {
    PREPARED[format as usize].publish(Prepared {
        failed: Page::seal(&answers.failed)?,
        interrupted: Page::seal(&answers.interrupted)?,
        stalled: Page::seal(&answers.stalled)?,
        cut: answers.cut.as_ref().map(Page::seal).transpose()?,
        cut_when_alone: answers.cut_when_alone,
    })
}

/// What was prepared for a transport, of which the number is given. Async-signal-safe.
pub(super) fn prepared(format: usize) -> &'static Prepared {
    PREPARED.get(format).and_then(Published::get).unwrap_or(&Prepared::NOTHING)
}

/// A row a transport.
static PREPARED: [Published<Prepared>; REPLY_FORMATS] =
    [const { Published::nothing() }; REPLY_FORMATS];

/// [`Answers`], as the handler finds them.
#[derive(Clone, Copy)]
pub(super) struct Prepared {
    pub(super) failed: Page,
    pub(super) interrupted: Page,
    pub(super) stalled: Page,
    pub(super) cut: Option<Page>,
    pub(super) cut_when_alone: bool,
}

impl Prepared {
    const NOTHING: Prepared = Prepared {
        failed: Page::NOTHING,
        interrupted: Page::NOTHING,
        stalled: Page::NOTHING,
        cut: None,
        cut_when_alone: false,
    };
}

/// [`Answer`], as the handler finds it.
#[derive(Clone, Copy)]
pub(super) struct Page {
    bytes: &'static [u8],
    without_body: usize,
    ids: [Option<u32>; 4],
    references: [Option<u32>; 4],
}

impl Page {
    const NOTHING: Page =
        Page { bytes: &[], without_body: 0, ids: [None; 4], references: [None; 4] };

    fn seal(answer: &Answer) -> io::Result<Page> {
        let bytes = &answer.bytes;
        let mut page = Page {
            bytes: seal(bytes)?,
            without_body: answer.without_body.unwrap_or(bytes.len()).min(bytes.len()),
            ..Page::NOTHING
        };
        let references = bytes
            .windows(PLACEHOLDER.len())
            .enumerate()
            .filter(|(_, window)| *window == PLACEHOLDER.as_bytes())
            .map(|(at, _)| at as u32);
        for (place, at) in page.references.iter_mut().zip(references) {
            *place = Some(at);
        }
        let ids = answer.ids.iter().filter(|at| **at + 2 <= bytes.len()).map(|at| *at as u32);
        for (place, at) in page.ids.iter_mut().zip(ids) {
            *place = Some(at);
        }
        Ok(page)
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
    fn a_page_is_sent_with_its_places_filled_in() {
        let answer = Answer {
            bytes: format!("ID {PLACEHOLDER} body").into_bytes(),
            ids: vec![0],
            without_body: Some(22),
        };
        let page = Page::seal(&answer).unwrap();
        let reference = [b'r'; PLACEHOLDER.len()];
        for (without_body, expected) in
            [(false, "\x01\x02 rrrrrrrrrrrrrrrrrr body"), (true, "\x01\x02 rrrrrrrrrrrrrrrrrr ")]
        {
            let mut sent = Vec::new();
            assert!(page.fill_in(0x0102, &reference, without_body, |piece| {
                sent.extend_from_slice(piece);
                true
            }));
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
        }
        assert!(!page.fill_in(1, &reference, false, |_| false));
        assert!(!Page::NOTHING.fill_in(1, &reference, false, |_| true));
    }
}
