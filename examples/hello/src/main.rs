//! The smallest application: a bare `tower` service.
//!
//! ```text
//! cargo run --release -p hello                                    # http://127.0.0.1:8080
//! cargo run --release -p hello fastcgi:unix:/tmp/hello.sock
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::process::ExitCode;
use std::task::{Context, Poll};

use app_server::{Body, Server, Transport};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tower_service::Service;

struct Hello;

impl Service<Request<Body>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut response = Response::new(Full::from("Hello, world!\n"));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        ready(Ok(response))
    }
}

fn main() -> ExitCode {
    // A log that cannot be written must not cause a panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_writer(std::io::stderr).init();
    let argument = std::env::args().nth(1).unwrap_or("http:127.0.0.1:8080".to_owned());
    let result = Transport::inherited()
        .map_or_else(|| argument.parse(), Ok)
        .and_then(|transport| Server::new(Hello).run(transport).map_err(|error| error.to_string()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}
