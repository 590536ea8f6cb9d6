//! More requests than there is room for: which are answered, which wait.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::time::Duration;

use app_server::Settings;
use axum::Router;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use event_loop::net::Stream;
use event_loop::time;
use fastcgi_server::Role;

use crate::client::{Client, Server, id, raw_request, test};

/// More than sockets hold without a reader.
const LARGE: usize = 8 << 20;

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/forever", get(std::future::pending::<&str>))
        .route("/large", post(|| async { vec![b'x'; LARGE] }))
        .route("/count", post(|body: Bytes| async move { body.len().to_string() }))
}

#[test]
fn too_many_requests_get_503() {
    test(async {
        let mut settings = Settings::default();
        settings.max_requests = 2;
        let server = Server::fastcgi(router(), settings);
        let mut busy = Vec::new();
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.send_get(1, true, "/forever").await;
            busy.push(client);
        }
        let mut client = server.connect().await;
        let response = client.get(true, "/").await;
        assert_eq!(response.status(), 503);
        assert!(response.text().contains("retry-after: 1"), "{}", response.text());
        busy.pop();
        // The next turn of the loop notices that it has left.
        event_loop::yield_now().await;
        while client.get(true, "/").await.status() != 200 {}
    });
}

#[test]
fn the_longest_idle_connection_is_closed_at_the_limit() {
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 4;
        let server = Server::fastcgi(router(), settings);
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = server.connect().await;
            assert_eq!(client.get(true, "/").await.body(), b"fine");
            clients.push(client);
        }
        let (first, last) = (0, clients.len() - 1);
        clients[first].closed().await;
        assert_eq!(clients[last].get(true, "/").await.body(), b"fine");
    });
}

#[test]
fn a_new_connection_does_not_count_as_idle() {
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 1;
        let server = Server::fastcgi(router(), settings);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            // The next one is waiting for room, and this one has not sent a request yet.
            clients.push(server.connect().await);
            time::sleep(Duration::from_millis(150)).await;
            assert_eq!(client.get(false, "/").await.body(), b"fine");
            let mut waited = clients.remove(0);
            assert_eq!(waited.get(false, "/").await.body(), b"fine");
        }
    });
}

#[test]
fn too_many_variables_get_431() {
    test(async {
        let mut settings = Settings::default();
        settings.params_bytes = 10_000;
        let server = Server::fastcgi(router(), settings);
        let mut client = server.connect().await;
        client.protocol.begin(id(1), Role::Responder, true);
        let value = vec![b'x'; 20_000];
        let pairs: [(&[u8], &[u8]); 1] = [(b"HTTP_COOKIE", &value)];
        client.protocol.params(id(1), pairs);
        client.protocol.params_end(id(1));
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.status(), 431);
        assert_eq!(client.get(true, "/").await.body(), b"fine");
    });
}

/// Starts a request whose body does not arrive, for a client at this address.
async fn upload(server: &Server, address: &str) -> Client {
    let mut client = server.connect().await;
    client.protocol.begin(id(1), Role::Responder, true);
    let pairs: [(&[u8], &[u8]); 4] = [
        (b"REQUEST_METHOD", b"POST"),
        (b"REQUEST_URI", b"/count"),
        (b"SCRIPT_NAME", b"/count"),
        (b"REMOTE_ADDR", address.as_bytes()),
    ];
    client.protocol.params(id(1), pairs);
    client.protocol.params_end(id(1));
    client.stdin(1, "half");
    client.send().await.unwrap();
    client
}

/// How much of the patience is used up before a sender counts as slow: 2 s of 60, or half of it.
const SLOW: Duration = Duration::from_secs(2);

fn crowded(max_requests: usize) -> Settings {
    let mut settings = Settings::default();
    (settings.max_requests, settings.receive_timeout) = (max_requests, Duration::from_secs(60));
    settings
}

#[test]
fn stalled_uploads_leave_permits_for_complete_requests() {
    test(async {
        let server = Server::fastcgi(router(), crowded(4));
        let mut uploads = Vec::new();
        for _ in 0..3 {
            uploads.push(upload(&server, "192.0.2.1").await);
        }
        assert_eq!(server.connect().await.get(true, "/").await.body(), b"fine");
        let mut fourth = upload(&server, "192.0.2.1").await;
        assert_eq!(fourth.response(1).await.status(), 503);
        assert_eq!(server.connect().await.get(true, "/").await.body(), b"fine");
        // They were first, and continue.
        for mut upload in uploads {
            upload.protocol.stdin_end(id(1));
            upload.send().await.unwrap();
            assert_eq!(upload.response(1).await.body(), b"4");
        }
    });
}

#[test]
fn the_address_with_most_uploads_makes_room_for_others() {
    test(async {
        let server = Server::fastcgi(router(), crowded(8));
        let mut crowd = Vec::new();
        for _ in 0..5 {
            crowd.push(upload(&server, "192.0.2.1").await);
        }
        let mut others = vec![upload(&server, "192.0.2.2").await];
        // All six permits are taken.
        others.push(upload(&server, "192.0.2.3").await);
        others.push(upload(&server, "192.0.2.4").await);
        while crowd.len() > 3 {
            let mut client = crowd.remove(0);
            match time::timeout(Duration::from_millis(10), client.response(1)).await {
                Ok(response) => assert_eq!(response.status(), 503),
                Err(_) => crowd.push(client),
            }
        }
        for mut upload in others.into_iter().chain(crowd) {
            upload.protocol.stdin_end(id(1));
            upload.send().await.unwrap();
            assert_eq!(upload.response(1).await.body(), b"4");
        }
    });
}

