//! Compression of pages, for a program that speaks HTTP itself.
//!
//! A layer around `middleware.rs`. It compresses only text whose whole body is available at once: a stream stays a
//! stream, and a large response is not delayed. Static files are compressed beforehand (`assets.rs`).
//!
//! The length after compression reveals something about the content (BREACH). A page that shows a secret next to text
//! that an attacker can choose sets `Cache-Control: no-transform` and is not compressed.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::Poll;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Frame;

use super::accept_encoding::Coding;
use super::media_type::MediaType;
use super::put_back::put_back;

/// Smaller responses fit into one or two packets and are sent as they are.
const MIN_BYTES: u64 = 1024;

/// Larger responses are sent as they are: compressing this much takes about 8 ms, during which no other request is
/// served.
const MAX_BYTES: u64 = 512 * 1024;

/// Beyond these levels more effort costs much and gains little: a page of 5 KB becomes 1.4 KB in 0.1 ms with brotli,
/// 1.5 KB in 0.05 ms with gzip.
const BROTLI_QUALITY: i32 = 4;
const GZIP_LEVEL: u32 = 3;

/// The layer: compresses a response as the client prefers.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let coding = Coding::wanted(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    if !can_be_compressed(response.status(), response.headers()) {
        return response;
    }
    let vary = HeaderValue::from_static("accept-encoding");
    if !response.headers().get_all(VARY).iter().any(|value| value == vary) {
        response.headers_mut().append(VARY, vary);
    }
    let length = response.body().size_hint().exact().unwrap_or(0);
    if is_head || coding == Coding::Identity || !(MIN_BYTES..=MAX_BYTES).contains(&length) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match whole(body, length).await {
        Err(body) => body,
        Ok(content) => match compressed(&content, coding) {
            Ok(compressed) if compressed.len() < content.len() => {
                mark_compressed(&mut head.headers, coding);
                Body::from(compressed)
            }
            _ => Body::from(content),
        },
    };
    Response::from_parts(head, body)
}

/// Whether a response is text that is not encoded, ranged or protected from transformation.
fn can_be_compressed(status: StatusCode, headers: &HeaderMap) -> bool {
    let has_no_content = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let is_encoded = headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE);
    let is_protected = headers.get_all(CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("no-transform"))
    });
    let is_text = MediaType::of(headers).is_some_and(is_text);
    !has_no_content && !is_encoded && !is_protected && is_text
}

fn is_text(media_type: MediaType<'_>) -> bool {
    // Server-sent events are a stream by nature.
    media_type.has_prefix("text/") && !media_type.is("text/event-stream")
        || media_type.has_suffix("+json")
        || media_type.has_suffix("+xml")
        || TEXT_APPLICATIONS.iter().any(|text| media_type.is(text))
}

/// Text whose media type does not say so.
const TEXT_APPLICATIONS: [&str; 3] =
    ["application/json", "application/javascript", "application/xml"];

/// Adjusts the headers to the compressed body: it has another length, and its ETag is no longer a strong validator
/// (RFC 9110 §8.8.1).
fn mark_compressed(headers: &mut HeaderMap, coding: Coding) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    if let Some(coding) = coding.header() {
        headers.insert(CONTENT_ENCODING, coding);
    }
    let strong = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    let weak = strong.map(|etag| [b"W/", etag.as_bytes()].concat());
    if let Some(weak) = weak.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        headers.insert(ETAG, weak);
    }
}

/// Returns the content of a body that is available at once; otherwise the body, unchanged.
async fn whole(mut body: Body, length: u64) -> Result<Bytes, Body> {
    let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
    match polled {
        Poll::Pending => Err(body),
        Poll::Ready(None) => Err(Body::empty()),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(content) if content.len() as u64 == length => Ok(content),
            Ok(content) => Err(put_back(Ok(Frame::data(content)), body)),
            Err(frame) => Err(put_back(Ok(frame), body)),
        },
        Poll::Ready(Some(Err(error))) => Err(put_back(Err(error), body)),
    }
}

fn compressed(content: &[u8], coding: Coding) -> io::Result<Vec<u8>> {
    let mut output = Vec::with_capacity(content.len() / 3);
    match coding {
        Coding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: window(content.len()),
                size_hint: content.len(),
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &*content, &mut output, &params)?;
        }
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(&mut output, level);
            encoder.write_all(content)?;
            encoder.finish()?;
        }
        Coding::Identity => output.extend_from_slice(content),
    }
    Ok(output)
}

/// Returns brotli's window as a power of two: as large as the content, because memory for all of it is allocated up
/// front, and at most 256 KiB.
fn window(length: usize) -> i32 {
    length.next_power_of_two().trailing_zeros().clamp(10, 18) as i32
}

