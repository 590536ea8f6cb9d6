//! What happens to every request before its handler, and to every response after it: who the visitor is, HTTPS, pages
//! for failures, headers that protect visitors, no body for HEAD.
//!
//! The outermost layer of `router.rs` except compression. Errors are values (`http/error.rs`), which
//! `pages/error_page.rs` renders.

mod https;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
    VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body::Body as _;

use self::https::HttpsRedirect;
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::http::media_type::MediaType;
use crate::http::request_body::Chunks;
use crate::http::security_headers::add_security_headers;
use crate::login::authorizer::AuthorizerQuery;
use crate::login::pages::is_page;
use crate::login::{Gate, Visitor};
use crate::pages::error_page;
use crate::pages::frame::Frame;
use crate::pages::page::CACHING;
use crate::server::Server;
use crate::settings::SiteSettings;
use crate::tool::Tool;

/// Runs before and after every handler.
pub(crate) struct Middleware {
    /// Whether somebody else has written the pages: then headers and forms are theirs.
    is_around_app: bool,
    gate: Option<Arc<Gate>>,
    asked_by_owner: bool,
    https_redirect: Option<HttpsRedirect>,
    hsts: Option<HeaderValue>,
}

impl Middleware {
    pub(crate) fn new(settings: &SiteSettings, gate: Option<Arc<Gate>>) -> Self {
        let hsts = Some(settings.hsts).filter(|hsts| !hsts.is_zero());
        let hsts =
            hsts.and_then(|hsts| HeaderValue::try_from(format!("max-age={}", hsts.as_secs())).ok());
        let asked_by_owner = settings.asked_by_owner;
        let redirects = settings.redirects_to_https && !asked_by_owner;
        let https_redirect = redirects.then(HttpsRedirect::new);
        Middleware { is_around_app: false, gate, asked_by_owner, https_redirect, hsts }
    }

    /// Leaves headers and forms of pages that are not the site's alone.
    pub(crate) fn around_app(self) -> Self {
        Middleware { is_around_app: true, ..self }
    }

    /// Handles a request: identifies the visitor, runs the handler, completes its response.
    pub(crate) async fn handle(&self, mut request: Request, next: Next) -> Response {
        let server = Server::of(request.extensions());
        let is_https = (server.0.is_https)(request.extensions());
        if let Some(query) = request.extensions().get::<AuthorizerQuery>().cloned() {
            let (head, _) = request.into_parts();
            return self.authorize(&head, &query, is_https, server).await;
        }
        let base = request.extensions().get::<BasePath>().cloned().unwrap_or_default();
        if let Some(redirect) = self.redirect_to_https(&request, &base, is_https) {
            return redirect;
        }
        let asked = RequestSummary::of(&request);
        let admitted = self.admit(&mut request).await;
        let visitor = admitted.as_ref().cloned().unwrap_or_default();
        let frame = visitor.frame(base, server.name());
        let response = match admitted {
            Ok(visitor) => {
                describe_visitor(&mut request, visitor, &frame);
                next.run(request).await
            }
            Err(refusal) => refusal.into_response(),
        };
        let mut response = with_error_page(response, &asked, &frame).await;
        if asked.method == Method::HEAD {
            response = without_body(response);
        }
        let is_of_app = response.extensions_mut().remove::<OfApp>().is_some();
        self.complete(response.headers_mut(), &visitor, &frame.base, is_https);
        if !is_of_app {
            add_security_headers(response.headers_mut());
        }
        response
    }

    fn redirect_to_https(
        &self,
        request: &Request,
        base: &BasePath,
        is_https: bool,
    ) -> Option<Response> {
        let https_redirect = self.https_redirect.as_ref().filter(|_| !is_https)?;
        let mut response = https_redirect.redirect(request, base)?;
        add_security_headers(response.headers_mut());
        Some(response)
    }

