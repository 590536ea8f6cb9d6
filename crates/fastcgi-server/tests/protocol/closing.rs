//! When a connection is to be closed, and what happens to input that is no longer wanted.

use bytes::Bytes;
use fastcgi_server::{CloseWhen, Connection, Event, Limits};

use crate::wire::*;

/// Feeds a conversation to a connection; returns its events.
fn fed(connection: &mut Connection, wire: &Wire) -> Vec<Event> {
    connection.handle_input(Bytes::copy_from_slice(&wire.bytes));
    std::iter::from_fn(|| connection.poll_event()).collect()
}

#[test]
fn a_connection_is_closed_once_its_request_has_ended_and_its_input_is_read() {
    let mut connection = Connection::new(Limits::default());
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
    assert!(connection.is_between_requests());

    fed(&mut connection, &Wire::new().begin(1, RESPONDER, CLOSE).params(1, &[]));
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
    assert!(!connection.is_between_requests());
    assert!(!connection.is_input_over(id(1)));

    assert!(connection.stdout(id(1), Bytes::from_static(b"answer")));
    assert!(connection.end_request(id(1), 7));
    assert_eq!(connection.close_when(), CloseWhen::AfterInput);
    assert!(!connection.is_active(id(1)));
    assert_eq!(
        read_records(&connection.take_unsent()),
        ["STDOUT 1 answer", "STDOUT 1 end", "END_REQUEST 1 app 7 protocol 0"]
    );

    let rest =
        Wire::new().record(STDIN, 1, b"nobody wants this").record_with_padding(STDIN, 1, b"", 3);
    let (first, last) = rest.bytes.split_at(rest.bytes.len() - 1);
    assert_eq!(fed(&mut connection, &Wire::new().raw(first)), []);
    assert_eq!(connection.close_when(), CloseWhen::AfterInput, "a byte of padding is missing");
    assert_eq!(fed(&mut connection, &Wire::new().raw(last)), []);
    assert_eq!(connection.close_when(), CloseWhen::Now);
    assert!(connection.is_input_over(id(1)));
}

#[test]
fn an_authorizer_has_no_input_to_wait_for() {
    let mut connection = Connection::new(Limits::default());
    fed(&mut connection, &Wire::new().begin(1, AUTHORIZER, CLOSE).params(1, &[]));
    connection.end_request(id(1), 0);
    assert_eq!(connection.close_when(), CloseWhen::Now);
}

#[test]
fn an_aborted_request_has_no_input_to_wait_for() {
    let mut connection = Connection::new(Limits::default());
    let wire = Wire::new().begin(1, RESPONDER, CLOSE).params(1, &[]).record(ABORT, 1, b"");
    let events = fed(&mut connection, &wire.record(STDIN, 1, b"late").record(ABORT, 1, b""));
    assert_eq!(events[1..], [Event::Abort { id: id(1) }]);
    assert!(connection.is_active(id(1)));
    connection.end_request(id(1), 0);
    assert_eq!(connection.close_when(), CloseWhen::Now);
}

#[test]
fn a_refused_request_without_keep_conn_is_drained_too() {
    let mut connection = Connection::new(Limits::default());
    assert_eq!(fed(&mut connection, &Wire::new().begin(1, 99, CLOSE)), []);
    assert_eq!(connection.close_when(), CloseWhen::AfterInput);
    assert_eq!(connection.active_requests(), 0);
    fed(&mut connection, &Wire::new().params(1, &[("A", "b")]));
    assert_eq!(connection.close_when(), CloseWhen::AfterInput);
    fed(&mut connection, &Wire::new().stdin(1, b"body", 2));
    assert_eq!(connection.close_when(), CloseWhen::Now);
}

#[test]
fn the_connection_stays_open_until_its_last_request_has_ended() {
    let mut connection = Connection::new(Limits::default());
    fed(&mut connection, &Wire::new().get(1, KEEP).get(2, CLOSE).get(3, KEEP));
    connection.end_request(id(2), 0);
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
    connection.end_request(id(1), 0);
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
    connection.end_request(id(3), 0);
    assert_eq!(connection.close_when(), CloseWhen::Now);
}

#[test]
fn requests_ended_early_use_bounded_memory() {
    // With a known role, ended by the application; otherwise refused by the connection itself.
    for role in [RESPONDER, 99] {
        let limits = Limits { requests_per_connection: 4, ..Limits::default() };
        let mut connection = Connection::new(limits);
        for number in 1..=5000 {
            fed(&mut connection, &Wire::new().begin(number, role, CLOSE));
            if role == RESPONDER {
                fed(&mut connection, &Wire::new().params(number, &[]));
                assert!(connection.end_request(id(number), 0), "{number}");
            }
            connection.take_unsent();
        }
        assert_eq!(connection.active_requests(), 0);
        // The first four are drained, the others are forgotten.
        for number in 1..=4 {
            assert_eq!(connection.close_when(), CloseWhen::AfterInput, "{role}, {number}");
            fed(&mut connection, &Wire::new().params(number, &[]).stdin(number, b"", 1));
        }
        assert_eq!(connection.close_when(), CloseWhen::Now, "{role}");
    }
}

