//! Failures as pages, as JSON and as plain text.
//!
//! The failure is an [`HttpError`]; `middleware.rs`, which knows the request, chooses the format. [`page_of`] makes
//! the same pages for the program when there is no handler: after a crash, or for a request that cannot be parsed.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY};
use serde::Serialize;
use tera::context;

use super::frame::Frame;
use super::templates;
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::http::security_headers::add_security_headers;
use crate::server::Name;
use crate::tool::Tool;

/// Makes the page for a failure without a handler, complete with its headers, in the format that the client prefers.
///
/// `name` is what program and site are called, `base` where the site is mounted (see [`BasePath::new`]), `reference` the id by which the cause is found in the
/// log (may be empty), `accept` the request's header of that name.
pub fn page_of(
    error: &HttpError,
    name: Name,
    base: &str,
    reference: &str,
    accept: Option<&HeaderValue>,
) -> http::Response<Bytes> {
    let reference = (!reference.is_empty()).then_some(reference);
    let format = Format::wanted_by(accept, Format::Html);
    let frame = Frame::at(BasePath::new(base), name);
    let mut response = render(error, &frame, None, reference, format);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    add_security_headers(response.headers_mut());
    response
}

/// Renders the response, without the headers that `middleware.rs` adds to every response. `tool` is what to link to.
pub(crate) fn render(
    error: &HttpError,
    frame: &Frame,
    tool: Option<&Tool>,
    reference: Option<&str>,
    format: Format,
) -> http::Response<Bytes> {
    let (content_type, body) = match format {
        Format::Html => (templates::HTML, html(error, frame, tool, reference)),
        Format::Json => ("application/json", json(error, reference)),
        Format::Text => ("text/plain; charset=utf-8", text(error, reference)),
    };
    let mut response = http::Response::new(Bytes::from(body));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = error.seconds_to_wait() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn html(error: &HttpError, frame: &Frame, tool: Option<&Tool>, reference: Option<&str>) -> String {
    let (title, message) = error.words();
    let mut context = context! {
        status => &error.status().as_u16(),
        title => title,
        message => message,
        lines => error.lines(),
        reference => &reference,
        tool => &tool.map(templates::describe),
        has_links => &error.has_links(),
    };
    frame.insert_into(&mut context);
    let rendered = templates::ERROR.render("error.html", &context);
    rendered.unwrap_or_else(|cause| {
        tracing::error!("Cannot render the template error.html: {cause}.");
        format!("<!DOCTYPE html><title>{}</title>", error.status())
    })
}

fn json(error: &HttpError, reference: Option<&str>) -> String {
    let (title, message) = error.words();
    let status = error.status().as_u16();
    let body = JsonBody { status, title, message, lines: error.lines(), reference };
    // Numbers and strings cannot fail to become JSON.
    serde_json::to_string(&body).unwrap_or_default() + "\n"
}

fn text(error: &HttpError, reference: Option<&str>) -> String {
    let reference = reference.map_or(String::new(), |id| format!("Reference: {id}\n"));
    let lines: String = error.lines().iter().map(|line| format!("    {line}\n")).collect();
    format!("{error}\n{lines}{reference}")
}

/// An error as programs read it.
#[derive(Serialize)]
struct JsonBody<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    lines: &'a [String],
    reference: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::http::error_words::words_for;
    use crate::testing::{get, request, send};

    fn page(
        status: StatusCode,
        base: &str,
        reference: &str,
        accept: Option<&HeaderValue>,
    ) -> http::Response<Bytes> {
        page_of(&HttpError::new(status), Name::TOOLSHED, base, reference, accept)
    }

    #[test]
    fn plain_text_is_one_line_and_the_reference() {
        let error = HttpError::new(StatusCode::NOT_FOUND);
        let response = render(&error, &Frame::default(), None, Some("7f3a"), Format::Text);
        insta::assert_snapshot!(String::from_utf8_lossy(response.body()), @r"
        Page not found. There is nothing at this address. It may have moved, or the link may contain a typo.
        Reference: 7f3a
        ");
    }

    #[test]
    fn json_has_the_same_words() {
        let accept = HeaderValue::from_static("application/json");
        let response = page(StatusCode::SERVICE_UNAVAILABLE, "", "", Some(&accept));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        insta::assert_snapshot!(String::from_utf8_lossy(response.body()), @r#"{"status":503,"title":"Just a moment","message":"The site is busy or being upgraded. Please try again in a few seconds.","reference":null}"#);
    }

    #[test]
    fn the_programs_page_has_the_formats_of_the_sites() {
        for (accept, expected) in [
            (None, "text/html; charset=utf-8"),
            (Some("text/html,application/json;q=0.9"), "text/html; charset=utf-8"),
            (Some("application/json;q=0.9,text/html;q=0.8"), "application/json"),
            (Some("text/plain"), "text/plain; charset=utf-8"),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            let response = page(StatusCode::BAD_REQUEST, "", "7f3a", accept.as_ref());
            assert_eq!(response.headers()[CONTENT_TYPE], expected, "{accept:?}");
            assert_eq!(response.headers().get(VARY).unwrap(), "accept", "{accept:?}");
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
    fn a_busy_site_says_when_to_try_again() {
        let retry_after = |error: HttpError| {
            let response = render(&error, &Frame::default(), None, None, Format::Html);
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        let (busy, missing) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND);
        assert_eq!(retry_after(HttpError::new(busy)).as_deref(), Some("5"));
        assert_eq!(retry_after(HttpError::new(busy).retry_after(60)).as_deref(), Some("60"));
        assert_eq!(retry_after(HttpError::new(missing)), None);
        assert_eq!(page(busy, "", "", None).headers()[RETRY_AFTER], "5");
    }

    #[test]
    fn extra_lines_stay_separate_in_every_format() {
        let error = HttpError::new(StatusCode::FORBIDDEN).line("a = <b>").line("c");
        let body = |format| {
            let response = render(&error, &Frame::default(), None, None, format);
            String::from_utf8_lossy(response.body()).into_owned()
        };
        insta::assert_snapshot!(body(Format::Text), @r"
        Not allowed. You don't have permission to see this page or to do that.
            a = <b>
            c
        ");
        insta::assert_snapshot!(body(Format::Json), @r#"{"status":403,"title":"Not allowed","message":"You don't have permission to see this page or to do that.","lines":["a = <b>","c"],"reference":null}"#);
        assert!(body(Format::Html).contains("<pre><code>a = &lt;b&gt;</code></pre>"));
    }

    #[test]
    fn every_status_in_use_has_its_own_words() {
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
            let page = html(&HttpError::new(status), &Frame::default(), None, None);
            assert!(page.contains(title) && !page.contains("Reference"), "{status}");
        }
    }

    #[test]
    fn words_are_escaped() {
        let error = HttpError::new(StatusCode::BAD_REQUEST).message("<script>\"'&");
        let html = html(&error, &Frame::default(), None, Some("<b>"));
        assert!(html.contains("&lt;script&gt;&quot;&#39;&amp;"), "{html}");
        assert!(!html.contains("<script>\"") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn the_client_chooses_the_format() {
        let site = crate::router(&[]);
        for (accept, content_type) in [
            ("*/*", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("text/plain", "text/plain; charset=utf-8"),
        ] {
            let request = request("GET", "/nowhere").header("accept", accept);
            let response = send(&site, request.body(Default::default()).unwrap());
            assert_eq!(response.status, 404);
            assert_eq!(response.header("content-type"), Some(content_type), "{accept}");
            assert_eq!(response.header("vary"), Some("accept"), "{accept}");
        }
        assert_eq!(get(&site, "/nowhere").header("cache-control"), Some("no-store"));
    }
}
