//! Who waits how long. The limits are short here; that they pass is waited for, not measured.

use std::time::Duration;

use app_server::Settings;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use event_loop::time;

use crate::client::{Server, id, test};

const SHORT: Duration = Duration::from_millis(50);

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
fn an_idle_kept_connection_ends() {
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
fn a_handler_may_think_longer_than_a_peer_may_pause() {
    test(async {
        let mut settings = Settings::default();
        (settings.idle_timeout, settings.receive_timeout, settings.send_timeout) =
            (SHORT, SHORT, SHORT);
        let server = Server::fastcgi(router(), settings);
        assert_eq!(server.connect().await.get(true, "/slow").await.body(), b"slow");
    });
}

#[test]
fn a_half_sent_request_ends() {
    test(async {
        let mut settings = Settings::default();
        settings.receive_timeout = SHORT;
        let server = Server::fastcgi(router(), settings);
        let mut in_its_body = server.connect().await;
        in_its_body.begin(1, true, "POST", "/count");
        in_its_body.stdin(1, "half");
        in_its_body.send().await.unwrap();
        let mut in_its_variables = server.connect().await;
        let role = fastcgi_server::Role::Responder;
        in_its_variables.protocol.begin(id(1), role, true);
        in_its_variables.send().await.unwrap();
        in_its_body.closed().await;
        in_its_variables.closed().await;
    });
}

#[test]
fn a_peer_that_takes_nothing_ends() {
    test(async {
        let mut settings = Settings::default();
        settings.send_timeout = SHORT;
        let server = Server::fastcgi(router(), settings);
        let mut client = server.connect().await;
        client.begin(1, true, "GET", "/large");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        time::sleep(SHORT * 6).await;
        assert!(!client.answer(1).await.ended, "the connection was closed in the middle");
    });
}
