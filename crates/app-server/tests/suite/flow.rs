//! Bodies in both directions: backpressure, fairness, unread bodies.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use app_server::Settings;
use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::Path;
use axum::routing::{any, get, post};
use bytes::Bytes;
use event_loop::time;
use fastcgi_server::client::Event;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;

use crate::client::{Server, id, test};

thread_local! {
    /// Bytes the handlers of this test's thread have read or made.
    static MOVED: Rc<Cell<u64>> = Rc::default();
    /// Handlers of bodies in flight.
    static HANDLERS: Cell<u32> = const { Cell::new(0) };
    /// Handlers read bodies only while this is set.
    static READING: Cell<bool> = const { Cell::new(true) };
}

/// Counts a handler as in flight until it ends, on its own or by cancellation.
struct HandlerInFlight;

impl HandlerInFlight {
    fn begin() -> Self {
        HANDLERS.set(HANDLERS.get() + 1);
        HandlerInFlight
    }
}

impl Drop for HandlerInFlight {
    fn drop(&mut self) {
        HANDLERS.set(HANDLERS.get() - 1);
    }
}

fn moved() -> u64 {
    MOVED.with(|moved| moved.get())
}

fn router() -> Router {
    async fn count(mut body: AxumBody) -> String {
        let _counted = HandlerInFlight::begin();
        let mut bytes = 0;
        loop {
            while !READING.get() {
                time::sleep(Duration::from_millis(1)).await;
            }
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                None => return bytes.to_string(),
                Some(frame) => {
                    let length = frame.unwrap().into_data().unwrap().len() as u64;
                    bytes += length;
                    MOVED.with(|moved| moved.set(moved.get() + length));
                }
            }
        }
    }
    async fn make(Path(mebibytes): Path<u64>) -> AxumBody {
        let mut left = mebibytes << 20;
        AxumBody::new(StreamBody::new(futures_util::stream::poll_fn(move |_| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 16 * 1024;
            MOVED.with(|moved| moved.set(moved.get() + 16 * 1024));
            Poll::Ready(Some(Ok::<_, axum::Error>(Frame::data(Bytes::from_static(
                &[b'x'; 16 * 1024],
            )))))
        })))
    }
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/count", post(count))
        .route("/make/{mebibytes}", get(make))
        .route("/ignore", any(|| async { "did not read" }))
}

#[test]
fn a_handler_that_does_not_read_stops_the_sender() {
    test(async {
        READING.set(false);
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.begin(1, false, "POST", "/count");
        client.stdin(1, vec![0; 8 << 20]);
        client.protocol.stdin_end(id(1));
        let stopped = time::timeout(Duration::from_millis(200), client.send()).await;
        assert!(stopped.is_err(), "8 MiB went somewhere");
        let taken = (8 << 20) - client.protocol.unsent();
        assert!(taken < 1 << 20, "{taken} bytes were taken");
        READING.set(true);
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.body(), b"8388608");
        client.closed().await;
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_handler() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.send_get(1, false, "/make/64").await;
        time::sleep(Duration::from_millis(100)).await;
        let made = moved();
        assert!(made < 1 << 20, "{made} bytes were made for nobody");
        time::sleep(Duration::from_millis(50)).await;
        assert_eq!(moved(), made, "the handler rests");
        assert_eq!(client.response(1).await.body().len(), 64 << 20);
    });
}

#[test]
fn a_slow_body_does_not_delay_the_others_of_its_connection() {
    test(async {
        READING.set(false);
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        // The first request makes the connection one that carries several.
        client.begin(7, true, "POST", "/count");
        client.begin(8, true, "POST", "/count");
        client.stdin(8, vec![0; 4 << 20]);
        client.protocol.stdin_end(id(8));
        client.send_get(1, true, "/").await;
        assert_eq!(client.response(1).await.body(), b"fine", "4 MiB wait on disk");
        READING.set(true);
        client.protocol.stdin_end(id(7));
        client.send().await.unwrap();
        let mut texts = std::collections::BTreeMap::<_, Vec<u8>>::new();
        while client.protocol.active_requests() > 0 {
            if let Some(Event::Stdout { id, data }) = client.event().await {
                texts.entry(id.get()).or_default().extend(&data[..]);
            }
        }
        assert!(texts[&7].ends_with(b"\r\n\r\n0"));
        assert!(texts[&8].ends_with(b"\r\n\r\n4194304"));
    });
}

#[test]
fn an_unread_body_is_discarded_before_the_connection_is_closed() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.begin(1, false, "POST", "/ignore");
        client.stdin(1, vec![0; 16 << 20]);
        client.protocol.stdin_end(id(1));
        client.send().await.expect("the whole body is taken");
        assert_eq!(client.response(1).await.body(), b"did not read");
        client.closed().await;
    });
}

#[test]
fn discarding_an_unread_body_is_limited() {
    test(async {
        let mut settings = Settings::default();
        settings.unread_body_bytes = 1 << 20;
        let server = Server::fastcgi(router(), settings);
        let mut client = server.connect().await;
        client.begin(1, false, "POST", "/ignore");
        client.stdin(1, vec![0; 16 << 20]);
        let error = client.send().await.expect_err("1 MiB is the limit");
        assert!(
            [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::ConnectionReset]
                .contains(&error.kind())
        );
    });
}

#[test]
fn a_keep_alive_connection_survives_an_unread_body() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        for _ in 0..3 {
            client.begin(1, true, "POST", "/ignore");
            client.stdin(1, vec![0; 1 << 20]);
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            assert_eq!(client.response(1).await.body(), b"did not read");
        }
    });
}

#[test]
fn a_peer_that_leaves_while_its_body_waits_cancels_the_handler() {
    test(async {
        READING.set(false);
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.begin(1, false, "POST", "/count");
        client.stdin(1, vec![0; 8 << 20]);
        let stopped = time::timeout(Duration::from_millis(50), client.send()).await;
        assert!(stopped.is_err(), "the body waits");
        assert_eq!(HANDLERS.get(), 1);
        drop(client);
        while HANDLERS.get() > 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Without a Content-Length, only the end of STDIN marks a body as complete. (haproxy once waited for the
/// rest.)
#[test]
fn the_end_of_input_within_a_record_does_not_end_a_body() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        for (within, bytes) in [
            ("a header", &[1, 5, 0, 1, 0][..]),
            ("the header that would end the body", &[1, 5, 0, 1, 0, 0, 0]),
            ("content", b"\x01\x05\0\x01\xff\xff\x08\0half"),
            ("padding", b"\x01\x05\0\x01\0\x04\x08\0half____"),
            ("no record, but a body", b"\x01\x05\0\x01\0\x04\0\0half"),
        ] {
            let mut client = server.connect().await;
            client.begin(1, true, "POST", "/count");
            client.send_last(bytes).await;
            // Long before `receive_timeout`.
            let event = time::timeout(Duration::from_secs(5), client.event()).await;
            assert!(matches!(event, Ok(None)), "within {within}: {event:?}");
            assert_eq!(HANDLERS.get(), 0, "within {within}");
        }
    });
}
