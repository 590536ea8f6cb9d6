//! What every response of the site gets on its way out: the page for a failure, headers that protect
//! the visitor, and no body for HEAD.
//!
//! It is the outermost layer of `router.rs`; failures are values (`http/error.rs`), which `pages/error_page.rs` writes.

mod https;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
    VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;

use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::http::media_type::MediaType;
use crate::http::request_body::Chunks;
use crate::http::security_headers::add_security_headers;
use crate::login::authorizer::Asks;
use crate::login::{Gate, Visitor};
use crate::pages::error_page;
use crate::pages::frame::Frame;
use crate::pages::page::CACHING;
use crate::server::Server;
use crate::settings::SiteSettings;
use crate::tool::Tool;

/// The tool that has answered, as an extension of its responses: `router.rs` sets it.
#[derive(Clone, Copy)]
pub(crate) struct AnsweredBy(pub(crate) &'static Tool);

/// Where every request comes in and every response goes out.
pub(crate) struct Door {
    gate: Option<Arc<Gate>>,
    asked_by_owner: bool,
    redirects_to_https: bool,
    hsts: Option<HeaderValue>,
}

impl Door {
    pub(crate) fn new(settings: &SiteSettings, gate: Option<Arc<Gate>>) -> Self {
        let is_wanted = |hsts: &Duration| !hsts.is_zero();
        let hsts = Some(settings.hsts)
            .filter(is_wanted)
            .and_then(|hsts| HeaderValue::try_from(format!("max-age={}", hsts.as_secs())).ok());
        let asked_by_owner = settings.asked_by_owner;
        let redirects_to_https = settings.redirects_to_https && !asked_by_owner;
        Door { gate, asked_by_owner, redirects_to_https, hsts }
    }

    /// Finds out who asks. The static files and the answer to monitors are the same for everybody.
    async fn admit(&self, request: &mut Request) -> Result<Visitor, HttpError> {
        let path = request.uri().path();
        match &self.gate {
            _ if self.asked_by_owner => Ok(Visitor::in_the_shell()),
            Some(gate) if path != "/healthz" && !path.starts_with("/static/") => {
                gate.admit(request).await
            }
            _ => Ok(Visitor::default()),
        }
    }

    /// Answers the web server, which asks about a request of its own. Without a login nobody passes.
    async fn authorize(&self, asked: &Parts, what: &Asks, is_https: bool) -> Response {
        let answer = match &self.gate {
            Some(gate) => gate.authorize(asked, what, is_https).await,
            None => Err(HttpError::new(StatusCode::FORBIDDEN)),
        };
        answer.unwrap_or_else(|refusal| {
            refusal.log(&asked.method, asked.uri.path(), None);
            let format = Format::wanted(&asked.headers, refusal.format_without_preference());
            let (Asks::MayPass(site) | Asks::WhatToSay(site)) = what;
            let frame = Frame::at(site.clone());
            let page = error_page::render(&refusal, &frame, None, None, format);
            let mut response = page.map(Body::from);
            add_security_headers(response.headers_mut());
            response
        })
    }
}

/// The layer itself.
pub(crate) async fn finish(door: Arc<Door>, mut request: Request, next: Next) -> Response {
    let base = request.extensions().get::<BasePath>().cloned().unwrap_or_default();
    let server = Server::of(request.extensions());
    let uri = request.uri().clone();
    let method = request.method().clone();
    let accept = request.headers().get_all(ACCEPT).iter().cloned();
    let accept: HeaderMap = accept.map(|value| (ACCEPT, value)).collect();

    let is_https = (server.0.is_https)(request.extensions());
    if let Some(what) = request.extensions().get::<Asks>().cloned() {
        let (asked, _) = request.into_parts();
        return door.authorize(&asked, &what, is_https).await;
    }
    if door.redirects_to_https
        && !is_https
        && let Some(mut response) = https::redirect(&request, &base)
    {
        add_security_headers(response.headers_mut());
        return response;
    }
    let admitted = door.admit(&mut request).await;
    let visitor = admitted.as_ref().cloned().unwrap_or_default();
    let frame = visitor.frame(base);
    let mut response = match admitted {
        Ok(visitor) => {
            // Most requests of most sites come from nobody: pages find what they need without these.
            if visitor.is_owner() || visitor.has_login() {
                request.extensions_mut().insert(frame.clone());
            }
            if visitor.is_owner() {
                request.extensions_mut().insert(visitor);
            }
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let failure = match failure_without_page(&mut response) {
        None => failure_in_plain_text(&mut response, &accept).await,
        failure => failure,
    };
    if let Some(failure) = failure {
        let format = Format::wanted(&accept, failure.format_without_preference());
        let is_the_sites = failure.status().is_server_error();
        let reference = is_the_sites.then(|| server.reference()).flatten();
        // The query may hold secrets and stays out.
        failure.log(&method, uri.path(), reference.as_deref());
        let tool = response.extensions().get().map(|AnsweredBy(tool)| *tool);
        let page = error_page::render(&failure, &frame, tool, reference.as_deref(), format);
        response = with_page(response, page.map(Body::from));
    }
    if method == Method::HEAD {
        response = without_body(response);
    }
    let headers = response.headers_mut();
    if visitor.is_owner() {
        keep_private(headers);
        if let Some(gate) = &door.gate {
            gate.see_out(&visitor, &frame.base, is_https, headers);
        }
    }
    if let (true, Some(hsts)) = (is_https, &door.hsts) {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts.clone());
    }
    add_security_headers(headers);
    response
}

/// Keeps what the owner sees out of caches, the browser's too: after a log out nobody turns a page back. A
/// handler that says something of its own about that knows what it serves.
fn keep_private(headers: &mut HeaderMap) {
    let is_default = headers.get(CACHE_CONTROL).is_none_or(|value| value == CACHING);
    if is_default {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Takes the failure out of a response that still needs its page: an [`HttpError`], or a bare status
/// (the router's own 404 and 405, a handler's `StatusCode`).
fn failure_without_page(response: &mut Response) -> Option<HttpError> {
    if let Some(failure) = response.extensions_mut().remove::<HttpError>() {
        return Some(failure);
    }
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_bare = response.body().size_hint().exact() == Some(0)
        && !response.headers().contains_key(CONTENT_TYPE);
    (is_failure && is_bare).then(|| HttpError::new(status))
}

/// Takes the words out of a failure in plain text: what a handler says with `(StatusCode, "words")`, and
/// what axum's extractors say (`Form`, `Query`, `Json`, `Path`). Of a visitor's slip they become the
/// message, unless the client likes plain text as well; of the site's own failure they are the cause, for
/// the log alone, since often they are the words of a program for its programmer.
async fn failure_in_plain_text(response: &mut Response, accept: &HeaderMap) -> Option<HttpError> {
    let status = response.status();
    let media_type = MediaType::of(response.headers());
    let is_text = media_type.is_some_and(|media_type| media_type.is("text/plain"));
    let is_short = response.body().size_hint().exact().is_some_and(|size| size <= WORDS_BYTES);
    let is_slip = status.is_client_error() && Format::wanted(accept, Format::Text) != Format::Text;
    if !(is_text && is_short && (is_slip || status.is_server_error())) {
        return None;
    }
    let words = Chunks::new(std::mem::take(response.body_mut())).collect(WORDS_BYTES as usize);
    let words = words.await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let page = HttpError::new(status);
    Some(if status.is_server_error() {
        page.cause(words.trim_end_matches('.')).default_format(Format::Text)
    } else if WORDS_OF_AXUM.iter().any(|opening| words.starts_with(opening)) {
        page.line(words)
    } else {
        page.message(words)
    })
}

/// How long a failure's words may be: a long paragraph.
const WORDS_BYTES: u64 = 2048;

/// How axum's extractors begin to say what they do not like: for programmers, so that the page's own
/// words stand before them. A test provokes each.
const WORDS_OF_AXUM: &[&str] = &[
    "Expected request with",
    "Failed to ",
    "Form requests must have",
    "Invalid URL",
    "Request body didn't contain valid UTF-8",
];

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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use axum::Router;
    use axum::extract::{Form, Json, Path, Query};
    use axum::routing::{get, post};
    use http::StatusCode;
    use serde::Deserialize;

    use super::*;
    use crate::testing::{Answer, request, send};
    use crate::{Access, Runs, Tool};

    #[derive(Deserialize)]
    struct Wanted {
        #[expect(dead_code, reason = "only its type matters")]
        count: u32,
    }

    const TOOL: Tool = Tool {
        name: "sample",
        title: "Sample",
        summary: "A tool for tests.",
        icon: "tool",
        access: Access::Open,
        runs: Runs::Inline,
        pages: &[],
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
    };

    fn ask(method: &str, path: &str, content_type: &str, body: &str, accept: &str) -> Answer {
        let request = request(method, &format!("/tools/sample{path}"))
            .header("content-type", content_type)
            .header("accept", accept);
        let site = crate::router(const { &[TOOL] });
        send(&site, request.body(Body::from(body.to_owned())).unwrap())
    }

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    #[test]
    fn what_axum_refuses_is_a_page_too() {
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
            let answer = ask(method, path, content_type, body, "text/html");
            let about = format!("{method} {path} {content_type}");
            assert_eq!(answer.status, status, "{about}: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{about}");
            let at =
                answer.text().find("<pre><code>").unwrap_or_else(|| panic!("{about}: no line"));
            assert!(answer.text()[at..].contains(detail), "{about}: {}", answer.text());

            let answer = ask(method, path, content_type, body, JSON);
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(json["status"], status, "{about}");
            assert!(json["lines"][0].as_str().unwrap().contains(detail), "{about}: {json}");

            let answer = ask(method, path, content_type, body, "*/*");
            assert!(answer.text().contains(detail), "{about}");
            assert!(!answer.text().contains('<'), "{about}");
        }
        let answer = send(
            &crate::router(const { &[TOOL] }),
            request("POST", "/tools/sample/text")
                .header("accept", "text/html")
                .body(Body::from(&b"\xff"[..]))
                .unwrap(),
        );
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("<code>Request body didn&#39;t contain"),
            "{}",
            answer.text()
        );
    }

    #[test]
    fn a_tools_own_plain_words_become_the_message() {
        let answer = ask("GET", "/own", "", "", "text/html");
        assert_eq!(answer.status, 409);
        assert!(answer.text().contains("<p class=\"lead\">Somebody was &lt;faster&gt;.</p>"));
        assert_eq!(ask("GET", "/own", "", "", "*/*").text(), "Somebody was <faster>.");
        assert_eq!(ask("GET", "/json-words", "", "", "text/html").text(), "\"taken\"");
    }

    #[test]
    fn the_words_of_a_failure_of_the_site_are_for_the_log() {
        for accept in ["text/html", JSON, "text/plain", "*/*"] {
            let answer = ask("GET", "/leak", "", "", accept);
            assert_eq!(answer.status, 502, "{accept}");
            assert!(answer.text().contains("No answer"), "{accept}: {}", answer.text());
            assert!(!answer.text().contains("db.internal"), "{accept}: {}", answer.text());
        }
    }
}