#[test]
fn a_slow_upload_makes_room_when_all_permits_are_taken() {
    test(async {
        let mut settings = crowded(4);
        settings.receive_timeout = SLOW * 2;
        let server = Server::fastcgi(router(), settings);
        let mut slow = upload(&server, "192.0.2.1").await;
        let mut busy = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            client.send_get(1, true, "/forever").await;
            busy.push(client);
        }
        let mut client = server.connect().await;
        assert_eq!(client.get(true, "/").await.status(), 503, "nobody is slow yet");
        time::sleep(SLOW).await;
        assert_eq!(client.get(true, "/").await.body(), b"fine");
        assert_eq!(slow.response(1).await.status(), 503);
    });
}

#[test]
fn no_connection_is_accepted_past_the_limit() {
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 2;
        let server = Server::fastcgi(router(), settings);
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = server.connect().await;
            client.send_get(1, false, "/forever").await;
            clients.push(client);
        }
        // Two are answered, two wait; the last is a well-behaved one that is accepted when both are gone.
        let mut last = server.connect().await;
        last.send_get(1, false, "/").await;
        let early = time::timeout(Duration::from_millis(800), last.response(1)).await;
        assert!(early.is_err(), "it was accepted past the limit");
        clients.truncate(1);
        assert_eq!(last.response(1).await.body(), b"fine");
    });
}

/// The server is full of incomplete heads; a newcomer is still served, once each has had its second.
#[test]
fn incomplete_heads_make_room_for_newcomers() {
    /// Long before they time out.
    const SOON: Duration = Duration::from_secs(10);
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 4;
        let server = Server::http(router(), settings.clone());
        let half = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ";
        let mut crowd = Vec::new();
        for _ in 0..10 {
            let mut stream = server.connect_raw().await;
            let slices = [IoSlice::new(half)];
            poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
            crowd.push(stream);
        }
        let mut stream = server.connect_raw().await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let response = time::timeout(SOON, raw_request(&mut stream, request)).await.unwrap();
        assert!(response.ends_with("fine"), "{response}");
        let oldest = time::timeout(SOON, raw_request(&mut crowd[0], b"")).await;
        assert_eq!(oldest.unwrap(), "", "it has made room");

        let server = Server::fastcgi(router(), settings);
        let mut crowd = Vec::new();
        for _ in 0..10 {
            let mut client = server.connect().await;
            client.protocol.begin(id(1), Role::Responder, true);
            client.send().await.unwrap();
            crowd.push(client);
        }
        let mut client = server.connect().await;
        let response = time::timeout(SOON, client.get(true, "/")).await.unwrap();
        assert_eq!(response.body(), b"fine");
        time::timeout(SOON, crowd[0].closed()).await.expect("it has made room");
    });
}

/// Its handler has finished and its body is still arriving, but its response has not been sent yet.
#[test]
fn a_pending_response_is_not_cut_off_for_a_newcomer() {
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 1;
        let server = Server::http(router(), settings);
        let mut stream = server.connect_raw().await;
        let request = b"POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf";
        let slices = [IoSlice::new(request)];
        poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
        let mut newcomer = server.connect_raw().await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let early = raw_request(&mut newcomer, request);
        let early = time::timeout(Duration::from_millis(2500), early).await;
        assert!(early.is_err(), "it took the place of one that is answered: {early:?}");
        // Once the response is sent, the rest of the body is no reason to keep it.
        let response = raw_request(&mut stream, b"").await;
        assert!(response.len() > LARGE, "{} bytes of {LARGE}", response.len());
        assert!(raw_request(&mut newcomer, b"").await.ends_with("fine"));
    });
}

#[test]
fn incomplete_variables_share_one_limit() {
    test(async {
        let mut settings = Settings::default();
        settings.total_head_bytes = 100_000;
        let server = Server::fastcgi(router(), settings);
        let mut crowd = Vec::new();
        let value = vec![b'x'; 30_000];
        for number in 0..10 {
            let mut client = server.connect().await;
            client.protocol.begin(id(1), Role::Responder, true);
            let pairs: [(&[u8], &[u8]); 1] = [(b"HTTP_COOKIE", &value)];
            client.protocol.params(id(1), pairs);
            // It may be closed in the meantime.
            let _ = client.send().await;
            crowd.push(client);
            let response = server.connect().await.get(true, "/").await;
            assert_eq!(response.body(), b"fine", "after {number}");
        }
        let mut open = 0;
        for mut client in crowd {
            open += usize::from(
                time::timeout(Duration::from_millis(50), client.closed()).await.is_err(),
            );
        }
        assert!((1..=3).contains(&open), "{open} are still open");
    });
}

/// Many connections each send hundreds of requests at once and read no response; another client sends one at a time.
#[test]
fn pipelined_requests_take_turns_with_those_of_others() {
    const ASKED: usize = 5;
    const CROWD: usize = 128;
    const PIPELINED: usize = 300;
    thread_local!(static ANSWERED: Cell<usize> = const { Cell::new(0) });
    let count = || async { ANSWERED.replace(ANSWERED.get() + 1).to_string() };
    test(async move {
        let server = Server::http(Router::new().route("/", get(count)), Settings::default());
        let mut honest = server.connect_raw().await;
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut stream = server.connect_raw().await;
            write(&mut stream, &request.repeat(PIPELINED)).await;
            crowd.push(stream);
        }
        let mut input = BytesMut::new();
        for _ in 0..ASKED {
            write(&mut honest, request).await;
            input.reserve(4096);
            poll_fn(|context| honest.poll_read_into(context, &mut input)).await.unwrap();
        }
        let answered = ANSWERED.get();
        assert!(answered < 4 * ASKED * CROWD, "{answered} responses while one asked for {ASKED}");
    });
}

async fn write(stream: &mut Stream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let slices = [IoSlice::new(bytes)];
        let sent = poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
        bytes = &bytes[sent..];
    }
}
