//! HTTP/1.1 as `serve` speaks it: raw conversations, each with its documented response.
//!
//! Every conversation is sent whole on one connection, then the client waits for the end. The response is
//! told in short: the status of each response with its body, in order. (`400 -` is a status without body:
//! hyper refuses what cannot be read at all by itself, and closes.) Every conversation that is answered
//! without waiting for more is sent a second time byte by byte: the response is the same.

use std::time::Duration;

use app_server::Settings;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::routing::any;
use event_loop::net::Stream;
use event_loop::time;
use http::header::HOST;
use http_body_util::BodyExt;

use crate::client::{Server, raw_request, test};

fn router() -> Router {
    Router::new()
        .route("/", any(|| async { "front" }))
        .route("/echo", any(echo))
        .route("/unread", any(|| async { "unread" }))
        .fallback(any(target))
}

async fn echo(request: Request) -> String {
    match request.into_body().collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

/// Reports what was requested.
async fn target(request: Request) -> String {
    let host = request.headers().get(HOST).map_or("", |host| host.to_str().unwrap());
    format!("{} {} at {host}", request.method(), request.uri())
}

/// How long a conversation may last, far more than any takes: one that does not end is reported by name.
const PATIENCE: Duration = Duration::from_secs(5);

/// name, what is sent, the responses in short
type Conversation = (&'static str, &'static str, &'static [&'static str]);

