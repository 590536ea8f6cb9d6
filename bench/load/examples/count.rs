//! Our server for the scenarios with bodies: reads a POST to its end and responds with the number of bytes, as
//! the peers do. (`hello` does not read bodies: the server discards them.)
//!
//! `count service` is a bare tower service, `count axum` an axum Router; both listen on descriptor 0.
//! `count cgi` answers one request over CGI.

use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::{Context, Poll};

use app_server::{Server, Transport};
use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("service") => Server::new(Count).run(Transport::Spawned),
        Some("axum") => {
            let router = Router::new()
                .route("/", post(|body: axum::body::Body| async move { count(body).await }));
            Server::new(router).run(Transport::Spawned)
        }
        Some("cgi") => Server::new(Hello).run(Transport::Cgi),
        _ => {
            eprintln!("count: say service, axum or cgi.");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("count: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Count;

impl Service<Request<app_server::Body>> for Count {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<app_server::Body>) -> Self::Future {
        Box::pin(async { Ok(Response::new(Full::from(count(request.into_body()).await))) })
    }
}

struct Hello;

impl Service<Request<app_server::Body>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<app_server::Body>) -> Self::Future {
        ready(Ok(Response::new(Full::from("Hello, world!\n"))))
    }
}

/// Returns the number of bytes of a body, as text.
async fn count(body: impl Body<Data = Bytes>) -> String {
    let mut body = pin!(body);
    let mut bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    format!("{bytes}\n")
}
