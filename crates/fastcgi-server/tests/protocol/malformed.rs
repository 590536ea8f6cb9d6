//! Malformed and unusual conversations, each with its documented result.
//!
//! `docs/fastcgi-support.md` has the same list in prose; a test here checks that every row of it has a
//! case and every case a row.

use fastcgi_server::{CloseWhen, Limits};

use crate::application::{Responses, converse_in_all_cuts};
use crate::wire::*;

struct Case {
    /// The row's first cell in docs/fastcgi-support.md.
    name: &'static str,
    wire: Wire,
    received: &'static [&'static str],
    said: &'static [&'static str],
    close_when: CloseWhen,
}

/// The result of a valid request that follows, which proves that the connection continues.
const GOOD: [&str; 2] = ["request 9 responder keep: REQUEST_URI=/", "stdin 9 end"];
const GOOD_ANSWER: [&str; 3] =
    ["STDOUT 9 Status: 200\\r\\n\\r\\n", "STDOUT 9 end", "END_REQUEST 9 app 0 protocol 0"];

/// Conversations after which the connection continues. A valid request follows each.
fn harmless() -> Vec<Case> {
    let case = |name, wire, received, said| Case {
        name,
        wire,
        received,
        said,
        close_when: CloseWhen::KeepOpen,
    };
    vec![
        case(
            "a record for an id that was never started",
            Wire::padded(8)
                .record(PARAMS, 5, b"whatever")
                .record(STDIN, 5, b"whatever")
                .record(DATA, 5, b"")
                .record(ABORT, 5, b"")
                .record(STDOUT, 5, b"whatever")
                .record(END, 5, b"whatever"),
            &[],
            &[],
        ),
        case(
            "a record for an id whose request is over",
            Wire::new()
                .get(1, KEEP)
                .record(STDIN, 1, b"late")
                .record(PARAMS, 1, b"late")
                .record(ABORT, 1, b"late")
                .record(STDOUT, 1, b"late"),
            &["request 1 responder keep: REQUEST_URI=/", "stdin 1 end"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "a management record of an unknown type",
            Wire::padded(8).record(12, 0, b"").record(255, 0, b"with content").record(0, 0, b""),
            &[],
            &["UNKNOWN_TYPE 0 12", "UNKNOWN_TYPE 0 255", "UNKNOWN_TYPE 0 0"],
        ),
        case(
            "a request's record with id 0",
            Wire::new()
                .begin(0, RESPONDER, KEEP)
                .record(PARAMS, 0, b"content")
                .record(STDIN, 0, b"")
                .record(ABORT, 0, b""),
            &[],
            &["UNKNOWN_TYPE 0 1", "UNKNOWN_TYPE 0 4", "UNKNOWN_TYPE 0 5", "UNKNOWN_TYPE 0 2"],
        ),
        case(
            "GET_VALUES with an id",
            Wire::new()
                .record(GET_VALUES, 1, &block(&[("FCGI_MAX_REQS", "")]))
                .begin(1, AUTHORIZER, KEEP)
                .record(GET_VALUES, 1, b"\xff\xff\xff\xff nonsense")
                .params(1, &[]),
            &["request 1 authorizer keep:"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "GET_VALUES_RESULT or UNKNOWN_TYPE, though nobody asked",
            Wire::new().record(GET_VALUES_RESULT, 0, b"nonsense").record(UNKNOWN_TYPE, 0, b""),
            &[],
            &[],
        ),
        case(
            "a record of an unknown type with an id",
            Wire::new()
                .begin(1, AUTHORIZER, KEEP)
                .record(77, 1, b"content")
                .record(77, 2, b"content")
                .params(1, &[]),
            &["request 1 authorizer keep:"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "a role that does not exist",
            Wire::new()
                .begin(1, 4, KEEP)
                .params(1, &[("A", "b")])
                .stdin(1, b"body", 2)
                .begin(2, 0, KEEP),
            &[],
            &["END_REQUEST 1 app 0 protocol 3", "END_REQUEST 2 app 0 protocol 3"],
        ),
        case(
            "PARAMS larger than the limit",
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &[0; 60])
                .record(PARAMS, 1, &[0; 41])
                .record(PARAMS, 1, b"\xff and whatever else")
                .record(PARAMS, 1, b"")
                .stdin(1, b"body", 2),
            &["refused 1: ParamsTooLarge { limit: 100 }"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "a second end of a stream",
            Wire::new()
                .begin(1, FILTER, KEEP)
                .params(1, &[])
                .record(PARAMS, 1, b"")
                .stdin(1, b"body", 9)
                .record(STDIN, 1, b"")
                .record(PARAMS, 1, b"")
                .record(DATA, 1, b""),
            &["request 1 filter keep:", "stdin 1 body", "stdin 1 end", "data 1 end"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "DATA for a responder or an authorizer",
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .params(1, &[])
                .stream(DATA, 1, b"file", 2)
                .stdin(1, b"", 1),
            &["request 1 responder keep:", "stdin 1 end"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "STDIN for an authorizer",
            Wire::new().begin(1, AUTHORIZER, KEEP).params(1, &[]).stdin(1, b"body", 2),
            &["request 1 authorizer keep:"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "ABORT_REQUEST before the end of PARAMS",
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &block(&[("A", "b")])[..2])
                .record(ABORT, 1, b"")
                .record(PARAMS, 1, b"late"),
            &[],
            &["END_REQUEST 1 app 1 protocol 0"],
        ),
        case(
            "reserved bytes and flags that are not zero",
            Wire::new()
                .raw(&[1, BEGIN, 0, 1, 0, 8, 0, 0xff])
                .raw(&[0, 2, 0xff, 1, 2, 3, 4, 5])
                .params(1, &[]),
            &["request 1 authorizer keep:"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
        case(
            "no parameters at all",
            Wire::new().begin(1, RESPONDER, KEEP).record(PARAMS, 1, b"").stdin(1, b"", 1),
            &["request 1 responder keep:", "stdin 1 end"],
            &["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"],
        ),
    ]
}

/// Conversations that end the connection. A valid request follows each, and is not received.
fn fatal() -> Vec<Case> {
    let case =
        |name, wire, received| Case { name, wire, received, said: &[], close_when: CloseWhen::Now };
    vec![
        case(
            "a version other than 1",
            Wire::new().header(2, BEGIN, 1, 8, 0).raw(&[0; 8]),
            &[
                "failed: the peer speaks FastCGI version 2 or another protocol; the only version is 1 \
               (record at byte 0 of the connection)",
            ],
        ),
        case(
            "HTTP instead of FastCGI",
            Wire::new().raw(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
            &[
                "failed: the peer speaks FastCGI version 71 or another protocol; the only version is 1 \
               (record at byte 0 of the connection)",
            ],
        ),
        case(
            "BEGIN_REQUEST of a length other than 8",
            Wire::new().record(BEGIN, 1, &[0, 1, 0]),
            &["failed: BEGIN_REQUEST has 3 content bytes instead of 8 \
               (record at byte 0 of the connection)"],
        ),
        case(
            "ABORT_REQUEST of a length other than 0",
            Wire::new().begin(1, RESPONDER, KEEP).record(ABORT, 1, b"why"),
            &["failed: ABORT_REQUEST has 3 content bytes instead of 0 \
               (record at byte 16 of the connection)"],
        ),
        case(
            "BEGIN_REQUEST for an active id",
            Wire::new().begin(1, RESPONDER, KEEP).begin(1, RESPONDER, KEEP),
            &["failed: request 1 was started again before it ended \
               (record at byte 16 of the connection)"],
        ),
        case(
            "PARAMS that end within a pair",
            Wire::new()
                .begin(7, RESPONDER, KEEP)
                .record(PARAMS, 7, &[1, 1, b'A', b'b', 1, 1, b'C'])
                .record(PARAMS, 7, b""),
            &[
                "failed: the name-value pair at byte 4 of request 7's PARAMS extends beyond the end \
               of the stream (record at byte 31 of the connection)",
            ],
        ),
        case(
            "GET_VALUES with an impossible length",
            Wire::new().record(GET_VALUES, 0, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
            &["failed: the name-value pair at byte 0 of GET_VALUES extends beyond \
               the end of the record (record at byte 0 of the connection)"],
        ),
        case(
            "STDIN or DATA before the end of PARAMS",
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &block(&[("A", "b")]))
                .record(STDIN, 1, b""),
            &["failed: STDIN of request 1 came before the end of its PARAMS \
               (record at byte 28 of the connection)"],
        ),
        case(
            "content for a stream that was ended",
            Wire::new().begin(1, RESPONDER, KEEP).params(1, &[]).record(
                PARAMS,
                1,
                &block(&[("A", "b")]),
            ),
            &[
                "request 1 responder keep:",
                "failed: PARAMS of request 1 continued after its end \
                 (record at byte 32 of the connection)",
            ],
        ),
        case(
            "END_REQUEST, STDOUT or STDERR for an active id",
            Wire::new().begin(1, RESPONDER, KEEP).record(STDOUT, 1, b"hello"),
            &["failed: STDOUT for request 1 may not be sent by this side \
               (record at byte 16 of the connection)"],
        ),
    ]
}

fn limits() -> Limits {
    Limits { params_bytes: 100, ..Limits::default() }
}

#[test]
fn a_harmless_error_is_handled_as_documented_and_the_connection_continues() {
    for Case { name, mut wire, received, said, close_when } in harmless() {
        wire = wire.get(9, KEEP);
        let outcome = converse_in_all_cuts(name, &limits(), Responses::AtTheEnd, &wire.bytes);
        assert_eq!(outcome.received(), [received, &GOOD].concat(), "{name}");
        assert_eq!(outcome.said(), [said, &GOOD_ANSWER].concat(), "{name}");
        assert_eq!(outcome.close_when, close_when, "{name}");
        assert!(outcome.is_between_requests, "{name}");
        assert_eq!(outcome.active_requests, 0, "{name}");
    }
}

#[test]
fn a_fatal_error_ends_the_connection_with_a_reason() {
    for Case { name, mut wire, received, said, close_when } in fatal() {
        wire = wire.get(9, KEEP);
        let outcome = converse_in_all_cuts(name, &limits(), Responses::Never, &wire.bytes);
        assert_eq!(outcome.received(), received, "{name}");
        assert_eq!(outcome.said(), said, "{name}");
        assert_eq!(outcome.close_when, close_when, "{name}");
        assert!(!outcome.is_between_requests, "{name}");
    }
}

/// Refusals that do not fit the general tables, because they need requests that stay active.
#[test]
fn one_request_too_many_is_refused_and_the_others_continue() {
    let name = "more requests than the limit";
    let mut limits = Limits { requests_per_connection: 2, ..Limits::default() };
    let wire = Wire::new()
        .begin(1, RESPONDER, KEEP)
        .begin(2, AUTHORIZER, KEEP)
        .begin(3, RESPONDER, KEEP)
        .params(3, &[("A", "b")])
        .stdin(3, b"body", 1)
        .params(2, &[])
        .begin(3, AUTHORIZER, KEEP)
        .params(3, &[])
        .params(1, &[])
        .stdin(1, b"", 1);
    let outcome = converse_in_all_cuts(name, &limits, Responses::AtTheEnd, &wire.bytes);
    assert_eq!(
        outcome.received(),
        [
            "request 2 authorizer keep:",
            "request 3 authorizer keep:",
            "request 1 responder keep:",
            "stdin 1 end"
        ]
    );
    assert_eq!(outcome.said()[0], "END_REQUEST 3 app 0 protocol 2");

    limits.requests_per_connection = 1;
    let wire = Wire::new()
        .begin(1, RESPONDER, KEEP)
        .begin(2, RESPONDER, KEEP)
        .record(GET_VALUES, 0, &block(&[("FCGI_MPXS_CONNS", "")]))
        .params(2, &[])
        .params(1, &[]);
    let outcome = converse_in_all_cuts(name, &limits, Responses::Never, &wire.bytes);
    assert_eq!(outcome.received(), ["request 1 responder keep:"]);
    assert_eq!(
        outcome.said(),
        ["END_REQUEST 2 app 0 protocol 1", "GET_VALUES_RESULT 0 \\x0f\\x01FCGI_MPXS_CONNS0"]
    );
}

#[test]
fn queries_whose_replies_are_not_read_end_the_connection() {
    let name = "a thousand questions and no reader";
    let limits = Limits { reply_bytes: 1000, ..Limits::default() };
    let floods = [
        ("UNKNOWN_TYPE", Wire::new().record(200, 0, b"")),
        ("GET_VALUES_RESULT", Wire::new().record(GET_VALUES, 0, &block(&[("FCGI_MAX_REQS", "")]))),
        ("END_REQUEST", Wire::new().begin(1, 99, KEEP)),
        ("END_REQUEST", Wire::new().begin(1, RESPONDER, KEEP).record(ABORT, 1, b"")),
    ];
    for (response, one) in floods {
        let bytes = one.bytes.repeat(1000);
        let outcome = converse_in_all_cuts(name, &limits, Responses::AtTheEnd, &bytes);
        let [failed] = &outcome.received()[..] else {
            panic!("{response}: {:?}", outcome.received())
        };
        assert!(failed.contains("more than 1000 bytes of replies"), "{response}: {failed}");
        assert!(outcome.output.len() < 1100, "{response}: {} bytes", outcome.output.len());
        assert!(outcome.said().iter().all(|record| record.starts_with(response)), "{response}");
    }
}

#[test]
fn the_page_lists_every_case() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fastcgi-support.md");
    let page = std::fs::read_to_string(page).unwrap();
    let special = ["more requests than the limit", "a thousand questions and no reader"];
    let (harmless, fatal) = (harmless(), fatal());
    let names = harmless.iter().chain(&fatal).map(|case| case.name).chain(special);
    let names: Vec<&str> = names.collect();
    for name in &names {
        assert!(page.contains(&format!("\n| {name} |")), "no row for: {name}");
    }
    let table = page.split("## Malformed conversations").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let name = row.trim_start_matches("| ").split(" |").next().unwrap();
        assert!(names.contains(&name), "no case for: {name}");
    }
}