/// Decompresses, for tests.
#[cfg(test)]
pub(crate) fn decompressed(content: &[u8], coding: &str) -> Vec<u8> {
    let mut output = Vec::new();
    let result = match coding {
        "br" => brotli::BrotliDecompress(&mut &*content, &mut output),
        "gzip" => io::copy(&mut flate2::read::GzDecoder::new(content), &mut output).map(|_| ()),
        _ => panic!("{coding} is not a content coding"),
    };
    result.expect("the compressed bytes cannot be read");
    output
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use http::header::CONTENT_TYPE;
    use http_body::SizeHint;

    use super::*;
    use crate::testing::{SAMPLE, TestResponse, body_of_chunks, request, send};
    use crate::{SiteSettings, Tool};

    const TOOL: Tool = Tool {
        router: || {
            let typed = |media_type: &'static str, body: Body| {
                ([(CONTENT_TYPE, media_type), (ETAG, "\"tag\"")], body).into_response()
            };
            let long = || Body::from("words and words, ".repeat(200));
            Router::new()
                .route("/page", get(async move || typed("text/html; charset=utf-8", long())))
                .route("/json", get(async move || typed("application/json", long())))
                .route("/image", get(async move || typed("image/png", long())))
                .route("/events", get(async move || typed("text/event-stream", long())))
                .route("/short", get(async move || typed("text/plain", Body::from("short"))))
                .route(
                    "/huge",
                    get(async move || typed("text/plain", "x".repeat(2_000_000).into())),
                )
                .route(
                    "/stream",
                    get(async move || typed("text/plain", body_of_chunks(vec!["words "; 1000]))),
                )
                .route(
                    "/announced",
                    get(async move || {
                        typed("text/plain", Body::new(Announced(body_of_chunks(vec!["ab"; 1000]))))
                    }),
                )
                .route(
                    "/as-it-is",
                    get(async move || {
                        ([(CACHE_CONTROL, "no-store, No-Transform")], "x".repeat(5000))
                    }),
                )
                .route(
                    "/encoded",
                    get(async move || ([(CONTENT_ENCODING, "zstd")], "x".repeat(5000))),
                )
                .route("/none", get(async || StatusCode::NO_CONTENT))
        },
        ..SAMPLE
    };

    /// A stream that knows its length in advance.
    struct Announced(Body);
    impl HttpBody for Announced {
        type Data = Bytes;
        type Error = axum::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Pin::new(&mut self.0).poll_frame(context)
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(2000)
        }
    }

    fn ask(compress: bool, method: &str, path: &str, accept: &str) -> TestResponse {
        let settings = SiteSettings { compress, ..SiteSettings::default() };
        let site = crate::router_with(const { &[TOOL] }, &settings);
        let request = request(method, path).header("accept-encoding", accept);
        send(&site, request.body(Body::empty()).unwrap())
    }

    #[test]
    fn pages_are_compressed_as_the_client_wants() {
        for path in ["/tools/sample/page", "/tools/sample/json", "/", "/nowhere"] {
            let plain = ask(true, "GET", path, "");
            for coding in ["br", "gzip"] {
                let response = ask(true, "GET", path, coding);
                assert_eq!(response.status, plain.status);
                assert_eq!(response.header("content-encoding"), Some(coding), "{path}");
                assert!(response.body.len() < plain.body.len(), "{path}");
                assert_eq!(decompressed(&response.body, coding), plain.body, "{path}");
                let vary: Vec<_> = response.headers.get_all("vary").iter().collect();
                let named = vary.iter().filter(|vary| **vary == "accept-encoding").count();
                assert_eq!(named, 1, "{path}: {vary:?}");
            }
            assert_eq!(plain.header("content-encoding"), None);
        }
        let asset = ask(true, "GET", "/static/site.css", "identity");
        assert_eq!(asset.status, 200);
        assert_eq!(asset.headers.get_all("vary").iter().count(), 1);
        let response = ask(true, "GET", "/tools/sample/page", "br");
        assert_eq!(response.header("etag"), Some("W/\"tag\""));
        assert_eq!(ask(true, "GET", "/tools/sample/page", "").header("etag"), Some("\"tag\""));
    }

    #[test]
    fn only_complete_text_of_moderate_length_is_compressed() {
        for (name, length) in [
            ("image", 3400),
            ("events", 3400),
            ("short", 5),
            ("huge", 2_000_000),
            ("stream", 6000),
            ("announced", 2000),
            ("as-it-is", 5000),
            ("encoded", 5000),
            ("none", 0),
        ] {
            let response = ask(true, "GET", &format!("/tools/sample/{name}"), "br, gzip");
            let expected = (name == "encoded").then_some("zstd");
            assert_eq!(response.header("content-encoding"), expected, "{name}");
            assert_eq!(response.body.len(), length, "{name}");
        }
        let head = ask(true, "HEAD", "/tools/sample/page", "br");
        assert!(head.body.is_empty() && head.header("content-encoding").is_none());
    }

    #[test]
    fn behind_a_web_server_nothing_is_compressed() {
        let response = ask(false, "GET", "/tools/sample/page", "br, gzip");
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.header("vary"), None);
    }
}
