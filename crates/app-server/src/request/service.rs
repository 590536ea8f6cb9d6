//! The trait that a service must satisfy to be served.

use std::convert::Infallible;
use std::fmt;

use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::request::body::Body;

/// Any [`tower_service::Service`] that answers requests with our [`Body`] and cannot fail: an axum
/// `Router`, a tower stack, a type of your own. A blanket implementation covers all of them.
///
/// It does not have to be `Send`, `Sync` or `Clone`: it is called on one thread.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service that this server can serve",
    label = "needs `Service<http::Request<app_server::Body>, Response = http::Response<…>, Error = Infallible>`",
    note = "an axum `Router` that lacks its state is not a service yet: call `.with_state(…)`",
    note = "a service that can fail needs an error handler in front (in axum: `HandleError`)"
)]
pub trait HttpService:
    Service<
        Request<Body>,
        Response = Response<<Self as HttpService>::Content>,
        Error = Infallible,
        Future: 'static,
    > + 'static
{
    /// The body of its responses.
    type Content: HttpBody<Error: fmt::Display> + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: 'static>
        + 'static,
    B: HttpBody<Error: fmt::Display> + 'static,
{
    type Content = B;
}
