//! What one program image leaves to the next in the same process: one enum, encoded by the server that
//! upgrades and by the signal handler that restarts after a crash, decoded by the image that follows.
//! That may be another version, so unknown words are ignored.

use std::os::fd::{OwnedFd, RawFd};

use process::reexec::{self, HandoverWords, InheritedWord as Word};

/// One item of the handover state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// The listen socket, unless it is on descriptor 0.
    Listener(RawFd),
    /// A keep-alive connection; nothing of its next request has been read.
    KeepAlive(RawFd),
    /// A connection whose request has been answered: it only has to be read to its end.
    Unread(RawFd),
    /// Why the previous image ended.
    Reason(Reason),
    /// The part whose code was running at the crash or stall.
    Part(&'a str),
    /// The launcher's file when the web server started the process; see `decide.rs`.
    Origin(&'a str),
}

/// Why a program image was replaced by the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A new version, a new configuration, or a touched launcher.
    Upgrade,
    /// A fatal signal.
    Crash,
    /// The event loop stalled.
    Stall,
}

// The words are those of earlier versions of the program, which hand over to this one and, after a downgrade, take
// over.
const LISTENER: &str = "listen";
const KEEP_ALIVE: &str = "keep";
const UNREAD: &str = "drain";
const DESCRIPTORS: &[&str] = &[LISTENER, KEEP_ALIVE, UNREAD];
const REASON: &str = "why";
const PART: &str = "label";
const ORIGIN: &str = "origin";

impl Reason {
    const ALL: [Reason; 3] = [Reason::Upgrade, Reason::Crash, Reason::Stall];

    const fn word(self) -> &'static str {
        match self {
            Reason::Upgrade => "renewed",
            Reason::Crash => "crashed",
            Reason::Stall => "stuck",
        }
    }
}

/// An empty handover state.
pub(crate) const fn no_words() -> HandoverWords {
    HandoverWords::new(DESCRIPTORS)
}

impl Item<'_> {
    /// Appends this item to the handover state. Returns whether there was room. Async-signal-safe.
    pub(crate) fn encode(self, words: &mut HandoverWords) -> bool {
        match self {
            Item::Listener(fd) => words.descriptor(LISTENER, fd),
            Item::KeepAlive(fd) => words.descriptor(KEEP_ALIVE, fd),
            Item::Unread(fd) => words.descriptor(UNREAD, fd),
            Item::Reason(reason) => words.text(REASON, reason.word()),
            Item::Part(name) => words.text(PART, name),
            Item::Origin(file) => words.text(ORIGIN, file),
        }
    }
}

/// Everything that was handed over.
#[derive(Debug, Default)]
pub(crate) struct HandoverState {
    /// See [`Item::Listener`].
    pub(crate) listener: Option<OwnedFd>,
    /// See [`Item::KeepAlive`].
    pub(crate) keep_alive: Vec<OwnedFd>,
    /// See [`Item::Unread`].
    pub(crate) unread: Vec<OwnedFd>,
    /// See [`Item::Reason`].
    pub(crate) reason: Option<Reason>,
    /// See [`Item::Part`].
    pub(crate) part: Option<String>,
    /// See [`Item::Origin`].
    pub(crate) origin: Option<String>,
}

impl HandoverState {
    /// Takes the handover state, once, at startup; `None` in a process that has just been started.
    pub(crate) fn take() -> Option<HandoverState> {
        Some(HandoverState::decode(reexec::take_inherited(DESCRIPTORS)?))
    }

    fn decode(words: Vec<Word>) -> HandoverState {
        let mut inherited = HandoverState::default();
        for word in words {
            match word {
                Word::Descriptor(name, fd) => match name.as_str() {
                    LISTENER => inherited.listener = Some(fd),
                    KEEP_ALIVE => inherited.keep_alive.push(fd),
                    UNREAD => inherited.unread.push(fd),
                    // Unknown, so the descriptor is closed.
                    _ => {}
                },
                Word::Text(name, value) => match name.as_str() {
                    REASON => {
                        let named = Reason::ALL.into_iter().find(|reason| reason.word() == value);
                        inherited.reason = named.or(inherited.reason);
                    }
                    PART => inherited.part = Some(value),
                    ORIGIN => inherited.origin = Some(value),
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

    /// Decodes items as the next image does, with other descriptors.
    fn decoded(items: &[Item<'_>]) -> HandoverState {
        let mut words = no_words();
        for item in items {
            assert!(item.encode(&mut words), "{item:?}");
        }
        let words = words.as_text().split(' ').map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            match value.parse::<RawFd>() {
                Ok(_) => Word::Descriptor(name.to_owned(), null()),
                Err(_) => Word::Text(name.to_owned(), value.to_owned()),
            }
        });
        HandoverState::decode(words.collect())
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn round_trips() {
        for reason in Reason::ALL {
            let inherited = decoded(&[
                Item::Listener(3),
                Item::KeepAlive(4),
                Item::KeepAlive(5),
                Item::Unread(6),
                Item::Reason(reason),
                Item::Part("checksum"),
                Item::Origin("12-34"),
            ]);
            assert!(inherited.listener.is_some());
            assert_eq!((inherited.keep_alive.len(), inherited.unread.len()), (2, 1));
            assert_eq!(inherited.reason, Some(reason));
            assert_eq!(inherited.part.as_deref(), Some("checksum"));
            assert_eq!(inherited.origin.as_deref(), Some("12-34"));
        }
    }

    #[test]
    fn unknown_words_are_ignored() {
        let text = |name: &str, value: &str| Word::Text(name.to_owned(), value.to_owned());
        let inherited = HandoverState::decode(vec![
            text(REASON, "stuck"),
            text(REASON, "bored"),
            text("of-tomorrow", "1"),
            text("pid", "1"),
            Word::Descriptor("of-tomorrow".to_owned(), null()),
        ]);
        assert_eq!(inherited.reason, Some(Reason::Stall));
        assert!(inherited.listener.is_none());
    }
}
