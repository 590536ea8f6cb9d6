//! Who waits how long. The limits are short here; the tests wait for them to expire and do not measure
//! them.

use std::future::poll_fn;
use std::io::IoSlice;
use std::time::Duration;

use app_server::Settings;
use axum::Router;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use event_loop::net::Stream;
use event_loop::time;

use crate::client::{Client, Server, id, raw_request, test};

const SHORT: Duration = Duration::from_millis(50);

/// For timeouts that must not expire on a busy machine.
const LONG: Duration = Duration::from_secs(1);

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/large", get(|| async { vec![b'x'; 8 << 20] }))
        .route("/count", post(|body: Bytes| async move { body.len().to_string() }))
        .route(
            "/slow",
            get(|| async {
                time::sleep(SHORT * 4).await;
                "slow"
            }),
        )
}

#[test]
fn an_idle_keep_alive_connection_is_closed() {
    test(async {
        let mut settings = Settings::default();
        settings.idle_timeout = SHORT;
        let server = Server::fastcgi(router(), settings);
        let mut never_used = server.connect().await;
        let mut used = server.connect().await;
        assert_eq!(used.get(true, "/").await.body(), b"fine");
        used.closed().await;
        never_used.closed().await;
    });
}

#[test]
fn a_handler_may_take_longer_than_a_peer_may_pause() {
    test(async {
        let mut settings = Settings::default();
        (settings.idle_timeout, settings.receive_timeout, settings.send_timeout) =
            (SHORT, SHORT, SHORT);
        let server = Server::fastcgi(router(), settings);
        assert_eq!(server.connect().await.get(true, "/slow").await.body(), b"slow");
    });
}

#[test]
fn an_incomplete_request_times_out() {
    test(async {
        let mut settings = Settings::default();
        (settings.receive_timeout, settings.head_timeout) = (SHORT, SHORT);
        let server = Server::fastcgi(router(), settings);
        let mut in_its_body = server.connect().await;
        in_its_body.begin(1, true, "POST", "/count");
        in_its_body.stdin(1, "half");
        in_its_body.send().await.unwrap();
        let mut in_its_variables = server.connect().await;
        let role = fastcgi_server::Role::Responder;
        in_its_variables.protocol.begin(id(1), role, true);
        in_its_variables.send().await.unwrap();
        assert_eq!(in_its_body.response(1).await.status(), 408);
        in_its_variables.closed().await;
    });
}

