//! What can be served: any `tower` service, and an axum `Router` unchanged. These tests are the promise.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use app_server::{Body, FilterData, Host, RequestContext, Settings};
use axum::Router;
use axum::extract::{Extension, Path, Query};
use axum::routing::{any, get};
use bytes::Bytes;
use event_loop::time;
use fastcgi_server::Role as AskedFor;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use crate::client::{Server, id, raw_request, test};

fn router() -> Router {
    async fn asked(
        Extension(context): Extension<RequestContext>,
        request: axum::extract::Request,
    ) -> String {
        format!(
            "{} {} base={:?} {:?} {:?} {:?} {:?}",
            request.method(),
            request.uri(),
            context.base().as_str(),
            context.role(),
            context.scheme(),
            context.remote_address(),
            context
                .variables()
                .and_then(|it| it.get("X").map(|x| String::from_utf8_lossy(x).into_owned())),
        )
    }
    Router::new()
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>| async move { format!("Hello {name}") }),
        )
        .route(
            "/sum",
            get(|Query(terms): Query<Vec<(String, u32)>>| async move {
                terms.iter().map(|(_, term)| term).sum::<u32>().to_string()
            }),
        )
        .route("/echo", any(|body: axum::body::Body| async { body }))
        .route("/length", any(|body: Bytes| async move { body.len().to_string() }))
        .route("/asked", any(asked))
        .route(
            "/sleep",
            get(|| async {
                time::sleep(Duration::from_millis(5)).await;
                "slept"
            }),
        )
}

#[test]
fn an_axum_router_over_fastcgi() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        for (uri, status, body) in [
            ("/hello/world", 200, "Hello world"),
            ("/hello/%C3%A4%2F%20", 200, "Hello ä/ "),
            ("/sum?a=1&b=41", 200, "42"),
            ("/sleep", 200, "slept"),
            ("/nowhere", 404, ""),
        ] {
            let response = client.get(true, uri).await;
            assert_eq!(response.status(), status, "{uri}");
            assert_eq!(response.body(), body.as_bytes(), "{uri}");
        }
    });
}

#[test]
fn an_axum_router_over_http() {
    test(async {
        let server = Server::http(router(), Settings::default());
        let mut stream = server.connect_raw().await;
        let requests = "GET /hello/world HTTP/1.1\r\nhost: x\r\n\r\n\
                        POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc\
                        GET http://x/sum?a=1&b=41 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let responses = raw_request(&mut stream, requests.as_bytes()).await;
        let bodies: Vec<&str> = responses
            .split("\r\n\r\n")
            .skip(1)
            .map(|part| part.split("HTTP/1.1").next().unwrap())
            .collect();
        assert_eq!(bodies, ["Hello world", "abc", "42"]);
        assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 3);
    });
}

#[test]
fn the_request_context() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        let pairs: [(&[u8], &[u8]); 8] = [
            (b"REQUEST_METHOD", b"PUT"),
            (b"REQUEST_URI", b"/p/asked?q"),
            (b"SCRIPT_NAME", b"/p/dispatch.fcgi"),
            (b"PATH_INFO", b""),
            (b"HTTPS", b"on"),
            (b"REMOTE_ADDR", b"192.0.2.1"),
            (b"X", b"y"),
            (b"CONTENT_LENGTH", b"0"),
        ];
        // An authorizer gets no STDIN at all (FastCGI 1.0 §6.3).
        client.protocol.begin(id(1), AskedFor::Authorizer, true);
        client.protocol.params(id(1), pairs);
        client.protocol.params_end(id(1));
        client.send().await.unwrap();
        let response = client.response(1).await;
        assert_eq!(
            std::str::from_utf8(response.body()).unwrap(),
            "PUT /asked?q base=\"/p\" Some(Authorizer) Https Some(192.0.2.1) Some(\"y\")"
        );
    });
}

#[test]
fn bodies_arrive_in_full_and_with_their_length() {
    test(async {
        let server = Server::fastcgi(router(), Settings::default());
        for size in [0, 1, 65_536, 1_000_000] {
            let mut client = server.connect().await;
            client.begin(1, false, "POST", "/length");
            if size > 0 {
                client.stdin(1, vec![7; size]);
            }
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let response = client.response(1).await;
            assert_eq!(response.body(), size.to_string().as_bytes());
            client.closed().await;
        }
    });
}

/// Neither `Clone` nor `Send`, ready only when polled for the second time, with a body that is not
/// `Unpin`.
struct Peculiar(Rc<Cell<u32>>);

impl Service<Request<Body>> for Peculiar {
    type Response = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.set(self.0.get() + 1);
        if self.0.get() % 2 == 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = self.0.clone();
        Box::pin(async move {
            let data =
                RequestContext::of(request.extensions()).filter_data().and_then(FilterData::take);
            let stdin = request.into_body().collect().await.unwrap().to_bytes();
            let data = match data {
                Some(data) => data.collect().await.unwrap().to_bytes(),
                None => Bytes::new(),
            };
            let text = format!("{} {stdin:?} {data:?}", asked.get());
            Ok(Response::new(Full::from(text).boxed_unsync()))
        })
    }
}

#[test]
fn a_peculiar_service_as_a_filter() {
    test(async {
        let server = Server::fastcgi(Peculiar(Rc::default()), Settings::default());
        let mut client = server.connect().await;
        client.protocol.begin(id(1), AskedFor::Filter, true);
        let pairs: [(&[u8], &[u8]); 2] = [(b"REQUEST_METHOD", b"POST"), (b"REQUEST_URI", b"/")];
        client.protocol.params(id(1), pairs);
        client.protocol.params_end(id(1));
        client.stdin(1, "in");
        client.protocol.stdin_end(id(1));
        client.protocol.data(id(1), Bytes::from("file"));
        client.protocol.data_end(id(1));
        client.send().await.unwrap();
        let response = client.response(1).await;
        assert_eq!(std::str::from_utf8(response.body()).unwrap(), "2 b\"in\" b\"file\"");
    });
}

#[test]
fn a_host_looks_from_time_to_time_without_upgrades() {
    struct Looks(Rc<Cell<u32>>);
    impl Host for Looks {
        fn on_look(&self) {
            self.0.set(self.0.get() + 1);
        }
    }
    test(async {
        let looks: Rc<Cell<u32>> = Rc::default();
        let server = app_server::Server::new(router()).host(Looks(looks.clone()));
        let _server = Server::fastcgi_of(server);
        while looks.get() == 0 {
            time::sleep(Duration::from_millis(50)).await;
        }
    });
}
