//! What a failing application means for its client and for other requests.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::task::Poll;

use app_server::{Body, ErrorReport, Host, Settings};
use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::client::{Client, Server, id, test};

/// A body of chunks, then a panic or an error.
fn failing_body(pieces: usize, panics: bool) -> AxumBody {
    let mut left = pieces;
    let stream = futures_util::stream::poll_fn(move |_| {
        if left > 0 {
            left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece ")))));
        }
        if panics {
            panic!("a bug in the body");
        }
        Poll::Ready(Some(Err("the disk is gone")))
    });
    AxumBody::new(StreamBody::new(stream).map_err(axum::Error::new))
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/forever", get(pending::<&str>))
        .route("/panic", get(|| async { if true { panic!("a bug, with a secret") } else { "" } }))
        .route("/body/panic", get(|| async { failing_body(0, true) }))
        .route("/body/error", get(|| async { failing_body(0, false) }))
        .route("/middle/panic", get(|| async { failing_body(2, true) }))
        .route("/middle/error", get(|| async { failing_body(2, false) }))
}

#[test]
fn a_failure_before_the_first_byte_gets_a_page() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        for uri in ["/panic", "/body/panic", "/body/error"] {
            let response = client.get(true, uri).await;
            assert_eq!(response.status(), 500, "{uri}");
            let text = response.text();
            assert!(text.contains("Reference: ") && !text.contains("secret"), "{uri}: {text}");
            assert_eq!(client.get(true, "/").await.body(), b"fine", "after {uri}");
        }
    });
}

#[test]
fn a_failure_in_the_middle_closes_the_connection() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        for uri in ["/middle/panic", "/middle/error"] {
            let mut client = server.connect().await;
            let response = client.get(true, uri).await;
            assert!(!response.ended, "{uri}");
            assert!(response.body().starts_with(b"piece "), "{uri}");
            assert_eq!(server.connect().await.get(false, "/").await.body(), b"fine");
        }
    });
}

#[test]
fn a_failure_in_the_middle_does_not_affect_other_requests() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        begin_get(&mut client, 2, "/forever");
        begin_get(&mut client, 1, "/middle/panic");
        client.send().await.unwrap();
        let response = client.response(1).await;
        assert!(response.ended);
        assert_eq!(client.get(true, "/").await.body(), b"fine");
    });
}

fn begin_get(client: &mut Client, number: u16, uri: &str) {
    client.begin(number, true, "GET", uri);
    client.protocol.stdin_end(id(number));
}

/// Panics when called, not in its future.
#[derive(Clone)]
struct PanicsInCall;

impl tower_service::Service<Request<Body>> for PanicsInCall {
    type Response = Response<AxumBody>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        panic!("a bug in call")
    }
}

#[test]
fn a_panic_in_call_gets_the_hosts_page() {
    struct Pages;
    impl Host for Pages {
        fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
            let text = format!("{} at {:?}: {}", report.status, report.base, report.cause);
            Response::builder().status(report.status).body(text.into()).unwrap()
        }
    }
    test(async {
        let server = Server::fastcgi_of(app_server::Server::new(PanicsInCall).host(Pages));
        let mut client = server.connect().await;
        for _ in 0..3 {
            let response = client.get(true, "/").await;
            let expected =
                "500 Internal Server Error at \"\": the application panicked: a bug in call";
            assert_eq!(std::str::from_utf8(response.body()).unwrap(), expected);
        }
    });
}

#[test]
fn malformed_requests_are_answered_and_reported() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.begin(1, true, "G T", "/");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.status(), 400);
        assert_eq!(client.get(true, "/").await.body(), b"fine");
    });
}

