//! What visitors get while there is no service: a 503 of a few lines.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// Returns the response, with this text.
pub(crate) fn unavailable(text: impl Into<Bytes>, retry_after: Duration) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.into()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    headers.insert(RETRY_AFTER, retry_after.as_secs().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