#[test]
fn a_drained_id_can_be_reused() {
    let mut connection = Connection::new(Limits::default());
    fed(&mut connection, &Wire::new().begin(1, RESPONDER, CLOSE).params(1, &[]));
    connection.end_request(id(1), 0);
    let events = fed(&mut connection, &Wire::new().get(1, CLOSE));
    assert_eq!(events.len(), 2);
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
    connection.end_request(id(1), 0);
    assert_eq!(connection.close_when(), CloseWhen::Now);
}

#[test]
fn a_request_ended_in_the_middle_of_a_record_has_no_more_events() {
    let wire = Wire::new().begin(1, RESPONDER, KEEP).params(1, &[]).stdin(1, &[b'x'; 1000], 1000);
    let wire = wire.get(2, KEEP);
    let (first, second) = wire.bytes.split_at(200);
    let mut connection = Connection::new(Limits::default());
    let events = fed(&mut connection, &Wire::new().raw(first));
    assert!(matches!(events.last(), Some(Event::Stdin { .. })));
    connection.end_request(id(1), 0);
    let events = fed(&mut connection, &Wire::new().raw(second));
    assert!(matches!(&events[..], [Event::Request(_), Event::StdinEnd { .. }]), "{events:?}");
}

#[test]
fn stderr_is_closed_when_it_was_used() {
    let mut connection = Connection::new(Limits::default());
    fed(&mut connection, &Wire::new().get(1, KEEP).get(2, KEEP));
    assert!(connection.stderr(id(1), b"a warning"));
    assert!(connection.stderr(id(2), b""));
    connection.end_request(id(1), 0);
    connection.end_request(id(2), 0);
    assert_eq!(
        read_records(&connection.take_unsent()),
        [
            "STDERR 1 a warning",
            "STDOUT 1 end",
            "STDERR 1 end",
            "END_REQUEST 1 app 0 protocol 0",
            "STDOUT 2 end",
            "END_REQUEST 2 app 0 protocol 0",
        ]
    );
}

#[test]
fn commands_for_inactive_requests_do_nothing() {
    let mut connection = Connection::new(Limits::default());
    let nothing = |connection: &mut Connection, why: &str| {
        let id = id(1);
        assert!(!connection.stdout(id, Bytes::from_static(b"x")), "{why}");
        assert!(!connection.stdout_in_place(id, |_| panic!("called for an inactive id")), "{why}");
        assert!(!connection.stderr(id, b"x"), "{why}");
        assert!(!connection.end_request(id, 0), "{why}");
        assert_eq!(connection.unsent(), 0, "{why}");
    };
    nothing(&mut connection, "never started");
    fed(&mut connection, &Wire::new().begin(1, RESPONDER, KEEP));
    nothing(&mut connection, "parameters are arriving");
    fed(&mut connection, &Wire::new().params(1, &[]));
    fed(&mut connection, &Wire::new().raw(&[99; 8]));
    nothing(&mut connection, "the connection has failed");
    assert_eq!(fed(&mut connection, &Wire::new().get(1, KEEP)), [], "no events after a failure");
}

#[test]
fn empty_pieces_do_not_end_the_response() {
    let mut connection = Connection::new(Limits::default());
    fed(&mut connection, &Wire::new().get(1, KEEP));
    assert!(connection.stdout(id(1), Bytes::new()));
    assert!(connection.stdout_in_place(id(1), |_| {}));
    assert!(connection.stderr(id(1), b""));
    assert_eq!(connection.unsent(), 0);
}

#[test]
fn bodies_are_slices_of_the_input() {
    let wire = Wire::new().begin(1, RESPONDER, KEEP).params(1, &[]).stdin(1, b"body", 4);
    let input = Bytes::from(wire.bytes);
    let mut connection = Connection::new(Limits::default());
    connection.handle_input(input.clone());
    let events: Vec<Event> = std::iter::from_fn(|| connection.poll_event()).collect();
    let data = events
        .into_iter()
        .find_map(|event| match event {
            Event::Stdin { data, .. } => Some(data),
            _ => None,
        })
        .unwrap();
    let offset = data.as_ptr() as usize - input.as_ptr() as usize;
    assert_eq!(&input[offset..offset + 4], b"body");
    drop(data);
    assert!(input.is_unique(), "the connection releases its input when it wants more");
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() < 512, "{}", size_of::<Connection>());
}