#[test]
fn a_vanished_request_cancels_its_handler() {
    use std::cell::Cell;
    use std::rc::Rc;

    struct Noted(Rc<Cell<u32>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[derive(Clone)]
    struct Waits(Rc<Cell<u32>>);
    impl tower_service::Service<Request<Body>> for Waits {
        type Response = Response<AxumBody>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let noted = Noted(self.0.clone());
            Box::pin(async move {
                if request.uri().path() == "/wait" {
                    pending::<()>().await;
                }
                // A handler that has completed has not vanished.
                std::mem::forget(noted);
                Ok(Response::new(AxumBody::from("here")))
            })
        }
    }

    test(async {
        let ended = Rc::new(Cell::new(0));
        let server = Server::fastcgi(Waits(ended.clone()), Settings::default());
        // The web server closes the connection: as mod_fcgid does when a client leaves, while the next
        // request arrives on a second connection.
        let mut first = server.connect().await;
        begin_get(&mut first, 1, "/wait");
        first.send().await.unwrap();
        let mut second = server.connect().await;
        assert_eq!(second.get(true, "/").await.body(), b"here");
        assert_eq!(ended.get(), 0);
        drop(first);
        assert_eq!(second.get(true, "/").await.body(), b"here");
        assert_eq!(ended.get(), 1);
        // ABORT_REQUEST ends one request of a connection.
        begin_get(&mut second, 5, "/wait");
        second.send().await.unwrap();
        assert_eq!(second.get(true, "/").await.body(), b"here");
        second.protocol.abort(id(5));
        second.send().await.unwrap();
        assert!(second.response(5).await.ended);
        assert_eq!(ended.get(), 2);
        assert_eq!(second.get(true, "/").await.body(), b"here");
    });
}

#[test]
fn an_incomplete_body_is_an_error() {
    test(async {
        let application = Router::new().route(
            "/",
            axum::routing::post(|mut body: AxumBody| async move {
                while let Some(frame) = poll_fn(|context| {
                    http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context)
                })
                .await
                {
                    if let Err(error) = frame {
                        return error.to_string();
                    }
                }
                "whole".to_owned()
            }),
        );
        let server = Server::fastcgi(application, Settings::default());
        for (sent, expected) in [
            (&b"12345"[..], "whole"),
            (b"123", "request body ended after 3 of 5 announced bytes"),
            (b"1234567", "whole"),
            (b"", "request body ended after 0 of 5 announced bytes"),
        ] {
            let mut client = server.connect().await;
            let pairs: [(&[u8], &[u8]); 3] =
                [(b"REQUEST_METHOD", b"POST"), (b"REQUEST_URI", b"/"), (b"CONTENT_LENGTH", b"5")];
            client.protocol.begin(id(1), fastcgi_server::Role::Responder, false);
            client.protocol.params(id(1), pairs);
            client.protocol.params_end(id(1));
            if !sent.is_empty() {
                client.stdin(1, sent);
            }
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            assert_eq!(client.response(1).await.body(), expected.as_bytes());
        }
    });
}

/// A body whose error panics when it is formatted.
async fn panics_when_formatted() -> Response<AxumBody> {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("a bug in an error's text")
        }
    }
    impl std::error::Error for Unspeakable {}
    let failing =
        futures_util::stream::poll_fn(|_| Poll::Ready(Some(Err::<Frame<Bytes>, _>(Unspeakable))));
    Response::new(AxumBody::new(StreamBody::new(failing)))
}

#[test]
fn a_panic_while_reporting_a_failure_still_ends_the_request() {
    struct Pages;
    impl Host for Pages {
        fn error_page(&self, _: &ErrorReport) -> Response<Bytes> {
            panic!("a bug in the page")
        }
    }
    test(async {
        let router = router().route("/panics_when_formatted", get(panics_when_formatted));
        let server = Server::fastcgi_of(app_server::Server::new(router).host(Pages));
        let mut client = server.connect().await;
        for uri in ["/panic", "/panics_when_formatted", "/panic"] {
            let response = client.get(true, uri).await;
            assert!(response.ended, "{uri}");
            assert_eq!(response.status(), 500, "{uri}");
            let page = String::from_utf8_lossy(response.body()).into_owned();
            assert!(page.contains("Reference: "), "{uri}: {page}");
        }
        client.begin(1, true, "G T", "/");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.status(), 400);
        assert_eq!(client.get(true, "/").await.body(), b"fine");
    });
}
