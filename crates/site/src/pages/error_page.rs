//! Failures as pages.
//!
//! A handler returns an [`ErrorPage`]; `finish.rs`, which knows the request, asks it for the form the
//! client wants. [`page`] makes the same pages for the program, when there is no handler: a crash, a
//! request that cannot be read. Causes are for the log and never for the page.

use std::fmt;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use tera::context;

use crate::http::base_path::BasePath;
use crate::http::format::Format;
use crate::login::Visitor;
use crate::middleware::add_security_headers;
use crate::pages::page;
use crate::tool::Tool;

/// When to come back to a busy site. Renewing takes about a second; crawlers and monitors that come back
/// sooner make it no less busy.
const BUSY_SECONDS: u32 = 5;

/// A failure, in words that a visitor understands.
///
/// As a handler's answer (`Result<Response, ErrorPage>`) it becomes a page, JSON or plain text, as the
/// client wants. Title and message have a default for each status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    status: StatusCode,
    title: Option<Box<str>>,
    message: Option<Box<str>>,
    lines: Vec<String>,
    retry_after: Option<u32>,
    cause: Option<Box<str>>,
    fault: &'static str,
    asked_for: Option<Box<str>>,
    default_format: Format,
}

impl ErrorPage {
    /// A failure with this status and the words that go with it.
    pub fn new(status: StatusCode) -> Self {
        ErrorPage {
            status,
            title: None,
            message: None,
            lines: Vec::new(),
            retry_after: None,
            cause: None,
            fault: "A tool failed",
            asked_for: None,
            default_format: Format::Html,
        }
    }

    /// Replaces the title: a few words, no period.
    pub fn title(self, title: impl Into<String>) -> Self {
        ErrorPage { title: Some(title.into().into()), ..self }
    }

    /// Replaces the message: what happened and what to do now, in whole sentences.
    pub fn message(self, message: impl Into<String>) -> Self {
        ErrorPage { message: Some(message.into().into()), ..self }
    }

    /// Adds a line that stands for itself below the message: what to write into a file, a command, the
    /// words of a program. It is shown as it is.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Says when to try again, in seconds (`Retry-After`). A 503 says 5 unless this says otherwise.
    pub fn retry_after(self, seconds: u32) -> Self {
        ErrorPage { retry_after: Some(seconds), ..self }
    }

    /// Adds the cause, for the log alone: visitors never see it. No period at its end.
    pub fn cause(self, cause: impl fmt::Display) -> Self {
        ErrorPage { cause: Some(cause.to_string().into()), ..self }
    }

    /// Says how the log begins its line about this: in a few words whose fault it is. `A tool failed`,
    /// unless this says otherwise.
    pub fn fault(self, fault: &'static str) -> Self {
        ErrorPage { fault, ..self }
    }

    /// Names the path that was asked for, for the log: for handlers that answer in place of all others. The page
    /// leads nowhere, for there is nothing else.
    pub fn asked_for(self, path: impl Into<String>) -> Self {
        ErrorPage { asked_for: Some(path.into().into()), ..self }
    }