    /// Identifies the visitor. Static files, `/healthz` and `/readyz` are the same for everybody.
    async fn admit(&self, request: &mut Request) -> Result<Visitor, HttpError> {
        let path = request.uri().path();
        match &self.gate {
            _ if self.asked_by_owner => Ok(Visitor::in_the_shell()),
            Some(gate) if !is_for_monitors(path) && !path.starts_with("/static/") => {
                // An application's forms have no token of ours.
                let needs_token = !self.is_around_app || is_page(path);
                gate.admit(request, needs_token).await
            }
            _ => Ok(Visitor::default()),
        }
    }

    /// Answers an authorizer request of the web server. Without a login, all are refused.
    async fn authorize(
        &self,
        head: &Parts,
        query: &AuthorizerQuery,
        is_https: bool,
        server: Server,
    ) -> Response {
        let response = match &self.gate {
            Some(gate) => gate.authorize(head, query, is_https).await,
            None => Err(HttpError::new(StatusCode::FORBIDDEN)),
        };
        response.unwrap_or_else(|refusal| {
            refusal.log(&head.method, head.uri.path(), None);
            let format = Format::wanted(&head.headers, refusal.format_without_preference());
            let frame = Frame::at(query.site().clone(), server.name());
            let page = error_page::render(&refusal, &frame, None, None, format);
            let mut response = page.map(Body::from);
            add_security_headers(response.headers_mut());
            response
        })
    }

    /// Adds the headers that depend on who asks, and how.
    fn complete(
        &self,
        headers: &mut HeaderMap,
        visitor: &Visitor,
        base: &BasePath,
        is_https: bool,
    ) {
        if visitor.is_owner() {
            keep_private(headers);
            if let Some(gate) = &self.gate {
                gate.renew_cookie(visitor, base, is_https, headers);
            }
        }
        if let (true, Some(hsts)) = (is_https, &self.hsts) {
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts.clone());
        }
    }
}

