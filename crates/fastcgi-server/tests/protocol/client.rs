//! The web server's end: what it may send, and how it handles valid and malformed responses.

use bytes::Bytes;
use fastcgi_server::client::Connection;
use fastcgi_server::{ProtocolStatus, Role};

use crate::web_server::{poll_all, show};
use crate::wire::*;

fn received(connection: &mut Connection, wire: &Wire) -> Vec<String> {
    poll_all(connection, wire.bytes.chunks(3)).iter().map(show).collect()
}

fn started(role: Role) -> Connection {
    let mut connection = Connection::new();
    assert!(connection.begin(id(1), role, true));
    connection
}

#[test]
fn streams_follow_the_order_of_the_role() {
    let body = || Bytes::from_static(b"body");
    let mut connection = started(Role::Responder);
    assert!(!connection.begin(id(1), Role::Responder, true), "the id is taken");
    assert!(!connection.stdin(id(1), body()), "PARAMS are open");
    assert!(!connection.stdin_end(id(1)));
    assert!(connection.params(id(1), [(&b"A"[..], &b"b"[..])]));
    assert!(connection.params_end(id(1)));
    assert!(!connection.params_end(id(1)));
    assert!(!connection.params(id(1), [(&b"C"[..], &b"d"[..])]));
    assert!(!connection.data(id(1), body()), "no DATA for responders");
    assert!(connection.stdin(id(1), body()));
    assert!(connection.stdin_end(id(1)));
    assert!(!connection.stdin(id(1), body()));
    assert!(connection.abort(id(1)));
    assert!(!connection.abort(id(1)));
    assert_eq!(
        read_records(&connection.take_unsent()),
        [
            "type 1 1 \\x00\\x01\\x01\\x00\\x00\\x00\\x00\\x00",
            "type 4 1 \\x01\\x01Ab",
            "type 4 1 end",
            "type 5 1 body",
            "type 5 1 end",
            "type 2 1 end",
        ]
    );

    let mut connection = started(Role::Authorizer);
    assert!(connection.params_end(id(1)));
    assert!(!connection.stdin(id(1), body()));
    assert!(!connection.stdin_end(id(1)));

    let mut connection = started(Role::Filter);
    assert!(connection.params_end(id(1)));
    assert!(connection.data(id(1), body()));
    assert!(connection.data_end(id(1)));
    assert!(connection.stdin_end(id(1)));
    assert!(!connection.data(id(1), body()));
    assert!(!connection.stdin(id(2), body()), "never started");
}

#[test]
fn responses_are_received_and_the_id_is_free_again() {
    let mut connection = started(Role::Responder);
    let response = Wire::padded(8)
        .record(STDOUT, 1, b"Status: 200\r\n\r\nhello")
        .record(STDERR, 1, b"hm")
        .record(STDOUT, 1, b"")
        .record(STDERR, 1, b"")
        .record(END, 1, &[0, 0, 1, 0, 0, 0, 0, 0])
        .record(STDOUT, 1, b"late")
        .record(STDOUT, 2, b"never started")
        .record(END, 2, b"whatever");
    assert_eq!(
        received(&mut connection, &response),
        ["stdout 1 Status: 200\\r\\n\\r\\nhello", "stderr 1 hm", "end 1 256 RequestComplete"]
    );
    assert!(!connection.is_active(id(1)));
    assert!(connection.begin(id(1), Role::Responder, true));
}

#[test]
fn refusals_are_distinguished() {
    for (byte, status) in [
        (1, ProtocolStatus::CannotMultiplex),
        (2, ProtocolStatus::Overloaded),
        (3, ProtocolStatus::UnknownRole),
        (9, ProtocolStatus::Other(9)),
    ] {
        let mut connection = started(Role::Responder);
        let response = Wire::new().record(END, 1, &[0, 0, 0, 0, byte, 0, 0, 0]);
        assert_eq!(received(&mut connection, &response), [format!("end 1 0 {status:?}")]);
    }
}

#[test]
fn queries_and_their_replies() {
    let mut connection = Connection::new();
    assert!(connection.get_values([&b"FCGI_MAX_REQS"[..], &[b'x'; 70_000]]));
    assert_eq!(read_records(&connection.take_unsent()), ["type 9 0 \\r\\x00FCGI_MAX_REQS"]);
    let response = Wire::padded(8)
        .record(GET_VALUES_RESULT, 0, &block(&[("FCGI_MAX_REQS", "64")]))
        .record(UNKNOWN_TYPE, 0, &[77, 0, 0, 0, 0, 0, 0, 0])
        .record(99, 0, b"whatever");
    assert_eq!(
        received(&mut connection, &response),
        ["values [(\"FCGI_MAX_REQS\", \"64\")]", "unknown type 77"]
    );
}

#[test]
fn a_malformed_response_ends_the_connection_with_a_reason() {
    let cases = [
        ("version", Wire::new().raw(b"HTTP/1.1 400 Bad Request"), "version 72"),
        ("length", Wire::new().record(END, 1, b"short"), "has 5 content bytes instead of 8"),
        ("length", Wire::new().record(UNKNOWN_TYPE, 0, b""), "has 0 content bytes instead of 8"),
        ("pair", Wire::new().record(GET_VALUES_RESULT, 0, b"\x09"), "extends beyond the end"),
        ("direction", Wire::new().record(STDIN, 1, b"x"), "may not be sent by this side"),
        ("after the end", Wire::new().record(STDOUT, 1, b"").record(STDOUT, 1, b"x"), "continued"),
    ];
    for (name, wire, reason) in cases {
        let mut connection = started(Role::Responder);
        let received = received(&mut connection, &wire.get(1, KEEP));
        let [failed] = &received[..] else { panic!("{name}: {received:?}") };
        assert!(failed.contains(reason), "{name}: {failed}");
        assert!(connection.has_failed());
        assert_eq!(connection.active_requests(), 0);
        assert!(!connection.begin(id(5), Role::Responder, true), "{name}");
        assert!(!connection.get_values([&b"FCGI_MAX_REQS"[..]]), "{name}");
    }
}
