//! More than there is room for: what is answered, what waits.

use app_server::Settings;
use axum::Router;
use axum::routing::get;
use fastcgi_server::Role;

use crate::client::{Server, id, test};

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/forever", get(std::future::pending::<&str>))
}

#[test]
fn too_many_exchanges_get_503() {
    test(async {
        let mut settings = Settings::default();
        settings.max_exchanges = 2;
        let server = Server::fastcgi(router(), settings);
        let mut busy = Vec::new();
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.begin(1, true, "GET", "/forever");
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            busy.push(client);
        }
        let mut client = server.connect().await;
        let answer = client.get(true, "/").await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().contains("retry-after: 1"), "{}", answer.text());
        busy.pop();
        // The next turn of the loop sees that it left.
        event_loop::yield_now().await;
        while client.get(true, "/").await.status() != 200 {}
    });
}

#[test]
fn a_full_house_asks_the_longest_idle_to_leave() {
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
fn who_has_just_come_is_not_taken_for_idle() {
    test(async {
        let mut settings = Settings::default();
        settings.max_connections = 1;
        let server = Server::fastcgi(router(), settings);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            // The next is waiting for the place, and this one has not asked yet.
            clients.push(server.connect().await);
            event_loop::time::sleep(std::time::Duration::from_millis(150)).await;
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
        assert_eq!(client.answer(1).await.status(), 431);
        assert_eq!(client.get(true, "/").await.body(), b"fine");
    });
}