const CONVERSATIONS: &[Conversation] = &[
    // Connections (RFC 9112 §9.3).
    ("close", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["200 front"]),
    (
        "kept open",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["200 front", "200 front"],
    ),
    (
        "pipelined, in order",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1\
         GET / HTTP/1.1\r\nHost: x\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\n3",
        &["200 1", "200 front", "200 3"],
    ),
    (
        "nothing is answered after close",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &["200 front"],
    ),
    ("HTTP/1.0 closes", "GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", &["200 front"]),
    (
        "HTTP/1.0 keeps open when asked",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        &["200 front", "200 front"],
    ),
    ("an empty line before", "\r\nGET / HTTP/1.0\r\n\r\n", &["200 front"]),
    ("HEAD", "HEAD / HTTP/1.0\r\n\r\n", &["200 -"]),
    // Bodies (RFC 9112 §6, §7).
    ("a length", "POST /echo HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody", &["200 body"]),
    (
        "chunks",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         2\r\nbo\r\n2;extension=1\r\ndy\r\n0\r\nTrailer: x\r\n\r\n",
        &["200 body"],
    ),
    (
        "a body nobody reads is taken, and the next request served",
        "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody\
         GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["200 unread", "200 front"],
    ),
    (
        "Expect: 100-continue, and the handler reads",
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\
         Connection: close\r\n\r\nbody",
        &["100", "200 body"],
    ),
    (
        "Expect: 100-continue, and nobody reads",
        "POST /unread HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\
         Connection: close\r\n\r\n",
        &["200 unread"],
    ),
    // Targets (RFC 9112 §3.2).
    (
        "origin-form",
        "GET /a%2Fb?c=%3F HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["200 GET /a%2Fb?c=%3F at x"],
    ),
    (
        "absolute-form: its host counts",
        "GET http://real:81/a?b HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
        &["200 GET /a?b at real:81"],
    ),
    (
        "absolute-form without a path",
        "GET http://real HTTP/1.1\r\nHost: real\r\nConnection: close\r\n\r\n",
        &["200 front"],
    ),
    (
        "asterisk-form",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["200 OPTIONS * at x"],
    ),
    (
        "asterisk-form is for OPTIONS",
        "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    (
        "authority-form is for proxies",
        "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    ("no slash", "GET a.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &["400 page"]),
    // Host (RFC 9112 §3.2).
    ("Host missing", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", &["400 page"]),
    (
        "Host twice",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    (
        "Host twice, and absolute-form",
        "GET http://x/ HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    (
        "Host missing, and absolute-form",
        "GET http://x/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    (
        "Host that is none, and absolute-form",
        "GET http://x/ HTTP/1.1\r\nHost: x/y\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    (
        "Host that is none",
        "GET / HTTP/1.1\r\nHost: x/y\r\nConnection: close\r\n\r\n",
        &["400 page"],
    ),
    ("Host with spaces", "GET / HTTP/1.1\r\nHost: x y\r\nConnection: close\r\n\r\n", &["400 page"]),
    ("Host empty", "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", &["200 front"]),
    // Requests smuggled past a proxy (RFC 9112 §11.2): a conversation never has two readings.
    (
        "length and chunks: the chunks count, and the connection closes",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &["200 a"],
    ),
    (
        "chunks and length: the same",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n\
         1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &["200 a"],
    ),
    (
        "two lengths that differ",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        &["400 -"],
    ),
    (
        "two lengths that are the same",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\
         Connection: close\r\n\r\na",
        &["200 a"],
    ),
    (
        "a list of lengths",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        &["400 -"],
    ),
    (
        "a length with a sign",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        &["400 -"],
    ),
    (
        "a length in hexadecimal",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na",
        &["400 -"],
    ),
    (
        "a length below zero",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\na",
        &["400 -"],
    ),
    (
        "a length beyond all numbers",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na",
        &["400 -"],
    ),
    (
        "a coding that is not chunked",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        &["400 -"],
    ),
    (
        "chunked, and not last",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc",
        &["400 -"],
    ),
    (
        "chunked and something after it",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\nabc",
        &["400 -"],
    ),
    (
        "chunks in HTTP/1.0",
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        &["400 -"],
    ),
    (
        "space before the colon",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        &["400 -"],
    ),
    ("a line folded (obs-fold)", "GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\n\r\n", &["400 -"]),
    (
        "a line folded to hide a coding",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        &["400 -"],
    ),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\rX-B: 2\r\n\r\n", &["400 -"]),
    ("a zero byte in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\0\r\n\r\n", &["400 -"]),
    (
        "bare LF ends a line, here and for proxies (RFC 9112 §2.2)",
        "GET / HTTP/1.1\nHost: x\nConnection: close\n\n",
        &["200 front"],
    ),
    (
        "a chunk size that is not a number: the handler gets an error, the connection closes",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\na\r\n0\r\n\r\n\
         GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &["200 failed"],
    ),
    (
        "a chunk size beyond all numbers",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         fffffffffffffffff\r\na\r\n0\r\n\r\n",
        &["200 failed"],
    ),
    (
        "a chunk size with a sign",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
        &["200 failed"],
    ),
    (
        "a chunk longer than its size",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        &["200 failed"],
    ),
    (
        "a chunk size line ended by a bare LF",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        &["200 failed"],
    ),
    // What is not HTTP/1.
    ("no version", "GET /\r\n\r\n", &["400 -"]),
    ("a version to come", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", &["400 -"]),
    ("HTTP/2 by surprise: closed without a word", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
    ("a method that is none", "G@T / HTTP/1.1\r\nHost: x\r\n\r\n", &["400 -"]),
    (
        "a method nobody knows",
        "BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        &["200 front"],
    ),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", &["400 -"]),
    ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &["400 -"]),
    ("no colon", "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", &["400 -"]),
    ("no name", "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", &["400 -"]),
];

#[test]
fn conversations() {
    test(async {
        for (name, sent, expected) in CONVERSATIONS {
            let server = Server::http(router(), Settings::default());
            let mut stream = server.connect_raw().await;
            let responses = raw_request(&mut stream, sent.as_bytes());
            let text = time::timeout(PATIENCE, responses).await.expect(name);
            assert_eq!(in_short(&text), *expected, "{name}: {text}");
        }
    });
}

#[test]
fn conversations_byte_by_byte() {
    test(async {
        for (name, sent, expected) in CONVERSATIONS {
            let server = Server::http(router(), Settings::default());
            let mut stream = server.connect_raw().await;
            let mut text = String::new();
            for byte in sent.as_bytes().chunks(1) {
                if write(&mut stream, byte).await.is_err() {
                    break;
                }
                event_loop::yield_now().await;
            }
            let responses = raw_request(&mut stream, b"");
            text += &time::timeout(PATIENCE, responses).await.expect(name);
            assert_eq!(in_short(&text), *expected, "{name}: {text}");
        }
    });
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<usize> {
    let slices = [std::io::IoSlice::new(bytes)];
    std::future::poll_fn(|context| stream.poll_write_vectored(context, &slices)).await
}

#[test]
fn oversized_heads() {
    test(async {
        let mut settings = Settings::default();
        settings.http_head_bytes = 8192;
        let lines = "X-A: 1\r\n".repeat(200);
        for (name, head, expected) in [
            ("a long line", format!("X-A: {}\r\n", "v".repeat(10_000)), "431 -"),
            ("many lines", lines, "431 -"),
            ("many long lines", format!("X-A: {}\r\n", "v".repeat(1000)).repeat(50), "431 -"),
            ("as much as is allowed", format!("X-A: {}\r\n", "v".repeat(8000)), "200 front"),
        ] {
            let server = Server::http(router(), settings.clone());
            let mut stream = server.connect_raw().await;
            let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n");
            let text = raw_request(&mut stream, request.as_bytes()).await;
            assert_eq!(in_short(&text), [expected], "{name}: {text}");
        }
        settings.http_head_bytes = 128 * 1024;
        let server = Server::http(router(), settings);
        let mut stream = server.connect_raw().await;
        let request = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
        let text = raw_request(&mut stream, request.as_bytes()).await;
        assert_eq!(in_short(&text), ["414 -"], "a long target: {text}");
    });
}

/// hyper's read buffer grows past its limit, so a head that is complete in it has to be measured.
#[test]
fn the_limit_of_a_head_is_exact() {
    test(async {
        let limit = Settings::default().http_head_bytes;
        let start = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: ";
        for (bytes, expected) in
            [(limit, "200 front"), (limit + 1, "431 -"), (70_000, "431 -"), (2 * limit, "431 -")]
        {
            let value = "v".repeat(bytes - start.len() - "\r\n\r\n".len());
            let request = format!("{start}{value}\r\n\r\n");
            assert_eq!(request.len(), bytes);
            let server = Server::http(router(), Settings::default());
            let mut stream = server.connect_raw().await;
            let text = raw_request(&mut stream, request.as_bytes()).await;
            assert_eq!(in_short(&text), [expected], "{bytes} bytes: {text}");
        }
    });
}

#[test]
fn a_refusal_is_not_lost_while_more_arrives() {
    test(async {
        // Over TCP a close with unread input resets the connection, the response included.
        let server = Server::http_over_tcp(router(), Settings::default());
        let lines = format!("X-A: {}\r\n", "v".repeat(10_000)).repeat(2000);
        for (start, expected) in
            [("GET / HTTP/1.1\r\nHost: x\r\n", "431 -"), ("nonsense\r\n\r\n", "400 -")]
        {
            let mut stream = server.connect_raw().await;
            let text = raw_request(&mut stream, format!("{start}{lines}").as_bytes()).await;
            assert_eq!(in_short(&text), [expected]);
        }
    });
}

#[test]
fn discarding_an_unread_body_is_limited() {
    test(async {
        let mut settings = Settings::default();
        settings.unread_body_bytes = 1 << 20;
        let server = Server::http(router(), settings);
        let mut stream = server.connect_raw().await;
        let head = "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n";
        write(&mut stream, head.as_bytes()).await.unwrap();
        let mut left = 16 << 20;
        let error = loop {
            match write(&mut stream, &vec![0; left]).await {
                Ok(written) => left -= written,
                Err(error) => break error,
            }
            assert!(left > 0, "all of it was read, but 1 MiB is the limit");
        };
        assert!(
            [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::ConnectionReset]
                .contains(&error.kind())
        );
    });
}

#[test]
fn continue_is_sent_before_the_body() {
    test(async {
        let server = Server::http(router(), Settings::default());
        let mut stream = server.connect_raw().await;
        let head = "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
                    Content-Length: 4\r\nConnection: close\r\n\r\n";
        write(&mut stream, head.as_bytes()).await.unwrap();
        let mut input = bytes::BytesMut::with_capacity(1024);
        let reading = std::future::poll_fn(|context| stream.poll_read_into(context, &mut input));
        time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(input, "HTTP/1.1 100 Continue\r\n\r\n");
        let text = raw_request(&mut stream, b"body").await;
        assert_eq!(in_short(&text), ["200 body"]);
    });
}

/// The responses in a text: the status and the body of each. A page made by the server is `page`, a
/// handler's failed body `failed`.
fn in_short(text: &str) -> Vec<String> {
    let mut responses = Vec::new();
    let mut rest = text;
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        rest = after;
        if status == "100" {
            responses.push(status);
            continue;
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        // The response to HEAD has a length and no body.
        let body = Bytes::copy_from_slice(after.get(..length).unwrap_or_default().as_bytes());
        rest = &after[body.len()..];
        let body = std::str::from_utf8(&body).unwrap();
        let body = match body {
            "" => "-",
            body if body.contains("Reference: ") => "page",
            body if body.starts_with("failed: ") => "failed",
            body => body,
        };
        responses.push(format!("{status} {body}"));
    }
    responses
}