    /// Chooses the form for clients that have no preference: a page, unless this says otherwise.
    pub fn default_format(self, default_format: Format) -> Self {
        ErrorPage { default_format, ..self }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes a failure of the site's own to the log.
    pub(crate) fn log(&self, method: &Method, path: &str, reference: Option<&str>) {
        let status = self.status;
        if status.is_server_error() {
            let reference = reference.unwrap_or("-");
            let path = self.asked_for.as_deref().unwrap_or(path);
            let fault = self.fault;
            let cause = self.cause.as_deref().unwrap_or("no cause is named");
            tracing::error!(reference, %status, %method, path, "{fault}: {cause}.");
        }
    }

    /// Returns the form for clients that have no preference.
    pub(crate) fn format_without_preference(&self) -> Format {
        self.default_format
    }

    /// Makes the response, without what every response gets in `finish.rs`. `tool` is where to go on.
    pub(crate) fn render(
        &self,
        base: &BasePath,
        visitor: &Visitor,
        tool: Option<&Tool>,
        reference: Option<&str>,
        format: Format,
    ) -> http::Response<Bytes> {
        let (title, message) = self.words();
        let (content_type, body) = match format {
            Format::Html => (page::HTML, self.html(base, visitor, tool, reference)),
            Format::Json => {
                let status = self.status.as_u16();
                let lines = &self.lines;
                let body = json_line(&JsonBody { status, title, message, lines, reference });
                ("application/json", body)
            }
            Format::Text => {
                let reference = reference.map_or(String::new(), |id| format!("Reference: {id}\n"));
                let lines: String = self.lines.iter().map(|line| format!("    {line}\n")).collect();
                ("text/plain; charset=utf-8", format!("{title}. {message}\n{lines}{reference}"))
            }
        };
        let mut response = http::Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let is_busy = self.status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(seconds) = self.retry_after.or(is_busy.then_some(BUSY_SECONDS)) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn html(
        &self,
        base: &BasePath,
        visitor: &Visitor,
        tool: Option<&Tool>,
        reference: Option<&str>,
    ) -> String {
        let (title, message) = self.words();
        let mut context = context! {
            status => &self.status.as_u16(),
            title => title,
            message => message,
            lines => &self.lines,
            reference => &reference,
            tool => &tool.map(page::describe),
            leads_on => &self.asked_for.is_none(),
        };
        page::insert_frame(&mut context, base, visitor);
        let rendered = page::ERROR.as_ref().map_err(String::clone).and_then(|templates| {
            templates.render("error.html", &context).map_err(|error| format!("{error:?}"))
        });
        rendered.unwrap_or_else(|error| {
            tracing::error!("The template error.html cannot be rendered: {error}.");
            format!("<!DOCTYPE html><title>{}</title>", self.status)
        })
    }

    fn words(&self) -> (&str, &str) {
        let (title, message) = words_for(self.status);
        (self.title.as_deref().unwrap_or(title), self.message.as_deref().unwrap_or(message))
    }
}

/// The words alone: `Title. Message.`
impl fmt::Display for ErrorPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, message) = self.words();
        write!(f, "{title}. {message}")
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes the page for a failure that no handler answered, complete with its headers, in the form that
/// the client wants.
///
/// `base` is where the site is mounted (see [`BasePath::new`]), `reference` the id under which the log
/// has the cause (may be empty), `accept` the request's header of that name.
pub fn page(
    status: StatusCode,
    base: &str,
    reference: &str,
    accept: Option<&HeaderValue>,
) -> http::Response<Bytes> {
    page_of(&ErrorPage::new(status), base, reference, accept)
}

/// As [`page`], with words of one's own.
pub fn page_of(
    page: &ErrorPage,
    base: &str,
    reference: &str,
    accept: Option<&HeaderValue>,
) -> http::Response<Bytes> {
    let reference = (!reference.is_empty()).then_some(reference);
    let format = Format::wanted_by(accept, Format::Html);
    let mut response =
        page.render(&BasePath::new(base), &Visitor::default(), None, reference, format);
    add_security_headers(response.headers_mut());
    response
}

/// A failure as programs read it.
#[derive(Serialize)]
struct JsonBody<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    lines: &'a [String],
    reference: Option<&'a str>,
}

fn json_line(body: &JsonBody<'_>) -> String {
    // Numbers and strings cannot fail to become JSON.
    serde_json::to_string(body).unwrap_or_default() + "\n"
}

