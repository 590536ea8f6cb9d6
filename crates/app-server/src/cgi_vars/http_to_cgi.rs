//! Converts an HTTP response's head to a CGI response's (RFC 3875 §6): `Status:` and header lines.
//!
//! Leaves out what a web server between us and the client decides itself.

use bytes::{BufMut, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, response};

/// Appends the head and the empty line that ends it. `length` is the [`announced_length`].
pub(crate) fn write_head(head: &response::Parts, length: Option<u64>, output: &mut BytesMut) {
    // Rule: haproxy sends the head read so far as a 302 when it meets a Location.
    let status_is_last = (head.status.is_redirection() || head.status == StatusCode::CREATED)
        && head.headers.contains_key(LOCATION);
    if !status_is_last {
        write_status(head.status, output);
    }
    // Comparing a handful of names costs less than hashing one.
    let has_connection = head.headers.keys().any(|name| name == CONNECTION);
    for (name, value) in &head.headers {
        let is_hop_by_hop = has_connection && is_named_by_connection(&head.headers, name);
        if !is_hop_by_hop && !is_left_out(name) {
            output.put_slice(name.as_str().as_bytes());
            output.put_slice(b": ");
            output.put_slice(value.as_bytes());
            output.put_slice(b"\r\n");
        }
    }
    if let Some(length) = length {
        output.put_slice(b"content-length: ");
        output.put_slice(itoa::Buffer::new().format(length).as_bytes());
        output.put_slice(b"\r\n");
    }
    if status_is_last {
        write_status(head.status, output);
    }
    output.put_slice(b"\r\n");
}

/// Writes the status, always: without it mod_fcgid guesses, and `Location` alone becomes a redirect.
fn write_status(status: StatusCode, output: &mut BytesMut) {
    if status == StatusCode::OK {
        return output.put_slice(b"Status: 200 OK\r\n");
    }
    output.put_slice(b"Status: ");
    output.put_slice(status.as_str().as_bytes());
    if let Some(reason) = status.canonical_reason() {
        output.put_u8(b' ');
        output.put_slice(reason.as_bytes());
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

/// The length to announce for a body: what the stream promises. `None` if the application has stated it, and where
/// there is no body: only the application knows what GET would have returned.
pub(crate) fn announced_length(
    method: &Method,
    head: &response::Parts,
    exact: Option<u64>,
) -> Option<u64> {
    let without = !has_body(method, head.status) || head.headers.contains_key(CONTENT_LENGTH);
    exact.filter(|_| !without)
}

/// The length of a header line in bytes, including its line ending, from which it is too long. mod_fcgid
/// and mod_cgi read into 8,192 bytes and treat the rest of a longer line as a malformed header.
const TOO_LONG_LINE: usize = 8192;

/// Finds a header whose line web servers would cut; the error names it.
pub(crate) fn check_lines(headers: &HeaderMap) -> Result<(), String> {
    for (name, value) in headers {
        let length = name.as_str().len() + ": ".len() + value.len() + "\r\n".len();
        if length >= TOO_LONG_LINE {
            return Err(format!(
                "the line of its header {name} has {length} bytes; web servers take fewer than \
                 {TOO_LONG_LINE}"
            ));
        }
    }
    Ok(())
}

/// Whether a header of the application is not passed to the web server: hop-by-hop headers, and CGI's own
/// status header.
fn is_left_out(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || name.as_str() == "status"
}

/// Removes hop-by-hop headers.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Almost no response has any.
    if headers.keys().any(is_hop_by_hop) {
        let names: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_hop_by_hop(name) || is_named_by_connection(headers, name))
            .cloned()
            .collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Whether a header is hop-by-hop (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether the application's Connection header makes this one hop-by-hop.
fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_heads() {
        let (mut head, ()) = http::Response::builder()
            .status(404)
            .header("Content-Type", "text/plain")
            .header("Set-Cookie", "a=b")
            .header("Set-Cookie", "c=d")
            .header("Connection", "close, X-Hop")
            .header("Transfer-Encoding", "chunked")
            .header("Keep-Alive", "timeout=5")
            .header("X-Hop", "for the next hop")
            .header("Status", "200 OK")
            .header("Location", "//elsewhere/%2F?a b")
            .body(())
            .unwrap()
            .into_parts();
        let mut output = BytesMut::new();
        write_head(&head, Some(3), &mut output);
        assert_eq!(
            output,
            "Status: 404 Not Found\r\ncontent-type: text/plain\r\nset-cookie: a=b\r\n\
             set-cookie: c=d\r\nlocation: //elsewhere/%2F?a b\r\ncontent-length: 3\r\n\r\n"
        );
        head.headers.insert(CONTENT_LENGTH, 7.into());
        assert_eq!(announced_length(&Method::GET, &head, Some(3)), None);
    }

    #[test]
    fn the_status_of_a_redirect_follows_its_location() {
        let (head, ()) = http::Response::builder()
            .status(303)
            .header("Location", "/x")
            .body(())
            .unwrap()
            .into_parts();
        let mut output = BytesMut::new();
        write_head(&head, Some(0), &mut output);
        assert_eq!(output, "location: /x\r\ncontent-length: 0\r\nStatus: 303 See Other\r\n\r\n");
    }

    #[test]
    fn headers_cannot_be_injected() {
        for value in ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"] {
            assert!(http::HeaderValue::from_str(value).is_err(), "{value:?}");
            assert!(http::HeaderValue::from_bytes(value.as_bytes()).is_err(), "{value:?}");
        }
        for name in ["a: b", "a\r\nb", "a b", ""] {
            assert!(HeaderName::from_bytes(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn rejects_lines_longer_than_web_servers_accept() {
        let overhead = "x-a: \r\n".len();
        for (length, expected) in [(8191 - overhead, true), (8192 - overhead, false)] {
            let value = http::HeaderValue::from_str(&"v".repeat(length)).unwrap();
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-a"), value)]);
            assert_eq!(check_lines(&headers).is_ok(), expected, "{length}");
        }
    }

    #[test]
    fn announces_lengths_of_bodies() {
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
