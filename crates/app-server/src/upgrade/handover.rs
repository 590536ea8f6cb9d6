//! What this process had before it became this program: its listening socket, connections, and why.
//!
//! The words are those of `event_loop::exec`; whoever writes them (`renewal.rs`, the crash guard's handler)
//! and this file have to agree, also across versions: a word that is not known is passed over.

use std::os::fd::OwnedFd;

use event_loop::exec::{self, Inherited as Word};

/// What was taken over.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// The listening socket, unless it is on descriptor 0.
    pub(crate) listen: Option<OwnedFd>,
    /// Kept connections, nothing of their next request read.
    pub(crate) keep: Vec<OwnedFd>,
    /// Connections that have had their answer: only to be read to their end.
    pub(crate) drain: Vec<OwnedFd>,
    /// Why the program before this one ended.
    pub(crate) why: Option<Why>,
    /// Whose code was running when it crashed or got stuck.
    #[allow(dead_code, reason = "the quarantine reads it")]
    pub(crate) label: Option<String>,
    /// The launcher's file when the web server started this process; see `renewal.rs`.
    pub(crate) origin: Option<String>,
}

/// Why a program ended in favour of this one, in the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A new version, a new configuration, or a touch.
    Renewed,
    /// A fatal signal.
    Crashed,
    /// The loop did not come round.
    Stuck,
}

/// The names of the words.
pub(crate) mod word {
    pub(crate) const LISTEN: &str = "listen";
    pub(crate) const KEEP: &str = "keep";
    pub(crate) const DRAIN: &str = "drain";
    pub(crate) const WHY: &str = "why";
    pub(crate) const RENEWED: &str = "renewed";
    pub(crate) const CRASHED: &str = "crashed";
    pub(crate) const STUCK: &str = "stuck";
    pub(crate) const LABEL: &str = "label";
    pub(crate) const ORIGIN: &str = "origin";
}

impl Inherited {
    /// Takes it over, once, at the start; `None` in a process that has just been started.
    pub(crate) fn take() -> Option<Inherited> {
        Some(Inherited::read(exec::take_inherited()?))
    }

    fn read(words: Vec<Word>) -> Inherited {
        let mut inherited = Inherited::default();
        for word in words {
            match word {
                Word::Descriptor(name, fd) => match name.as_str() {
                    word::LISTEN => inherited.listen = Some(fd),
                    word::KEEP => inherited.keep.push(fd),
                    word::DRAIN => inherited.drain.push(fd),
                    // Closed: nobody knows what it is for.
                    _ => {}
                },
                Word::Text(name, value) => match (name.as_str(), value.as_str()) {
                    (word::WHY, word::RENEWED) => inherited.why = Some(Why::Renewed),
                    (word::WHY, word::CRASHED) => inherited.why = Some(Why::Crashed),
                    (word::WHY, word::STUCK) => inherited.why = Some(Why::Stuck),
                    (word::LABEL, _) => inherited.label = Some(value),
                    (word::ORIGIN, _) => inherited.origin = Some(value),
                    _ => {}
                },
            }
        }
        inherited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_unknown_ones_passed_over() {
        let text = |name: &str, value: &str| Word::Text(name.to_owned(), value.to_owned());
        let fd = |name: &str| {
            let file = std::fs::File::open("/dev/null").unwrap();
            Word::Descriptor(name.to_owned(), file.into())
        };
        let inherited = Inherited::read(vec![
            fd(word::LISTEN),
            fd(word::KEEP),
            fd(word::KEEP),
            fd(word::DRAIN),
            text(word::WHY, word::STUCK),
            text(word::LABEL, "checksum"),
            text(word::ORIGIN, "12-34"),
            text("of-tomorrow", "1"),
            text("pid", "1"),
        ]);
        assert!(inherited.listen.is_some());
        assert_eq!((inherited.keep.len(), inherited.drain.len()), (2, 1));
        assert_eq!(inherited.why, Some(Why::Stuck));
        assert_eq!(inherited.label.as_deref(), Some("checksum"));
        assert_eq!(inherited.origin.as_deref(), Some("12-34"));
        assert_eq!(Inherited::read(vec![text(word::WHY, "bored")]).why, None);
    }
}
