//! What every response of the site gets on its way out: the page for a failure, headers that protect
//! the visitor, and no body for HEAD.
//!
//! It is the outermost layer of `router.rs`; the words of failures are in `error_page.rs`.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body::Body as _;

use crate::base_path::BasePath;
use crate::error_page::ErrorPage;
use crate::format::Format;
use crate::server::Server;

/// The layer itself.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let base = request.extensions().get::<BasePath>().cloned().unwrap_or_default();
    let server = Server::of(request.extensions());
    let uri = request.uri().clone();
    let method = request.method().clone();
    let accept = request.headers().get_all(ACCEPT).iter().cloned();
    let accept: HeaderMap = accept.map(|value| (ACCEPT, value)).collect();

    let mut response = next.run(request).await;
    if let Some(failure) = failure_without_words(&mut response) {
        let format = Format::wanted(&accept, failure.format_without_preference());
        let is_the_sites = failure.status().is_server_error();
        let reference = is_the_sites.then(|| server.reference()).flatten();
        log(&failure, &method, &uri, reference.as_deref());
        let page = failure.render(&base, reference.as_deref(), format);
        response = with_page(response, page.map(Body::from));
    }
    if method == Method::HEAD {
        response = without_body(response);
    }
    add_security_headers(response.headers_mut());
    response
}

/// Tells the owner of a failure that is the site's own. The query may hold secrets and stays out.
fn log(failure: &ErrorPage, method: &Method, uri: &Uri, reference: Option<&str>) {
    let status = failure.status();
    if status.is_server_error() {
        let (reference, path) = (reference.unwrap_or("-"), uri.path());
        let cause = failure.cause_for_the_log().unwrap_or("the tool names no cause");
        tracing::error!(reference, %status, %method, path, "A tool failed: {cause}.");
    }
}

/// Adds the headers that protect the visitor, where the handler has not set its own.
///
/// Scripts and styles only as files of this site, nothing from elsewhere, no frames around us, no
/// address of a private page told to others.
pub(crate) fn add_security_headers(headers: &mut HeaderMap) {
    let defaults: [(HeaderName, &'static str); 3] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; \
             object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Takes the failure out of a response that still needs its page: an [`ErrorPage`], or a bare status
/// (the router's own 404 and 405, a handler's `StatusCode`).
fn failure_without_words(response: &mut Response) -> Option<ErrorPage> {
    if let Some(failure) = response.extensions_mut().remove::<ErrorPage>() {
        return Some(failure);
    }
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_bare = response.body().size_hint().exact() == Some(0)
        && !response.headers().contains_key(CONTENT_TYPE);
    (is_failure && is_bare).then(|| ErrorPage::new(status))
}

/// Puts the page in the place of the body; the headers of the response (`Allow`, `Retry-After`) stay.
fn with_page(mut response: Response, page: Response) -> Response {
    let (mut head, body) = page.into_parts();
    response.headers_mut().remove(CONTENT_LENGTH);
    if response.headers().contains_key(RETRY_AFTER) {
        head.headers.remove(RETRY_AFTER);
    }
    response.headers_mut().extend(head.headers);
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    *response.body_mut() = body;
    response
}

/// The answer to HEAD: the headers that GET would have got.
fn without_body(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact()
        && length > 0
    {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
    response
}
