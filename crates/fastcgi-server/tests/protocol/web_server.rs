//! A web server that has started three requests and reports what it received for them: the mirror of
//! `application.rs`.

use bytes::Bytes;
use fastcgi_server::Role;
use fastcgi_server::client::{Connection, Event};

use crate::application::all_cuts;
use crate::wire::{id, text};

/// The started requests.
pub(crate) const STARTED: std::ops::RangeInclusive<u16> = 1..=3;

/// The outcome of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The events, with adjacent pieces of one stream merged.
    pub(crate) events: Vec<Event>,
    pub(crate) active_requests: usize,
    pub(crate) is_between_records: bool,
}

impl Outcome {
    /// The events, one per line.
    pub(crate) fn received(&self) -> Vec<String> {
        self.events.iter().map(show).collect()
    }
}

/// A connection on which requests 1 to 3 wait for their responses.
pub(crate) fn started() -> Connection {
    let mut connection = Connection::new();
    for number in STARTED {
        assert!(connection.begin(id(number), Role::Responder, true));
        assert!(connection.params_end(id(number)));
        assert!(connection.stdin_end(id(number)));
    }
    connection
}

/// Feeds what an application sends, in the given pieces.
pub(crate) fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut connection = started();
    let events = poll_all(&mut connection, pieces);
    Outcome {
        events,
        active_requests: connection.active_requests(),
        is_between_records: connection.is_between_records(),
    }
}

/// Feeds an existing connection; returns its events, with adjacent pieces of one stream merged.
pub(crate) fn poll_all<'a>(
    connection: &mut Connection,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces {
        connection.handle_input(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.poll_event() {
            push_merged(&mut events, event);
        }
    }
    if connection.has_failed() {
        assert_eq!(connection.active_requests(), 0);
    }
    events
}

/// Asserts that a response gives the same result however it is split; returns that.
pub(crate) fn receive_in_all_cuts(name: &str, bytes: &[u8]) -> Outcome {
    all_cuts(
        name,
        bytes,
        |pieces| receive(pieces.iter().copied()),
        |outcome| format!("{:#?}", outcome.received()),
    )
}

/// An event as a line.
pub(crate) fn show(event: &Event) -> String {
    match event {
        Event::Stdout { id, data } => format!("stdout {id} {}", text(data)),
        Event::Stderr { id, data } => format!("stderr {id} {}", text(data)),
        Event::End { id, app_status, protocol_status } => {
            format!("end {id} {app_status} {protocol_status:?}")
        }
        Event::Values(values) => {
            let pairs: Vec<_> =
                values.iter().map(|(name, value)| (text(name), text(value))).collect();
            format!("values {pairs:?}")
        }
        Event::UnknownType(number) => format!("unknown type {number}"),
        Event::Failed(error) => format!("failed: {error}"),
    }
}

fn push_merged(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), &event) {
        (Some(Event::Stdout { id: last, data }), Event::Stdout { id, data: more })
        | (Some(Event::Stderr { id: last, data }), Event::Stderr { id, data: more })
            if last == id =>
        {
            *data = [&data[..], &more[..]].concat().into();
        }
        _ => events.push(event),
    }
}
