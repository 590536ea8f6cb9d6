//! An HTTP response's head to a CGI response's (RFC 3875 §6): `Status:` and header lines.
//!
//! What a web server between us and the visitor decides itself is left out.

use bytes::{BufMut, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, response};

/// Appends the head with the empty line that ends it. `length` is the body's length in bytes when
/// it is known and the application has not said it.
pub(crate) fn write_head(head: &response::Parts, length: Option<u64>, output: &mut BytesMut) {
    // Always told: without it mod_fcgid guesses, and `Location` alone becomes a redirect.
    output.put_slice(b"Status: ");
    output.put_slice(head.status.as_str().as_bytes());
    if let Some(reason) = head.status.canonical_reason() {
        output.put_u8(b' ');
        output.put_slice(reason.as_bytes());
    }
    output.put_slice(b"\r\n");
    for (name, value) in &head.headers {
        if !is_hop_by_hop(name) {
            output.put_slice(name.as_str().as_bytes());
            output.put_slice(b": ");
            output.put_slice(value.as_bytes());
            output.put_slice(b"\r\n");
        }
    }
    if let Some(length) = length.filter(|_| !head.headers.contains_key(CONTENT_LENGTH)) {
        output.put_slice(b"content-length: ");
        output.put_slice(itoa::Buffer::new().format(length).as_bytes());
        output.put_slice(b"\r\n");
    }
    output.put_slice(b"\r\n");
}

/// Whether a response has a body on the wire (RFC 9110 §9.3.2, §15).
pub(crate) fn has_body(method: &Method, status: StatusCode) -> bool {
    method != Method::HEAD
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// The length to announce for a body: what the stream promises, or none where the status has no
/// content.
pub(crate) fn announced_length(
    headers: &HeaderMap,
    status: StatusCode,
    exact: Option<u64>,
) -> Option<u64> {
    let without = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || headers.contains_key(CONTENT_LENGTH);
    exact.filter(|_| !without)
}

/// Headers between two neighbours only (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let (mut head, ()) = http::Response::builder()
            .status(404)
            .header("Content-Type", "text/plain")
            .header("Set-Cookie", "a=b")
            .header("Set-Cookie", "c=d")
            .header("Connection", "close")
            .header("Transfer-Encoding", "chunked")
            .body(())
            .unwrap()
            .into_parts();
        let mut output = BytesMut::new();
        write_head(&head, Some(3), &mut output);
        assert_eq!(
            output,
            "Status: 404 Not Found\r\ncontent-type: text/plain\r\nset-cookie: a=b\r\n\
             set-cookie: c=d\r\ncontent-length: 3\r\n\r\n"
        );
        head.headers.insert(CONTENT_LENGTH, 7.into());
        output.clear();
        write_head(&head, Some(3), &mut output);
        assert_eq!(output.windows(15).filter(|at| at == b"content-length:").count(), 1);
    }

    #[test]
    fn bodies() {
        let cases = [
            (Method::GET, 200, true),
            (Method::HEAD, 200, false),
            (Method::GET, 204, false),
            (Method::GET, 304, false),
            (Method::POST, 404, true),
        ];
        for (method, status, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(has_body(&method, status), expected, "{method} {status}");
        }
    }
}