/// The tool that made a response, as an extension of it: `router.rs` sets it.
#[derive(Clone, Copy)]
pub(crate) struct MadeBy(pub(crate) &'static Tool);

/// Marks a response of an application that the login is around, as an extension of it.
#[derive(Clone, Copy)]
pub(crate) struct OfApp;

/// Marks a failure that needs no page and no line in the log, as an extension of the response: a load balancer asks
/// every second.
#[derive(Clone, Copy)]
pub(crate) struct ForMonitors;

/// Whether only monitors and load balancers ask for a path.
fn is_for_monitors(path: &str) -> bool {
    ["/healthz", "/readyz"].contains(&path)
}

/// What is needed of a request after its handler has consumed it.
struct RequestSummary {
    server: Server,
    method: Method,
    uri: Uri,
    accept: Vec<HeaderValue>,
}

impl RequestSummary {
    fn of(request: &Request) -> RequestSummary {
        RequestSummary {
            server: Server::of(request.extensions()),
            method: request.method().clone(),
            uri: request.uri().clone(),
            accept: request.headers().get_all(ACCEPT).iter().cloned().collect(),
        }
    }
}

/// Tells handlers and pages who the visitor is, by extensions of the request. Most requests of most sites are
/// anonymous and need none.
fn describe_visitor(request: &mut Request, visitor: Visitor, frame: &Frame) {
    if visitor.is_owner() || visitor.has_login() {
        request.extensions_mut().insert(frame.clone());
    }
    if visitor.is_owner() {
        request.extensions_mut().insert(visitor);
    }
}

/// Replaces a failure without a page of its own by its page, and logs it.
async fn with_error_page(
    mut response: Response,
    asked: &RequestSummary,
    frame: &Frame,
) -> Response {
    if response.extensions().get::<ForMonitors>().is_some() {
        return response;
    }
    let error = match bare_error(&mut response) {
        None => plain_text_error(&mut response, &asked.accept).await,
        error => error,
    };
    let Some(error) = error else { return response };
    let format = Format::wanted_by(&asked.accept, error.format_without_preference());
    let is_our_fault = error.status().is_server_error();
    let reference = is_our_fault.then(|| asked.server.reference()).flatten();
    // The query may hold secrets and stays out.
    error.log(&asked.method, asked.uri.path(), reference.as_deref());
    let tool = response.extensions().get().map(|MadeBy(tool)| *tool);
    let page = error_page::render(&error, frame, tool, reference.as_deref(), format);
    // The page is ours.
    response.extensions_mut().remove::<OfApp>();
    with_page(response, page.map(Body::from))
}

/// Keeps what the owner sees out of all caches, the browser's included: nobody can go back to it after a logout. A
/// handler that sets `Cache-Control` itself knows what it serves.
fn keep_private(headers: &mut HeaderMap) {
    let is_default = headers.get(CACHE_CONTROL).is_none_or(|value| value == CACHING);
    if is_default {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Takes the error out of a response that still needs its page: an [`HttpError`], or a bare status
/// (the router's own 404 and 405, a handler's `StatusCode`).
fn bare_error(response: &mut Response) -> Option<HttpError> {
    if let Some(failure) = response.extensions_mut().remove::<HttpError>() {
        return Some(failure);
    }
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_bare = response.body().size_hint().exact() == Some(0)
        && !response.headers().contains_key(CONTENT_TYPE);
    (is_failure && is_bare).then(|| HttpError::new(status))
}

/// Takes the error out of a response in plain text: a handler's `(StatusCode, "words")`, or what axum's extractors
/// return (`Form`, `Query`, `Json`, `Path`). For a client error the words become the message, unless the client
/// accepts plain text as well. For a server error they become the cause, for the log only, since they are often
/// written for programmers.
async fn plain_text_error(response: &mut Response, accept: &[HeaderValue]) -> Option<HttpError> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let media_type = MediaType::of(response.headers());
    let is_text = media_type.is_some_and(|media_type| media_type.is("text/plain"));
    let is_short = response.body().size_hint().exact().is_some_and(|size| size <= WORDS_BYTES);
    let is_for_visitor =
        status.is_client_error() && Format::wanted_by(accept, Format::Text) != Format::Text;
    if !(is_text && is_short && (is_for_visitor || status.is_server_error())) {
        return None;
    }
    let words = Chunks::new(std::mem::take(response.body_mut())).collect(WORDS_BYTES as usize);
    let words = words.await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let page = HttpError::new(status);
    Some(if status.is_server_error() {
        page.cause(words.trim_end_matches('.')).default_format(Format::Text)
    } else if AXUM_PREFIXES.iter().any(|opening| words.starts_with(opening)) {
        page.line(words)
    } else {
        page.message(words)
    })
}

/// How long the words of an error may be: a long paragraph.
const WORDS_BYTES: u64 = 2048;

/// How the errors of axum's extractors start. They are written for programmers, so the page's own words come first.
/// A test provokes each.
const AXUM_PREFIXES: &[&str] = &[
    "Expected request with",
    "Failed to ",
    "Form requests must have",
    "Invalid URL",
    "Request body didn't contain valid UTF-8",
];

/// Replaces the body by the page; the headers of the response (`Allow`, `Retry-After`) stay.
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

/// Makes the response to HEAD: the headers that GET would have got.
fn without_body(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact()
        && length > 0
    {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use axum::Router;
    use axum::extract::{Form, Json, Path, Query};
    use axum::routing::{get, post};
    use http::StatusCode;
    use serde::Deserialize;

    use super::*;
    use crate::Tool;
    use crate::testing::{SAMPLE, TestResponse, request, send};

    #[derive(Deserialize)]
    struct Wanted {
        #[expect(dead_code, reason = "only its type matters")]
        count: u32,
    }

    const TOOL: Tool = Tool {
        router: || {
            Router::new()
                .route("/form", post(async |_: Form<Wanted>| "fine"))
                .route("/json", post(async |_: Json<Wanted>| "fine"))
                .route("/text", post(async |_: String| "fine"))
                .route("/query", get(async |_: Query<Wanted>| "fine"))
                .route("/any-query", get(async |_: Query<HashMap<String, String>>| "fine"))
                .route("/number/{number}", get(async |_: Path<u32>| "fine"))
                .route("/own", get(async || (StatusCode::CONFLICT, "Somebody was <faster>.")))
                .route("/leak", get(async || (StatusCode::BAD_GATEWAY, "no route to db.internal")))
                .route("/json-words", get(async || (StatusCode::CONFLICT, Json("taken"))))
        },
        ..SAMPLE
    };

    fn ask(method: &str, path: &str, content_type: &str, body: &str, accept: &str) -> TestResponse {
        let request = request(method, &format!("/tools/sample{path}"))
            .header("content-type", content_type)
            .header("accept", accept);
        let site = crate::router(const { &[TOOL] });
        send(&site, request.body(Body::from(body.to_owned())).unwrap())
    }

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    #[test]
    fn rejections_by_axum_are_pages_too() {
        let large = format!("count={}", "1".repeat(3 * 1024 * 1024));
        for (method, path, content_type, body, status, detail) in [
            ("POST", "/form", "text/plain", "count=1", 415, "Form requests must have"),
            ("POST", "/form", FORM, "number=1", 422, "missing field"),
            ("POST", "/form", FORM, "count=x", 422, "count: invalid digit"),
            ("POST", "/form", FORM, &large, 413, "Failed to buffer the request body"),
            ("POST", "/json", FORM, "{}", 415, "Expected request with"),
            ("POST", "/json", JSON, "{", 400, "Failed to parse the request body as JSON"),
            ("POST", "/json", JSON, "{}", 422, "Failed to deserialize the JSON body"),
            ("GET", "/query", "", "", 400, "Failed to deserialize query string"),
            ("GET", "/query?count=x", "", "", 400, "Failed to deserialize query string"),
            ("GET", "/number/x", "", "", 400, "Invalid URL"),
            ("GET", "/number/%ff", "", "", 400, "Invalid URL"),
        ] {
            let response = ask(method, path, content_type, body, "text/html");
            let about = format!("{method} {path} {content_type}");
            assert_eq!(response.status, status, "{about}: {}", response.text());
            assert_eq!(
                response.header("content-type"),
                Some("text/html; charset=utf-8"),
                "{about}"
            );
            let at =
                response.text().find("<pre><code>").unwrap_or_else(|| panic!("{about}: no line"));
            assert!(response.text()[at..].contains(detail), "{about}: {}", response.text());

            let response = ask(method, path, content_type, body, JSON);
            let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(json["status"], status, "{about}");
            assert!(json["lines"][0].as_str().unwrap().contains(detail), "{about}: {json}");

            let response = ask(method, path, content_type, body, "*/*");
            assert!(response.text().contains(detail), "{about}");
            assert!(!response.text().contains('<'), "{about}");
        }
        let response = send(
            &crate::router(const { &[TOOL] }),
            request("POST", "/tools/sample/text")
                .header("accept", "text/html")
                .body(Body::from(&b"\xff"[..]))
                .unwrap(),
        );
        assert_eq!(response.status, 400);
        assert!(
            response.text().contains("<code>Request body didn&#39;t contain"),
            "{}",
            response.text()
        );
    }

    #[test]
    fn a_tools_own_plain_words_become_the_message() {
        let response = ask("GET", "/own", "", "", "text/html");
        assert_eq!(response.status, 409);
        assert!(response.text().contains("<p class=\"lead\">Somebody was &lt;faster&gt;.</p>"));
        assert_eq!(ask("GET", "/own", "", "", "*/*").text(), "Somebody was <faster>.");
        assert_eq!(ask("GET", "/json-words", "", "", "text/html").text(), "\"taken\"");
    }

    #[test]
    fn the_words_of_a_server_error_are_only_logged() {
        for accept in ["text/html", JSON, "text/plain", "*/*"] {
            let response = ask("GET", "/leak", "", "", accept);
            assert_eq!(response.status, 502, "{accept}");
            assert!(response.text().contains("Bad gateway"), "{accept}: {}", response.text());
            assert!(!response.text().contains("db.internal"), "{accept}: {}", response.text());
        }
    }
}
