//! What several of the modules beside this use.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use app_server::Body;
use http::{Request, Response};
use tower_service::Service;

/// A router's state.
#[derive(Clone)]
pub(crate) struct Shop;

/// A service that can fail.
pub(crate) struct Failing;

impl Service<Request<Body>> for Failing {
    type Response = Response<String>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new("Hello".to_owned())))
    }
}
