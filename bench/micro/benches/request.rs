//! A request through the routers, and whole requests over a unix socket within one loop. Server and client
//! run together there, so the numbers show changes, not costs.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Instant;

use app_server::{Body, Server, Transport};
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use event_loop::net::Address;
use http::{Request, Response};
use http_body_util::Full;
use load::options::Options;
use tower_service::Service;

#[derive(Clone)]
struct Hello;

impl Service<Request<Body>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Full::from("Hello, world!\n"))))
    }
}

fn routed(router: &mut Router, path: &'static str) -> Response<axum::body::Body> {
    let request = Request::builder().uri(path).body(axum::body::Body::empty());
    let future = router.call(request.expect("it is a request"));
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => unreachable!("nothing is waited for"),
    }
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    let mut router = Router::new().route("/", get(|| async { "Hello, world!\n" })).route(
        "/hello/{name}",
        get(|Path(name): Path<String>| async move { format!("Hello, {name}!\n") }),
    );
    group.bench_function("axum, /", |bencher| bencher.iter(|| routed(&mut router, "/")));
    group.bench_function("axum, a path with a parameter", |bencher| {
        bencher.iter(|| routed(&mut router, "/hello/world"));
    });
    let mut site = site::router(tools::TABLE);
    group.bench_function("the site, /healthz", |bencher| {
        bencher.iter(|| routed(&mut site, "/healthz"));
    });
    group.bench_function("the site, the list of tools", |bencher| {
        bencher.iter(|| routed(&mut site, "/"));
    });
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let run = |change: fn(&mut Options)| {
        move |iterations: u64| {
            let folder = tempfile::tempdir().expect("a folder");
            let address: Address =
                format!("unix:{}/s", folder.path().display()).parse().expect("an address");
            let mut options = Options::to(address.clone());
            options.requests = Some(iterations);
            options.expect_text = Some("Hello, world!\n".to_owned());
            change(&mut options);
            let ended = event_loop::run(async {
                let _server = event_loop::spawn(async {
                    let served =
                        Server::new(Hello).serve(Transport::FastCgi(address));
                    served.await.expect("it serves");
                });
                let started = Instant::now();
                let report = load::run::run(options).await.expect("it is answered");
                // The end of a run is noticed by polling, but its own clock is exact.
                assert!(report.errors.is_empty(), "{:?}", report.errors);
                started.elapsed().min(std::time::Duration::from_secs_f64(report.seconds))
            });
            ended.expect("the loop runs")
        }
    };
    group.bench_function("keep-alive connection", |bencher| bencher.iter_custom(run(|_| {})));
    group.bench_function("a connection per request", |bencher| {
        bencher.iter_custom(run(|it| it.new_connections = true));
    });
    group.bench_function("32 in flight", |bencher| {
        bencher.iter_custom(run(|it| it.in_flight = 32));
    });
    group.finish();
}

criterion_group!(benches, routing, requests);
criterion_main!(benches);
