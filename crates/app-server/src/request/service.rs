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
    message = "a router needs `.with_state(…)`, and a handler needs a router: `{Self}` is not a service",
    label = "not a `Service` of `http::Request<app_server::Body>`",
    note = "a `Router<State>` becomes a `Router` by `.with_state(state)`",
    note = "a handler is put into a router: `Router::new().route(\"/\", get(handler))`"
)]
pub trait HttpService:
    Service<
        Request<Body>,
        Response: HttpResponse<Content = <Self as HttpService>::Content>,
        Error: NeverFails,
        Future: 'static,
    > + 'static
{
    /// The body of its responses.
    type Content: HttpBody<Error: fmt::Display> + 'static;
}

impl<S> HttpService for S
where
    S: Service<Request<Body>, Response: HttpResponse, Error: NeverFails, Future: 'static> + 'static,
{
    type Content = <S::Response as HttpResponse>::Content;
}

/// What a service answers with: an [`http::Response`], and nothing else.
///
/// A trait, for what the compiler says to who forgets that.
#[diagnostic::on_unimplemented(
    message = "leave out `.into_make_service()`, or answer with an `http::Response`: `{Self}` is not a response",
    label = "a service that answers with `{Self}`",
    note = "what `axum::serve` gets makes services; this server takes the router itself"
)]
pub trait HttpResponse {
    /// Its body.
    type Content: HttpBody<Error: fmt::Display> + 'static;

    /// Returns the response.
    fn into_http(self) -> Response<Self::Content>;
}

impl<B: HttpBody<Error: fmt::Display> + 'static> HttpResponse for Response<B> {
    type Content = B;

    fn into_http(self) -> Self {
        self
    }
}

/// The error of a service that cannot fail: [`Infallible`], and nothing else. Each request has to get a response, and only the
/// application knows which one an error should be.
#[diagnostic::on_unimplemented(
    message = "make a response of `{Self}`: a service must not fail",
    label = "a service that may fail with `{Self}`",
    note = "in axum, `HandleError::new(service, handler)` and `HandleErrorLayer` make responses of errors",
    note = "in a service of your own, let the error be `std::convert::Infallible`"
)]
pub trait NeverFails {
    /// Returns what cannot be.
    fn never(self) -> Infallible;
}

impl NeverFails for Infallible {
    fn never(self) -> Infallible {
        self
    }
}
