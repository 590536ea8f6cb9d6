//! The load generator against services on our own server, on the same loop: is everything counted that should be?

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use app_server::{Body, Server, Transport};
use bytes::Bytes;
use event_loop::net::{Address, Listener, Stream};
use event_loop::time;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use load::options::Options;
use load::report::Report;
use tower_service::Service;

/// Says hello; counts the bytes of a POST; refuses `/refused`; never answers `/never`.
struct Hello;

impl Service<Request<Body>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut status = 200;
            let text = match (request.uri().path(), request.method().as_str()) {
                ("/never", _) => std::future::pending().await,
                ("/refused", _) => {
                    status = 403;
                    "no".to_owned()
                }
                (_, "POST") => {
                    let body = request.into_body().collect().await.unwrap();
                    body.to_bytes().len().to_string()
                }
                _ => "Hello, world!\n".to_owned(),
            };
            Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
        })
    }
}

/// Starts the service, sends the load, returns the report.
fn send(http: bool, change: impl FnOnce(&mut Options)) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let address: Address = format!("unix:{}/s", folder.path().display()).parse().unwrap();
    let transport = match http {
        true => Transport::Http(address.clone()),
        false => Transport::FastCgi(address.clone()),
    };
    let mut options = Options::to(address);
    options.http = http;
    options.requests = Some(100);
    options.seconds = Some(20.0);
    options.expect_text = Some("Hello, world!\n".to_owned());
    options.server_pids = vec![std::process::id()];
    change(&mut options);
    event_loop::run(async {
        let _server = event_loop::spawn(async {
            Server::new(Hello).serve(transport).await.unwrap();
        });
        time::timeout(Duration::from_secs(60), load::run::run(options)).await.unwrap().unwrap()
    })
    .unwrap()
}

#[test]
fn every_shape_of_load_is_answered() {
    type Change = fn(&mut Options);
    let cases: [(&str, bool, Change); 8] = [
        ("one keep-alive connection", false, |_| {}),
        ("16 keep-alive connections, warm-up", false, |it| (it.connections, it.warm_up) = (16, 50)),
        ("new connections", false, |it| (it.connections, it.new_connections) = (4, true)),
        ("multiplexed", false, |it| it.in_flight = 32),
        ("beside idle ones", false, |it| (it.connections, it.idle) = (4, 50)),
        ("posts", false, |it| {
            (it.body, it.expect_text) = (Some(200_000), Some("200000".to_owned()));
        }),
        ("http", true, |it| it.connections = 3),
        ("http posts on new connections", true, |it| {
            (it.body, it.expect_text) = (Some(200_000), Some("200000".to_owned()));
            it.new_connections = true;
        }),
    ];
    for (name, http, change) in cases {
        let report = send(http, change);
        assert!(report.errors.is_empty(), "{name}: {:?}", report.errors);
        assert_eq!(report.responses, 100, "{name}");
        assert_eq!(report.good_responses, 100, "{name}");
        assert!(report.latencies.p50 > 0.0 && report.latencies.max >= report.latencies.p999);
        assert!(report.after.peak_kib > 500, "{name}: {:?}", report.after);
    }
}

#[test]
fn bad_responses_are_counted() {
    let status = send(false, |it| it.path = "/refused".to_owned());
    assert_eq!(status.errors.bad_responses, 100);
    assert_eq!(status.errors.first, "the status is 403");
    assert_eq!(status.good_responses, 0);
    let text = send(false, |it| it.expect_text = Some("Hello!".to_owned()));
    assert_eq!(text.errors.bad_responses, 100);
    let length = send(true, |it| (it.expect_text, it.expect_length) = (None, Some(3)));
    assert_eq!(length.errors.bad_responses, 100);
}

#[test]
fn missing_responses_end_the_run_and_are_counted() {
    let report = send(false, |it| {
        (it.path, it.connections, it.patience) = ("/never".to_owned(), 3, 0.3);
    });
    assert_eq!(report.responses, 0);
    assert_eq!(report.errors.missing_responses, 3);
    assert_eq!(report.errors.connections_never_served, 3);
}

#[test]
fn time_bounds_a_run() {
    let report = send(false, |it| (it.requests, it.seconds) = (None, Some(0.3)));
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert!((0.3..5.0).contains(&report.seconds), "{}", report.seconds);
    // Here, server and load generator are one process and share the processor.
    assert!(report.processor.total_us > 30_000.0, "{:?}", report.processor);
}

/// A server that handles one connection at a time, as libfcgi's loop does.
#[test]
fn connections_that_are_never_served_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let address: Address = format!("unix:{}/s", folder.path().display()).parse().unwrap();
    let mut options = Options::to(address.clone());
    (options.connections, options.patience) = (4, 0.3);
    let report = event_loop::run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let _server = event_loop::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            respond_to_all(&mut first).await.unwrap();
        });
        options.seconds = Some(0.5);
        load::run::run(options).await.unwrap()
    })
    .unwrap();
    assert!(report.responses > 0);
    assert_eq!(report.errors.connections_never_served, 3, "{:?}", report.errors);
    assert_eq!(report.errors.missing_responses, 3, "{:?}", report.errors);
}

async fn respond_to_all(stream: &mut Stream) -> io::Result<()> {
    use fastcgi_server::{Connection, Event, Limits};
    let mut protocol = Connection::new(Limits::default());
    loop {
        let mut input = bytes::BytesMut::with_capacity(65536);
        if poll_fn(|context| stream.poll_read_into(context, &mut input)).await? == 0 {
            return Ok(());
        }
        protocol.handle_input(input.freeze());
        while let Some(event) = protocol.poll_event() {
            if let Event::Request(request) = event {
                protocol.stdout(request.id, Bytes::from_static(b"Status: 200\n\n"));
                protocol.end_request(request.id, 0);
            }
        }
        while protocol.unsent() > 0 {
            let output = protocol.take_unsent();
            let slices = [io::IoSlice::new(&output)];
            poll_fn(|context| stream.poll_write_vectored(context, &slices)).await?;
        }
    }
}
