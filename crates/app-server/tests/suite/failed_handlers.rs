//! What a handler failed with: the server logs it once and makes the page.

use std::io::Write;
use std::sync::{Arc, Mutex};

use app_server::{ErrorReport, Failed, Host, Settings};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{RETRY_AFTER, SET_COOKIE, VARY};

use crate::cgi::run;
use crate::client::{Server, raw_request, test};

/// As a handler's library makes it.
fn failed(failed: Failed) -> Response {
    let mut response = failed.status.into_response();
    response.extensions_mut().insert(failed);
    response
}

fn unavailable() -> Failed {
    Failed {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: Some("Come back later.".to_owned()),
        why: "no row: the disk said: a secret".to_owned(),
    }
}

fn with_status(status: StatusCode) -> Response {
    failed(Failed { status, message: None, why: "a secret".to_owned() })
}

pub(crate) fn router() -> Router {
    Router::new()
        .route("/bad", get(async || failed(unavailable())))
        .route("/later", get(async || ([(RETRY_AFTER, "7")], failed(unavailable()))))
        .route("/gone", get(async || with_status(StatusCode::GONE)))
        .route("/fine", get(async || with_status(StatusCode::OK)))
        .route("/interim", get(async || with_status(StatusCode::SWITCHING_PROTOCOLS)))
        .route(
            "/headers",
            get(async || ([(SET_COOKIE, "a=b"), (VARY, "origin")], failed(unavailable()))),
        )
        .route("/own-page", get(async || (failed(unavailable()).into_parts().0, "made by a layer")))
        .route("/wrapped", get(wrapped))
}

/// A layer has wrapped the body, and nobody knows its size.
async fn wrapped() -> Response {
    let none = futures_util::stream::empty::<Result<Bytes, axum::Error>>();
    failed(unavailable()).map(|_| axum::body::Body::from_stream(none))
}

/// What is logged on this thread while it lives.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn new() -> Log {
        #[derive(Clone)]
        struct Writer(Arc<Mutex<Vec<u8>>>);
        impl Write for Writer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = Writer(text.clone());
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        Log { text, _guard: tracing::subscriber::set_default(log.finish()) }
    }

    /// What has been logged since the last time.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.text.lock().unwrap())).unwrap()
    }
}

fn reference_on(page: &str) -> &str {
    let (_, reference) = page.split_once("Reference: ").unwrap_or_else(|| panic!("none: {page}"));
    reference.lines().next().unwrap()
}

/// Checks what each transport has to make of `/bad`.
fn is_the_servers_page(response: &str) {
    let (head, page) = response.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.lines().next().unwrap().contains(" 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8"), "{head}");
    assert!(page.starts_with("503 Service Unavailable\n\nCome back later.\n\nRef"), "{page}");
    assert!(!page.contains("secret"), "{page}");
    if let Some((_, length)) = head.split_once("content-length: ") {
        assert_eq!(length.lines().next().unwrap(), page.len().to_string(), "{head}");
    }
}

#[test]
fn a_server_error_is_logged_once_under_the_reference_that_the_visitor_sees() {
    test(async {
        let log = Log::new();
        let over_fastcgi = Server::fastcgi(router(), Settings::default());
        let response = over_fastcgi.connect().await.get(true, "/bad?token=hidden").await;
        let over_http = Server::http(router(), Settings::default());
        let mut stream = over_http.connect_raw().await;
        let request = "GET /bad?token=hidden HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let logged_first = log.take();
        let http = raw_request(&mut stream, request.as_bytes()).await;
        for (response, logged) in [(response.text(), logged_first), (&*http, log.take())] {
            is_the_servers_page(response);
            let reference = reference_on(response);
            assert_eq!(logged.matches("Request failed").count(), 1, "{logged}");
            for word in [
                " ERROR ",
                "Request failed: no row: the disk said: a secret.",
                &format!("reference={reference} "),
                "method=GET",
                "path=\"/bad\"",
                "status=503",
            ] {
                assert!(logged.contains(word), "{word}: {logged}");
            }
            assert!(!logged.contains("hidden"), "{logged}");
        }
    });
}

#[test]
fn over_cgi_the_page_is_the_same() {
    let ran = run("failed_handlers", &[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/bad")], b"");
    is_the_servers_page(std::str::from_utf8(&ran.output).unwrap());
}

#[test]
fn a_client_error_has_no_reference_and_is_not_logged() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let log = Log::new();
        let response = server.connect().await.get(true, "/gone").await;
        assert_eq!(response.status(), 410);
        assert_eq!(response.body(), b"410 Gone\n");
        assert_eq!(log.take(), "");
    });
}

#[test]
fn headers_of_the_response_stay() {
    struct Varies;
    impl Host for Varies {
        fn error_page(&self, report: &ErrorReport) -> http::Response<Bytes> {
            let words = report.message().unwrap_or_default().to_owned();
            let page = http::Response::builder().status(report.status);
            page.header(VARY, "accept").body(words.into()).unwrap()
        }
    }
    test(async {
        let server = Server::fastcgi_of(app_server::Server::new(router()).host(Varies));
        let response = server.connect().await.get(true, "/headers").await;
        assert_eq!(response.body(), b"Come back later.");
        let head = response.text().to_lowercase();
        for line in ["\r\nset-cookie: a=b\r\n", "\r\nvary: origin\r\n", "\r\nvary: accept\r\n"] {
            assert!(head.contains(line), "{head}");
        }
        assert_eq!(head.matches("content-length").count(), 1, "{head}");
    });
}

#[test]
fn a_head_request_gets_the_head_alone() {
    test(async {
        let server = Server::http(router(), Settings::default());
        let mut stream = server.connect_raw().await;
        let request = "HEAD /bad HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let response = raw_request(&mut stream, request.as_bytes()).await;
        assert!(response.starts_with("HTTP/1.1 503 ") && response.ends_with("\r\n\r\n"));
    });
}

#[test]
fn a_page_that_somebody_has_made_stays_and_the_cause_is_logged() {
    test(async {
        let log = Log::new();
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        let response = client.get(true, "/own-page").await;
        assert_eq!((response.status(), response.body()), (503, &b"made by a layer"[..]));
        assert_eq!(log.take().matches("no row: the disk said: a secret").count(), 1);
        // An empty body stays none because a layer is around it.
        is_the_servers_page(client.get(true, "/wrapped").await.text());
    });
}

#[test]
fn a_handler_says_when_to_try_again() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let response = server.connect().await.get(true, "/later").await;
        let head = response.text();
        assert!(head.contains("retry-after: 7\r\n"), "{head}");
        assert_eq!(head.matches("retry-after").count(), 1, "{head}");
    });
}

#[test]
fn a_failure_that_has_no_status_of_one_is_a_500() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        for path in ["/fine", "/interim"] {
            let response = client.get(true, path).await;
            assert_eq!(response.status(), 500, "{path}");
            reference_on(response.text());
        }
    });
}
