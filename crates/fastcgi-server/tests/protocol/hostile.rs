//! Whatever arrives, the connection does not panic, does not loop, and does not hold more than its
//! limits.

use bytes::Bytes;
use fastcgi_server::{Connection, Event, Limits, client};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::application::{Responses, check_ledger, converse, random_pieces};
use crate::wire::*;

/// Feeds bytes to a connection whose application acts on `whims`, and checks the invariants.
fn survive(bytes: &[u8], seed: u64, whims: &[u8]) {
    let limits = Limits {
        params_bytes: 300,
        requests_per_connection: 3,
        reply_bytes: 500,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits);
    let mut whims = whims.iter().copied().cycle();
    let mut failed = false;
    for piece in random_pieces(bytes, seed) {
        connection.handle_input(Bytes::copy_from_slice(piece));
        let mut events = 0;
        while let Some(event) = connection.poll_event() {
            assert!(!failed, "an event after the failure: {event:?}");
            events += 1;
            assert!(events <= piece.len() + 1, "more events than bytes");
            let about = match event {
                Event::Request(request) => {
                    assert!(request.params.len_bytes() <= 300);
                    request.params.iter().count();
                    request.id
                }
                Event::Stdin { id, data } | Event::Data { id, data } => {
                    assert!(!data.is_empty());
                    id
                }
                Event::Refused { id, .. }
                | Event::StdinEnd { id }
                | Event::DataEnd { id }
                | Event::Abort { id } => id,
                Event::Failed(error) => {
                    assert!(!error.to_string().is_empty());
                    failed = true;
                    continue;
                }
            };
            assert!(connection.is_active(about), "an event of an inactive request");
            match whims.next().unwrap_or(0) % 8 {
                0 | 1 => assert!(connection.end_request(about, 0)),
                2 => assert!(connection.stdout(about, Bytes::from(vec![0; 5000]))),
                3 => assert!(connection.stderr(about, b"oops")),
                4 => connection.transmitted(connection.unsent() / 2),
                5 => connection.transmitted(connection.unsent()),
                _ => {}
            }
            check_ledger(&connection);
        }
        check_ledger(&connection);
    }
    let output = connection.take_unsent();
    assert!(connection.has_failed() == failed);
    let mut web_server = client::Connection::new();
    web_server.handle_input(output);
    while web_server.poll_event().is_some() {}
}

/// Valid conversations, to be corrupted.
fn good_conversations() -> Vec<Vec<u8>> {
    vec![
        Wire::new().get(1, CLOSE).bytes,
        Wire::padded(8).get(1, KEEP).get(2, KEEP).bytes,
        Wire::padded(8)
            .begin(1, RESPONDER, KEEP)
            .begin(2, FILTER, KEEP)
            .params(1, &[("A", &"b".repeat(200))])
            .record(GET_VALUES, 0, &block(&[("FCGI_MAX_REQS", "")]))
            .params(2, &[("", ""), ("A", "b")])
            .stdin(2, b"a body", 3)
            .stdin(1, b"another body", 5)
            .stream(DATA, 2, b"file", 2)
            .begin(3, AUTHORIZER, CLOSE)
            .params(3, &[])
            .record(ABORT, 3, b"")
            .bytes,
    ]
}

