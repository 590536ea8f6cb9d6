//! Conversations as real web servers hold them, each split everywhere.
//!
//! The parameters and the shape (padding, record sizes, flags) are as Apache 2.4.71 with mod_fcgid 2.3.9,
//! nginx 1.22, lighttpd 1.4.69, haproxy 2.6 and caddy 2.6 sent them.

use fastcgi_server::{CloseWhen, Limits};

use crate::application::{Responses, converse_in_all_cuts};
use crate::wire::*;

struct Case {
    name: &'static str,
    wire: Wire,
    received: Vec<String>,
    said: Vec<&'static str>,
    close_when: CloseWhen,
}

const ANSWER: [&str; 3] =
    ["STDOUT 1 Status: 200\\r\\n\\r\\n", "STDOUT 1 end", "END_REQUEST 1 app 0 protocol 0"];

const APACHE: &[(&str, &str)] = &[
    ("HTTP_HOST", "example.org"),
    ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("SERVER_SIGNATURE", ""),
    ("SERVER_SOFTWARE", "Apache/2.4.71 (Unix) mod_fcgid/2.3.9"),
    ("SERVER_NAME", "example.org"),
    ("SERVER_ADDR", "192.0.2.10"),
    ("SERVER_PORT", "80"),
    ("REMOTE_ADDR", "198.51.100.7"),
    ("DOCUMENT_ROOT", "/home/owner/public_html"),
    ("REQUEST_SCHEME", "http"),
    ("SCRIPT_FILENAME", "/home/owner/public_html/dispatch.fcgi"),
    ("REDIRECT_STATUS", "200"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("REQUEST_METHOD", "GET"),
    ("QUERY_STRING", "x=1"),
    ("REQUEST_URI", "/tools/checksum?x=1"),
    ("SCRIPT_NAME", "/dispatch.fcgi"),
    ("PATH_INFO", "/tools/checksum"),
    ("PATH_TRANSLATED", "redirect:/dispatch.fcgi/tools/checksum"),
    ("CONTENT_LENGTH", "0"),
];

const NGINX: &[(&str, &str)] = &[
    ("QUERY_STRING", ""),
    ("REQUEST_METHOD", "GET"),
    ("CONTENT_TYPE", ""),
    ("CONTENT_LENGTH", ""),
    ("SCRIPT_NAME", "/index"),
    ("REQUEST_URI", "/index"),
    ("DOCUMENT_URI", "/index"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/1.22.1"),
    (
        "HTTP_COOKIE",
        "session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
    ),
];

fn long_value() -> String {
    "v".repeat(128)
}

fn request(id: u16, role_and_flags: &str, pairs: &[(&str, &str)]) -> String {
    let shown = |part: &str| if part.is_empty() { String::new() } else { text(part.as_bytes()) };
    let pairs: String =
        pairs.iter().map(|(name, value)| format!(" {}={}", shown(name), shown(value))).collect();
    format!("request {id} {role_and_flags}:{pairs}")
}

fn responses_to(ids: &[u16]) -> Vec<&'static str> {
    ids.iter()
        .flat_map(|id| ANSWER.map(|line| &*line.replacen('1', &id.to_string(), 1).leak()))
        .collect()
}

fn cases() -> Vec<Case> {
    let body = b"the body of a form, sent in irregular pieces, as Apache does it";
    let large = vec![b'x'; 150_000];
    let long = long_value();
    let long_pairs = [("HTTP_COOKIE", &*long), (&*long, "v"), ("", "")];
    vec![
        Case {
            name: "Apache mod_fcgid, GET: connection for one request, id 1",
            wire: Wire::new().begin(1, RESPONDER, CLOSE).params(1, APACHE).stdin(1, b"", 1),
            received: vec![request(1, "responder", APACHE), "stdin 1 end".into()],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "Apache mod_fcgid, POST: body in irregular pieces",
            wire: Wire::new()
                .begin(1, RESPONDER, CLOSE)
                .params(1, &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "63")])
                .record(STDIN, 1, &body[..30])
                .record(STDIN, 1, &body[30..31])
                .record(STDIN, 1, &body[31..])
                .record(STDIN, 1, &[]),
            received: vec![
                "request 1 responder: REQUEST_METHOD=POST CONTENT_LENGTH=63".into(),
                format!("stdin 1 {}", text(body)),
                "stdin 1 end".into(),
            ],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "Apache mod_fcgid, authorizer: no STDIN record at all",
            wire: Wire::new()
                .begin(1, AUTHORIZER, CLOSE)
                .params(1, &[("FCGI_APACHE_ROLE", "ACCESS_CHECKER")]),
            received: vec!["request 1 authorizer: FCGI_APACHE_ROLE=ACCESS_CHECKER".into()],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "nginx, two GETs on a keep-alive connection: padded to eight bytes, id 1 used again",
            wire: Wire::padded(8)
                .begin(1, RESPONDER, KEEP)
                .params(1, NGINX)
                .stdin(1, b"", 1)
                .begin(1, RESPONDER, KEEP)
                .params(1, NGINX)
                .stdin(1, b"", 1),
            received: vec![
                request(1, "responder keep", NGINX),
                "stdin 1 end".into(),
                request(1, "responder keep", NGINX),
                "stdin 1 end".into(),
            ],
            said: [ANSWER, ANSWER].concat(),
            close_when: CloseWhen::KeepOpen,
        },
        Case {
            name: "nginx, POST of 150,000 bytes: records of 32 KiB, padded",
            wire: Wire::padded(8)
                .begin(1, RESPONDER, CLOSE)
                .params(1, &[("CONTENT_LENGTH", "150000")])
                .stdin(1, &large, 32 * 1024),
            received: vec![
                "request 1 responder: CONTENT_LENGTH=150000".into(),
                "stdin 1 150000 bytes".into(),
                "stdin 1 end".into(),
            ],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "lighttpd, POST: records as large as can be, no padding, a header twice",
            wire: Wire::new()
                .begin(1, RESPONDER, CLOSE)
                .params(1, &[("CONTENT_LENGTH", "150000"), ("HTTP_X", "1"), ("HTTP_X", "2")])
                .stdin(1, &large, 65_535),
            received: vec![
                "request 1 responder: CONTENT_LENGTH=150000 HTTP_X=1 HTTP_X=2".into(),
                "stdin 1 150000 bytes".into(),
                "stdin 1 end".into(),
            ],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "lighttpd, authorizer: an empty STDIN that no authorizer has",
            wire: Wire::new().begin(1, AUTHORIZER, KEEP).params(1, &[]).stdin(1, b"", 1),
            received: vec!["request 1 authorizer keep:".into()],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::KeepOpen,
        },
        Case {
            name: "caddy, chunked body: CONTENT_LENGTH -1",
            wire: Wire::padded(8)
                .begin(1, RESPONDER, CLOSE)
                .params(1, &[("CONTENT_LENGTH", "-1")])
                .stdin(1, b"chunk", 2),
            received: vec![
                "request 1 responder: CONTENT_LENGTH=-1".into(),
                "stdin 1 chunk".into(),
                "stdin 1 end".into(),
            ],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "haproxy: asks first, then two requests at once, bodies interleaved",
            wire: Wire::new()
                .record(GET_VALUES, 0, &block(&[("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")]))
                .begin(1, RESPONDER, KEEP)
                .begin(3, RESPONDER, KEEP)
                .record(PARAMS, 1, &block(&[("A", "one")])[..3])
                .record(PARAMS, 3, &block(&[("A", "three")]))
                .record(PARAMS, 1, &block(&[("A", "one")])[3..])
                .record(PARAMS, 3, &[])
                .record(STDIN, 3, b"for three")
                .record(PARAMS, 1, &[])
                .record(STDIN, 1, b"for one")
                .record(STDIN, 3, b", more")
                .record(STDIN, 1, &[])
                .record(STDIN, 3, &[]),
            received: [
                "request 3 responder keep: A=three",
                "stdin 3 for three",
                "request 1 responder keep: A=one",
                "stdin 1 for one",
                "stdin 3 , more",
                "stdin 1 end",
                "stdin 3 end",
            ]
            .map(str::to_owned)
            .to_vec(),
            said: [
                vec!["GET_VALUES_RESULT 0 \\r\\x05FCGI_MAX_REQS65536\\x0f\\x01FCGI_MPXS_CONNS1"],
                responses_to(&[1, 3]),
            ]
            .concat(),
            close_when: CloseWhen::KeepOpen,
        },
        Case {
            name: "a filter: STDIN, then DATA",
            wire: Wire::new()
                .begin(1, FILTER, CLOSE)
                .params(1, &[("FCGI_DATA_LENGTH", "9")])
                .stdin(1, b"body", 3)
                .stream(DATA, 1, b"file text", 4),
            received: [
                "request 1 filter: FCGI_DATA_LENGTH=9",
                "stdin 1 body",
                "stdin 1 end",
                "data 1 file text",
                "data 1 end",
            ]
            .map(str::to_owned)
            .to_vec(),
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "a filter: DATA, then STDIN",
            wire: Wire::new()
                .begin(1, FILTER, CLOSE)
                .params(1, &[])
                .stream(DATA, 1, b"file text", 4)
                .stdin(1, b"", 3),
            received: ["request 1 filter:", "data 1 file text", "data 1 end", "stdin 1 end"]
                .map(str::to_owned)
                .to_vec(),
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "lengths of four bytes, empty names and values, a pair in single-byte records",
            wire: {
                let mut wire = Wire::padded(3).begin(1, RESPONDER, CLOSE);
                for byte in block(&long_pairs) {
                    wire = wire.record(PARAMS, 1, &[byte]);
                }
                wire.record(PARAMS, 1, &[]).stdin(1, b"", 1)
            },
            received: vec![request(1, "responder", &long_pairs), "stdin 1 end".into()],
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "the most padding everywhere, ends included",
            wire: Wire::new()
                .record_with_padding(BEGIN, 1, &[0, 1, 0, 0, 0, 0, 0, 0], 255)
                .record_with_padding(PARAMS, 1, &block(&[("A", "b")]), 255)
                .record_with_padding(PARAMS, 1, &[], 255)
                .record_with_padding(STDIN, 1, b"body", 255)
                .record_with_padding(STDIN, 1, &[], 255),
            received: ["request 1 responder: A=b", "stdin 1 body", "stdin 1 end"]
                .map(str::to_owned)
                .to_vec(),
            said: ANSWER.to_vec(),
            close_when: CloseWhen::Now,
        },
        Case {
            name: "the largest id",
            wire: Wire::new().get(65_535, KEEP),
            received: ["request 65535 responder keep: REQUEST_URI=/", "stdin 65535 end"]
                .map(str::to_owned)
                .to_vec(),
            said: responses_to(&[65_535]),
            close_when: CloseWhen::KeepOpen,
        },
        Case {
            name: "the web server gives up in the middle of a body",
            wire: Wire::new()
                .begin(1, RESPONDER, KEEP)
                .params(1, &[])
                .record(STDIN, 1, b"half")
                .record(ABORT, 1, &[])
                .get(1, KEEP),
            received: [
                "request 1 responder keep:",
                "stdin 1 half",
                "abort 1",
                "request 1 responder keep: REQUEST_URI=/",
                "stdin 1 end",
            ]
            .map(str::to_owned)
            .to_vec(),
            said: [ANSWER, ANSWER].concat(),
            close_when: CloseWhen::KeepOpen,
        },
        Case {
            name: "every question is answered, unknown names are left out, each name once",
            wire: Wire::padded(8)
                .record(
                    GET_VALUES,
                    0,
                    &block(&[
                        ("FCGI_MPXS_CONNS", ""),
                        ("FCGI_MAX_CONNS", "a value that should not be there"),
                        ("FCGI_MAX_CONNS", ""),
                        ("FCGI_COLOUR", ""),
                        ("FCGI_MAX_REQS", ""),
                    ]),
                )
                .record(GET_VALUES, 0, &[]),
            received: vec![],
            said: vec![
                "GET_VALUES_RESULT 0 \\x0e\\x04FCGI_MAX_CONNS1024\\r\\x05FCGI_MAX_REQS65536\
                 \\x0f\\x01FCGI_MPXS_CONNS1",
                "GET_VALUES_RESULT 0 end",
            ],
            close_when: CloseWhen::KeepOpen,
        },
    ]
}

#[test]
fn web_servers_are_understood_however_their_bytes_are_split() {
    for Case { name, wire, received, said, close_when } in cases() {
        let limits = Limits::default();
        let outcome = converse_in_all_cuts(name, &limits, Responses::AtTheEnd, &wire.bytes);
        assert_eq!(outcome.received(), received, "{name}");
        assert_eq!(outcome.said(), said, "{name}");
        assert_eq!(outcome.close_when, close_when, "{name}");
        assert!(outcome.is_between_requests, "{name}");
    }
}

/// mod_proxy_fcgi logs errors when a connection is closed before its empty STDIN was read.
#[test]
fn a_response_before_the_end_of_the_input_is_followed_by_reading_it() {
    for Case { name, wire, .. } in cases() {
        let limits = Limits::default();
        let outcome = converse_in_all_cuts(name, &limits, Responses::AtOnce, &wire.bytes);
        assert!(outcome.is_between_requests, "{name}");
        assert!(outcome.close_when != CloseWhen::AfterInput, "{name}: the input is over");
        assert!(
            outcome.received().iter().all(|line| line.starts_with("request")),
            "{name}: {:?}",
            outcome.received()
        );
    }
}