/// The words for a status: what happened, and what the visitor can do.
fn words_for(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => (
            "The request cannot be understood",
            "Something in what was sent is not as it should be. Please go back and try again.",
        ),
        401 => ("Please log in", "This page is only for those who have logged in."),
        403 => ("Not allowed", "You may not see this page or do what you asked for."),
        404 => (
            "Page not found",
            "There is nothing at this address. It may have been moved, or there is a slip in the link.",
        ),
        405 => (
            "That does not work here",
            "This address exists, but not for what was tried with it. Please go on from the page itself.",
        ),
        408 => ("That took too long", "The request did not arrive in time. Please try again."),
        411 => ("Length unknown", "The server needs to know beforehand how much will be sent."),
        412 => (
            "It has changed meanwhile",
            "What you have is another version than what is here. Please load the page again.",
        ),
        413 => ("Too large", "What you sent is larger than what is accepted here."),
        414 => ("The address is too long", "The server does not accept an address of this length."),
        415 => ("Unknown kind of content", "What was sent is of a kind that is not accepted here."),
        416 => ("No such part", "The file is shorter than the part of it that was asked for."),
        422 => (
            "Something is missing or wrong",
            "The form cannot be used as it is. Please go back and check the fields.",
        ),
        429 => ("Too many requests", "That was too often in a short time. Please wait a little."),
        431 => (
            "The request is too long",
            "Address and headers are longer than the server accepts. Deleting this site's cookies may help.",
        ),
        501 => ("Not possible here", "The server does not know how to do what was asked for."),
        502 => ("No answer", "Another service that is needed for this page gave no usable answer."),
        503 => (
            "Just a moment",
            "The site is busy or is being renewed. Please try again in a few seconds.",
        ),
        504 => (
            "That took too long",
            "The work on this page did not end in time and was stopped. Please try it with less.",
        ),
        500..=599 => (
            "Something went wrong",
            "The fault is on this side, not with you. It has been noted; please try again later.",
        ),
        _ => ("That did not work", "The request could not be fulfilled."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, request, send};

    #[test]
    fn plain_text_is_one_line_and_the_reference() {
        let response = ErrorPage::new(StatusCode::NOT_FOUND).render(
            &BasePath::default(),
            &Visitor::default(),
            None,
            Some("7f3a"),
            Format::Text,
        );
        insta::assert_snapshot!(String::from_utf8_lossy(response.body()), @r"
        Page not found. There is nothing at this address. It may have been moved, or there is a slip in the link.
        Reference: 7f3a
        ");
    }

    #[test]
    fn json_has_the_same_words() {
        let accept = HeaderValue::from_static("application/json");
        let response = page(StatusCode::SERVICE_UNAVAILABLE, "", "", Some(&accept));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        insta::assert_snapshot!(String::from_utf8_lossy(response.body()), @r#"{"status":503,"title":"Just a moment","message":"The site is busy or is being renewed. Please try again in a few seconds.","reference":null}"#);
    }

    #[test]
    fn the_programs_page_has_the_forms_of_the_sites() {
        for (accept, expected) in [
            (None, "text/html; charset=utf-8"),
            (Some("text/html,application/json;q=0.9"), "text/html; charset=utf-8"),
            (Some("application/json;q=0.9,text/html;q=0.8"), "application/json"),
            (Some("text/plain"), "text/plain; charset=utf-8"),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            let response = page(StatusCode::BAD_REQUEST, "", "7f3a", accept.as_ref());
            assert_eq!(response.headers()[CONTENT_TYPE], expected, "{accept:?}");
            assert!(String::from_utf8_lossy(response.body()).contains("7f3a"), "{accept:?}");
        }
    }

    #[test]
    fn the_programs_page_is_complete() {
        let response = page(StatusCode::INTERNAL_SERVER_ERROR, "/project/", "7f3a", None);
        assert_eq!(response.status(), 500);
        for name in [
            "content-security-policy",
            "cross-origin-opener-policy",
            "cross-origin-resource-policy",
            "permissions-policy",
            "referrer-policy",
            "x-content-type-options",
            "x-frame-options",
        ] {
            assert!(response.headers().contains_key(name), "{name}");
        }
        let html = String::from_utf8_lossy(response.body());
        for part in ["Something went wrong", "<code>7f3a</code>", "href=\"/project/\""] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
    }

    #[test]
    fn a_busy_site_says_when_to_come_back() {
        let retry_after = |page: ErrorPage| {
            let response =
                page.render(&BasePath::default(), &Visitor::default(), None, None, Format::Html);
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        let (busy, missing) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND);
        assert_eq!(retry_after(ErrorPage::new(busy)).as_deref(), Some("5"));
        assert_eq!(retry_after(ErrorPage::new(busy).retry_after(60)).as_deref(), Some("60"));
        assert_eq!(retry_after(ErrorPage::new(missing)), None);
        assert_eq!(page(busy, "", "", None).headers()[RETRY_AFTER], "5");
    }

    #[test]
    fn lines_stand_for_themselves_in_every_form() {
        let page = ErrorPage::new(StatusCode::FORBIDDEN).line("a = <b>").line("c");
        let body = |format| {
            let response =
                page.render(&BasePath::default(), &Visitor::default(), None, None, format);
            String::from_utf8_lossy(response.body()).into_owned()
        };
        insta::assert_snapshot!(body(Format::Text), @r"
        Not allowed. You may not see this page or do what you asked for.
            a = <b>
            c
        ");
        insta::assert_snapshot!(body(Format::Json), @r#"{"status":403,"title":"Not allowed","message":"You may not see this page or do what you asked for.","lines":["a = <b>","c"],"reference":null}"#);
        assert!(body(Format::Html).contains("<pre><code>a = &lt;b&gt;</code></pre>"));
    }

    #[test]
    fn every_status_that_is_asked_for_has_words_of_its_own() {
        let general = [words_for(StatusCode::IM_A_TEAPOT), words_for(StatusCode::LOOP_DETECTED)];
        for status in [400, 403, 404, 405, 408, 413, 414, 431, 501, 503, 504] {
            let words = words_for(StatusCode::from_u16(status).unwrap());
            assert!(!general.contains(&words), "{status}: {words:?}");
        }
    }

    #[test]
    fn every_status_has_words_and_a_page() {
        for status in 400..=599 {
            let status = StatusCode::from_u16(status).unwrap();
            let (title, message) = words_for(status);
            assert!(!title.ends_with('.') && message.ends_with('.'), "{status}");
            let page =
                ErrorPage::new(status).html(&BasePath::default(), &Visitor::default(), None, None);
            assert!(page.contains(title) && !page.contains("Reference"), "{status}");
        }
    }

    #[test]
    fn words_are_escaped() {
        let page = ErrorPage::new(StatusCode::BAD_REQUEST).message("<script>\"'&");
        let html = page.html(&BasePath::default(), &Visitor::default(), None, Some("<b>"));
        assert!(html.contains("&lt;script&gt;&quot;&#39;&amp;"), "{html}");
        assert!(!html.contains("<script>\"") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn the_client_chooses_the_form() {
        let site = crate::router(&[]);
        for (accept, content_type) in [
            ("*/*", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("text/plain", "text/plain; charset=utf-8"),
        ] {
            let request = request("GET", "/nowhere").header("accept", accept);
            let answer = send(&site, request.body(Default::default()).unwrap());
            assert_eq!(answer.status, 404);
            assert_eq!(answer.header("content-type"), Some(content_type), "{accept}");
            assert_eq!(answer.header("vary"), Some("accept"), "{accept}");
        }
        assert_eq!(get(&site, "/nowhere").header("cache-control"), Some("no-store"));
    }
}