/// A record whose fields make sense most of the time.
fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![20 => 1_u8..=11, 1 => any::<u8>()];
    let id = prop_oneof![10 => 0_u16..5, 1 => any::<u16>()];
    let content = prop_oneof![
        3 => Just(vec![]),
        3 => Just(vec![0, 1, 0, 0, 0, 0, 0, 0]),
        1 => Just(vec![0, 3, 1, 0, 0, 0, 0, 0]),
        2 => vec(any::<u8>(), 0..20),
        1 => Just(block(&[("FCGI_MAX_REQS", ""), ("B", "c")])),
        1 => Just(vec![0; 250]),
    ];
    let padding = prop_oneof![3 => Just(0_u8), 1 => 0..20_u8];
    (kind, id, content, padding).prop_map(|(kind, id, content, padding)| {
        Wire::new().record_with_padding(kind, id, &content, padding).bytes
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(bytes in vec(any::<u8>(), 0..300), seed: u64, whims in vec(any::<u8>(), 1..9)) {
        survive(&bytes, seed, &whims);
    }

    #[test]
    fn arbitrary_records_are_survived(records in vec(any_record(), 0..60), seed: u64, whims in vec(any::<u8>(), 1..9)) {
        survive(&records.concat(), seed, &whims);
    }

    #[test]
    fn spoiled_conversations_are_survived(
        which in 0..3_usize,
        spoils in vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6),
        seed: u64,
        whims in vec(any::<u8>(), 1..9),
    ) {
        let mut bytes = good_conversations().swap_remove(which);
        for (index, how, byte) in spoils {
            let index = index.index(bytes.len());
            match how {
                0 => bytes[index] = byte,
                1 => bytes.insert(index, byte),
                _ => drop(bytes.remove(index)),
            }
        }
        survive(&bytes, seed, &whims);
    }

    #[test]
    fn arbitrary_records_are_the_same_in_every_cut(records in vec(any_record(), 0..40), seed: u64) {
        let bytes = records.concat();
        let limits = Limits { params_bytes: 300, requests_per_connection: 3, ..Limits::default() };
        for responses in [Responses::AtTheEnd, Responses::AtOnce, Responses::Never] {
            let whole = converse(&limits, responses, [&bytes[..]]);
            prop_assert_eq!(&converse(&limits, responses, bytes.chunks(1)), &whole);
            prop_assert_eq!(&converse(&limits, responses, random_pieces(&bytes, seed)), &whole);
        }
    }

    #[test]
    fn a_web_server_survives_arbitrary_applications(records in vec(any_record(), 0..40), seed: u64) {
        let mut web_server = client::Connection::new();
        for number in 1..4 {
            web_server.begin(id(number), fastcgi_server::Role::Responder, true);
        }
        for piece in random_pieces(&records.concat(), seed) {
            web_server.handle_input(Bytes::copy_from_slice(piece));
            while web_server.poll_event().is_some() {}
        }
    }
}

#[test]
fn a_flood_of_empty_records_uses_no_memory() {
    let mut connection = Connection::new(Limits::default());
    let begin = Wire::new().begin(1, RESPONDER, KEEP).params(1, &[]).record(STDIN, 1, b"");
    connection.handle_input(begin.bytes.into());
    while connection.poll_event().is_some() {}
    let flood =
        Bytes::from(Wire::new().record(STDIN, 1, b"").record(STDIN, 7, b"").bytes.repeat(100_000));
    for _ in 0..10 {
        connection.handle_input(flood.clone());
        assert_eq!(connection.poll_event(), None);
    }
    assert_eq!(connection.unsent(), 0);
    assert!(connection.is_active(id(1)));
}

#[test]
fn a_peer_that_reads_its_replies_may_query_forever() {
    let mut connection = Connection::new(Limits { reply_bytes: 200, ..Limits::default() });
    let question = Bytes::from(Wire::new().record(99, 0, b"").bytes);
    for _ in 0..10_000 {
        connection.handle_input(question.clone());
        assert_eq!(connection.poll_event(), None);
        // Ten replies behind: slow, but reading.
        connection.transmitted(connection.unsent().saturating_sub(160));
    }
    assert!(!connection.has_failed());
}

#[test]
fn parameters_of_many_requests_stay_within_their_limits() {
    let limits = Limits { params_bytes: 1000, requests_per_connection: 3, ..Limits::default() };
    let mut wire = Wire::new();
    for number in 1..=10 {
        wire = wire.begin(number, RESPONDER, KEEP);
        for _ in 0..20 {
            wire = wire.record(PARAMS, number, &[0; 100]);
        }
    }
    let outcome = converse(&limits, Responses::Never, [&wire.bytes[..]]);
    assert_eq!(outcome.active_requests, 3);
    assert_eq!(outcome.received().len(), 3, "each is refused once: {:?}", outcome.received());
    assert_eq!(outcome.said().len(), 7);
}

#[test]
fn parameters_may_fill_their_limit_to_the_last_byte() {
    let parameters = block(&[("A", &"b".repeat(93)), ("C", "d")]);
    assert_eq!(parameters.len(), 100);
    for (params_bytes, expected) in [(100, "request"), (99, "refused")] {
        let limits = Limits { params_bytes, ..Limits::default() };
        for cut in [0, 1, 50, 99] {
            let (first, second) = parameters.split_at(cut);
            let mut wire = Wire::new().begin(1, RESPONDER, KEEP);
            if !first.is_empty() {
                wire = wire.record(PARAMS, 1, first);
            }
            let wire = wire.record(PARAMS, 1, second).record(PARAMS, 1, b"");
            let received = converse(&limits, Responses::Never, [&wire.bytes[..]]).received();
            assert_eq!(received.len(), 1, "{received:?}");
            assert!(
                received[0].starts_with(expected),
                "{params_bytes} bytes, cut at {cut}: {received:?}"
            );
        }
    }
}