#[test]
fn a_peer_that_reads_nothing_times_out() {
    test(async {
        let mut settings = Settings::default();
        settings.send_timeout = SHORT;
        let server = Server::fastcgi(router(), settings);
        let mut client = server.connect().await;
        client.send_get(1, true, "/large").await;
        time::sleep(SHORT * 6).await;
        assert!(!client.response(1).await.ended, "the connection was closed in the middle");
    });
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> bool {
    let slices = [IoSlice::new(bytes)];
    poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.is_ok()
}

/// Sends a byte again and again until a response arrives or the connection is closed; returns the
/// response.
async fn drip(stream: &mut Stream) -> String {
    let mut input = BytesMut::with_capacity(4096);
    while write(stream, b"x").await {
        let coming = poll_fn(|context| stream.poll_read_into(context, &mut input));
        if time::timeout(SHORT / 5, coming).await.is_ok() {
            break;
        }
    }
    String::from_utf8_lossy(&input).into_owned()
}

#[test]
fn a_trickling_head_times_out_over_http() {
    test(async {
        let mut settings = Settings::default();
        settings.head_timeout = LONG / 4;
        let server = Server::http(router(), settings);
        let mut first = server.connect_raw().await;
        write(&mut first, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ").await;
        assert_eq!(drip(&mut first).await, "");
        let mut second = server.connect_raw().await;
        write(&mut second, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /").await;
        let response = drip(&mut second).await;
        assert!(response.ends_with("fine"), "{response}");
        assert_eq!(drip(&mut second).await, "", "the second request of a connection");
        let mut silent = server.connect_raw().await;
        assert_eq!(raw_request(&mut silent, b"").await, "");
    });
}

#[test]
fn an_http_connection_may_be_idle_longer_than_a_request_may_pause() {
    test(async {
        let mut settings = Settings::default();
        (settings.head_timeout, settings.receive_timeout) = (LONG / 2, LONG / 2);
        settings.idle_timeout = LONG * 3;
        let server = Server::http(router(), settings);
        let mut stream = server.connect_raw().await;
        for _ in 0..2 {
            write(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let mut input = BytesMut::with_capacity(4096);
            poll_fn(|context| stream.poll_read_into(context, &mut input)).await.unwrap();
            assert!(input.ends_with(b"fine"), "{input:?}");
            time::sleep(LONG).await;
        }
        assert_eq!(
            raw_request(&mut stream, b"").await,
            "",
            "it ends when it has been idle for long"
        );
    });
}

#[test]
fn trickling_variables_time_out() {
    test(async {
        let mut settings = Settings::default();
        settings.head_timeout = SHORT;
        let server = Server::fastcgi(router(), settings);
        // BEGIN_REQUEST, then PARAMS of 60,000 bytes.
        let begin = b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0\x01\x04\0\x01\xea\x60\0\0";
        let mut variables = server.connect_raw().await;
        write(&mut variables, begin).await;
        assert_eq!(drip(&mut variables).await, "");
        let mut question = server.connect_raw().await;
        write(&mut question, b"\x01\x09\0\0\xea\x60\0\0").await;
        assert_eq!(drip(&mut question).await, "");
    });
}

/// This much patience; 10,000 bytes per second earn it back.
fn with_a_rate(patience: Duration) -> Settings {
    let mut settings = Settings::default();
    (settings.receive_timeout, settings.min_rate) = (patience, 10_000);
    settings
}

#[test]
fn a_trickling_body_gets_408() {
    test(async {
        let server = Server::http(router(), with_a_rate(SHORT));
        let mut stream = server.connect_raw().await;
        write(&mut stream, b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            .await;
        let response = drip(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 408"), "{response}");

        let server = Server::fastcgi(router(), with_a_rate(SHORT));
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/count");
        assert_eq!(drip_body(&mut client, 1).await, 408);
        // The connection stays open, and so do the other requests on it.
        client.begin(2, true, "POST", "/count");
        client.begin(3, true, "GET", "/slow");
        client.protocol.stdin_end(id(3));
        assert_eq!(drip_body(&mut client, 2).await, 408);
        assert_eq!(client.response(3).await.body(), b"slow");
    });
}

/// Sends a byte of a body again and again until there is a response; returns its status.
async fn drip_body(client: &mut Client, number: u16) -> u16 {
    loop {
        client.stdin(number, "x");
        client.send().await.unwrap();
        if let Ok(response) = time::timeout(SHORT / 5, client.response(number)).await {
            return response.status();
        }
    }
}

#[test]
fn a_body_with_long_pauses_arrives_when_it_keeps_the_rate() {
    test(async {
        const PIECE: usize = 4000;
        const PIECES: usize = 5;
        /// Together they exceed the patience.
        const PAUSE: Duration = Duration::from_millis(300);
        let body = [b'x'; PIECE];
        let server = Server::http(router(), with_a_rate(LONG));
        let mut stream = server.connect_raw().await;
        let head = format!(
            "POST /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            PIECE * PIECES
        );
        write(&mut stream, head.as_bytes()).await;
        for _ in 0..PIECES {
            time::sleep(PAUSE).await;
            assert!(write(&mut stream, &body).await);
        }
        let response = raw_request(&mut stream, b"").await;
        assert!(response.ends_with("20000"), "{response}");

        let server = Server::fastcgi(router(), with_a_rate(LONG));
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/count");
        for _ in 0..PIECES {
            time::sleep(PAUSE).await;
            client.stdin(1, body.to_vec());
            client.send().await.unwrap();
        }
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.body(), b"20000");
    });
}

/// The client sends fast and the handler reads slowly: neither is too slow.
#[test]
fn a_handler_that_reads_slowly_is_not_the_senders_fault() {
    async fn slowly(body: axum::body::Body) -> String {
        use http_body_util::BodyExt;
        let (mut body, mut count) = (body, 0);
        while let Some(frame) = body.frame().await {
            if count == 0 {
                time::sleep(LONG * 3 / 2).await;
            }
            count += frame.unwrap().into_data().unwrap().len();
        }
        count.to_string()
    }
    test(async {
        let length = 400_000;
        for fastcgi in [true, false] {
            let router = Router::new().route("/", post(slowly));
            let mut settings = with_a_rate(LONG);
            settings.body_bytes = 4096;
            let body = vec![b'x'; length];
            if fastcgi {
                let server = Server::fastcgi(router, settings);
                let mut client = server.connect().await;
                client.begin(1, true, "POST", "/");
                client.stdin(1, body);
                client.protocol.stdin_end(id(1));
                client.send().await.unwrap();
                assert_eq!(client.response(1).await.body(), b"400000");
            } else {
                let server = Server::http(router, settings);
                let mut stream = server.connect_raw().await;
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                     Content-Length: {length}\r\n\r\n"
                );
                let request = [head.as_bytes(), &body].concat();
                let response = raw_request(&mut stream, &request).await;
                assert!(response.ends_with("400000"), "{response}");
            }
        }
    });
}
