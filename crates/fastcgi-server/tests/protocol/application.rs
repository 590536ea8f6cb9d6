//! An application that responds as soon as it has everything, and reports what it received.

use bytes::Bytes;
use fastcgi_server::{CloseWhen, Connection, Event, Limits, Request, RequestId, Role};

use crate::wire::{read_records, text};

/// When the application responds to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Responses {
    /// When its input is complete (for a refused or aborted one: at once).
    AtTheEnd,
    /// As soon as it receives it.
    AtOnce,
    /// Never.
    Never,
}

/// The outcome of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The events, with adjacent pieces of one body merged.
    pub(crate) events: Vec<Event>,
    /// What the connection wanted to write.
    pub(crate) output: Vec<u8>,
    pub(crate) close_when: CloseWhen,
    pub(crate) is_between_requests: bool,
    pub(crate) active_requests: usize,
}

impl Outcome {
    /// The events, one per line.
    pub(crate) fn received(&self) -> Vec<String> {
        self.events.iter().map(show).collect()
    }

    /// The records written, one per line.
    pub(crate) fn said(&self) -> Vec<String> {
        read_records(&self.output)
    }
}

/// Feeds a conversation in the given pieces. Output is written only at the end.
pub(crate) fn converse<'a>(
    limits: &Limits,
    responses: Responses,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut connection = Connection::new(limits.clone());
    let mut events = Vec::new();
    for piece in pieces {
        connection.handle_input(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.poll_event() {
            if let Some(id) = is_to_be_answered(responses, &event, &events) {
                response(&mut connection, id);
            }
            push_merged(&mut events, event);
        }
    }
    check_ledger(&connection);
    Outcome {
        events,
        close_when: connection.close_when(),
        is_between_requests: connection.is_between_requests(),
        active_requests: connection.active_requests(),
        output: connection.take_unsent().to_vec(),
    }
}

/// Asserts that a conversation has the same outcome however it is split; returns that.
pub(crate) fn converse_in_all_cuts(
    name: &str,
    limits: &Limits,
    responses: Responses,
    bytes: &[u8],
) -> Outcome {
    all_cuts(
        name,
        bytes,
        |pieces| converse(limits, responses, pieces.iter().copied()),
        |outcome| format!("{:#?}\n{:#?}", outcome.received(), outcome.said()),
    )
}

/// Asserts that `receive` gives the same result for bytes in one piece, byte by byte, split in two anywhere
/// (long ones at 200 to 400 places) and split at random; returns that. `show` makes it readable.
pub(crate) fn all_cuts<T: PartialEq>(
    name: &str,
    bytes: &[u8],
    receive: impl Fn(&[&[u8]]) -> T,
    show: impl Fn(&T) -> String,
) -> T {
    let whole = receive(&[bytes]);
    let same = |cut: &str, pieces: &[&[u8]]| {
        let outcome = receive(pieces);
        assert!(outcome == whole, "{name}: {cut}: {}\nbut whole: {}", show(&outcome), show(&whole));
    };
    same("byte by byte", &bytes.chunks(1).collect::<Vec<_>>());
    let step = if bytes.len() <= 1500 { 1 } else { bytes.len().div_ceil(400).max(7) };
    for cut in (0..=bytes.len()).step_by(step) {
        let (first, second) = bytes.split_at(cut);
        same(&format!("cut at {cut}"), &[first, second]);
    }
    for seed in 1..=20 {
        same(&format!("random cuts {seed}"), &random_pieces(bytes, seed));
    }
    whole
}

/// Splits into pieces of 0 to about 2, 20, 200, … bytes, deterministically for each seed.
pub(crate) fn random_pieces(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let largest = 2 * 10_u64.pow((seed % 5) as u32);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = (random() % (largest + 1)).min(rest.len() as u64) as usize;
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// An event as a line.
pub(crate) fn show(event: &Event) -> String {
    match event {
        Event::Request(Request { id, role, keep_connection, params }) => {
            let keep = if *keep_connection { " keep" } else { "" };
            let pairs: String = params
                .iter()
                .map(|(name, value)| format!(" {}={}", text_or_empty(name), text_or_empty(value)))
                .collect();
            format!("request {id} {role}{keep}:{pairs}")
        }
        Event::Refused { id, reason } => format!("refused {id}: {reason:?}"),
        Event::Stdin { id, data } => format!("stdin {id} {}", text(data)),
        Event::StdinEnd { id } => format!("stdin {id} end"),
        Event::Data { id, data } => format!("data {id} {}", text(data)),
        Event::DataEnd { id } => format!("data {id} end"),
        Event::Abort { id } => format!("abort {id}"),
        Event::Failed(error) => format!("failed: {error}"),
    }
}

fn text_or_empty(bytes: &[u8]) -> String {
    if bytes.is_empty() { String::new() } else { text(bytes) }
}

/// Appends an event; a further piece of a body is merged with the piece before it.
pub(crate) fn push_merged(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), &event) {
        (Some(Event::Stdin { id: last, data }), Event::Stdin { id, data: more })
        | (Some(Event::Data { id: last, data }), Event::Data { id, data: more })
            if last == id =>
        {
            *data = [&data[..], &more[..]].concat().into();
        }
        _ => events.push(event),
    }
}

fn is_to_be_answered(responses: Responses, event: &Event, before: &[Event]) -> Option<RequestId> {
    let role_of = |wanted: RequestId| {
        before.iter().rev().find_map(|event| match event {
            Event::Request(Request { id, role, .. }) if *id == wanted => Some(*role),
            _ => None,
        })
    };
    let last_request = |wanted: RequestId| {
        before.iter().rposition(|event| matches!(event, Event::Request(r) if r.id == wanted))
    };
    match (responses, event) {
        (Responses::Never, _) => None,
        (Responses::AtOnce, Event::Request(request)) => Some(request.id),
        (Responses::AtTheEnd, Event::Request(request)) => {
            (request.role == Role::Authorizer).then_some(request.id)
        }
        (_, Event::Refused { id, .. } | Event::Abort { id }) => Some(*id),
        (Responses::AtTheEnd, Event::StdinEnd { id }) => match role_of(*id) {
            Some(Role::Filter) => {
                before[last_request(*id)?..].contains(&Event::DataEnd { id: *id }).then_some(*id)
            }
            _ => Some(*id),
        },
        (Responses::AtTheEnd, Event::DataEnd { id }) => {
            before[last_request(*id)?..].contains(&Event::StdinEnd { id: *id }).then_some(*id)
        }
        _ => None,
    }
}

fn response(connection: &mut Connection, id: RequestId) {
    assert!(connection.stdout_in_place(id, |out| out.extend_from_slice(b"Status: 200\r\n\r\n")));
    assert!(connection.end_request(id, 0));
    assert!(!connection.end_request(id, 0), "an id is ended only once");
    assert!(!connection.stdout(id, Bytes::from_static(b"late")));
}

/// What must hold after any input.
pub(crate) fn check_ledger(connection: &Connection) {
    let limit = usize::from(connection.limits().requests_per_connection);
    assert!(connection.active_requests() <= limit);
    if connection.has_failed() {
        assert_eq!(connection.active_requests(), 0);
        assert_eq!(connection.close_when(), CloseWhen::Now);
    }
    if connection.active_requests() > 0 {
        assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
        assert!(!connection.is_between_requests());
    }
}
