//! Converts `HTTP_…` variables to request headers (RFC 3875 §4.1.18). Each rule is a function or a table here.
//!
//! | who | what | rule |
//! | --- | --- | --- |
//! | any client | `Proxy: …` becomes HTTP_PROXY, which libraries read as a setting (httpoxy) | [`is_not_a_header`] |
//! | web servers | length, type and coding of the body are in HTTP_… too | [`is_not_a_header`] |
//! | lighttpd | the same variable twice | [`add_repeated`], [`join_cookies`] |
//! | Apache | Authorization is withheld, or passed on under another name, or empty | [`is_not_a_header`], `cgi_to_http.rs` |
//!
//! Values share the memory of the request's variables.

use bytes::Bytes;
use fastcgi_server::Params;
use http::HeaderMap;
use http::header::{
    self, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry, HeaderName, HeaderValue,
    OccupiedEntry,
};

/// Room for the headers that a browser sends and a few more, allocated up front.
pub(crate) const USUAL_HEADERS: usize = 16;

/// Adds the header that a variable describes, given its name less `HTTP_` and its value; or none, by the
/// rules below.
///
/// # Errors
///
/// One sentence, if there are more than a request can have.
pub(crate) fn add(
    params: &Params,
    name: &[u8],
    value: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let Some(name) = header_name(name) else { return Ok(()) };
    let Some(value) = header_value(params, value) else { return Ok(()) };
    if headers.len() == MAX_HEADERS {
        return Err(format!("more than {MAX_HEADERS} headers"));
    }
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
        Entry::Occupied(entry) => add_repeated(entry, value),
    }
    Ok(())
}

/// Adds the headers that have variables of their own.
pub(crate) fn complete(
    params: &Params,
    content_type: &[u8],
    content_length: &[u8],
    authorization: Option<&[u8]>,
    headers: &mut HeaderMap,
) {
    if !content_type.is_empty()
        && let Some(value) = header_value(params, content_type)
    {
        headers.insert(CONTENT_TYPE, value);
    }
    if !matches!(content_length, b"" | b"-1")
        && let Some(value) = header_value(params, content_length)
    {
        headers.insert(CONTENT_LENGTH, value);
    }
    if let Some(value) = authorization.and_then(|it| header_value(params, it)) {
        headers.insert(AUTHORIZATION, value);
    }
    join_cookies(headers);
}

/// Headers of one request. Apache takes 100; `http` cannot hold more than 24,576.
const MAX_HEADERS: usize = 16_384;

/// Rule: of a header that may occur only once, the first counts; of any other, each is a value of its
/// own. (Cookies are joined at the end.)
fn add_repeated(mut entry: OccupiedEntry<'_, HeaderValue>, value: HeaderValue) {
    if !ONLY_ONCE.contains(entry.key()) {
        entry.append(value);
    }
}

/// Headers whose value is not a list (RFC 9110 §5.3).
const ONLY_ONCE: [HeaderName; 14] = [
    AUTHORIZATION,
    header::DATE,
    header::FROM,
    header::HOST,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::UPGRADE_INSECURE_REQUESTS,
    header::USER_AGENT,
];

/// Rule: several Cookie headers are joined into one by "; " (RFC 9113 §8.2.3), because handlers look at
/// only one.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    // Almost no request repeats a header.
    if headers.len() == headers.keys_len() {
        return;
    }
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

/// `ACCEPT_ENCODING` → `accept-encoding`; `None` for what must not become a header.
fn header_name(name: &[u8]) -> Option<HeaderName> {
    if let Some(known) = usual_header(name) {
        return Some(known);
    }
    if is_not_a_header(name) {
        return None;
    }
    let to_lower = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let mut lower = [0u8; 64];
    match lower.get_mut(..name.len()) {
        Some(lower) => {
            lower.iter_mut().zip(name).for_each(|(lower, byte)| *lower = to_lower(byte));
            HeaderName::from_bytes(lower).ok()
        }
        None => HeaderName::from_bytes(&name.iter().map(to_lower).collect::<Vec<u8>>()).ok(),
    }
}

/// The headers that browsers send and web servers add, recognized without translating and validating each
/// byte: that is most of the cost of reading a request's headers.
fn usual_header(name: &[u8]) -> Option<HeaderName> {
    // By length first: few names share one.
    Some(match name.len() {
        4 if name == b"HOST" => header::HOST,
        6 if name == b"ACCEPT" => header::ACCEPT,
        6 if name == b"COOKIE" => COOKIE,
        6 if name == b"ORIGIN" => header::ORIGIN,
        7 if name == b"REFERER" => header::REFERER,
        10 if name == b"USER_AGENT" => header::USER_AGENT,
        10 if name == b"CONNECTION" => header::CONNECTION,
        13 if name == b"CACHE_CONTROL" => header::CACHE_CONTROL,
        13 if name == b"IF_NONE_MATCH" => header::IF_NONE_MATCH,
        15 if name == b"ACCEPT_ENCODING" => header::ACCEPT_ENCODING,
        15 if name == b"ACCEPT_LANGUAGE" => header::ACCEPT_LANGUAGE,
        17 if name == b"IF_MODIFIED_SINCE" => header::IF_MODIFIED_SINCE,
        25 if name == b"UPGRADE_INSECURE_REQUESTS" => header::UPGRADE_INSECURE_REQUESTS,
        _ => return None,
    })
}

/// Rules: a Proxy header must never look like a proxy setting (httpoxy); length, type and coding of the
/// body have CGI variables of their own. Apache withholds Authorization from programs; a rewrite rule
/// passes it on as HTTP_AUTHORIZATION, which is empty if the client sent none, and is prefixed with
/// REDIRECT_ once rewriting has redirected: of the non-empty ones, the one with the fewest prefixes
/// counts.
fn is_not_a_header(name: &[u8]) -> bool {
    matches!(
        name,
        b"PROXY" | b"AUTHORIZATION" | b"CONTENT_LENGTH" | b"CONTENT_TYPE" | b"TRANSFER_ENCODING"
    )
}

/// A value that shares the variables' memory; `None` if it is invalid (because of a line break, for
/// example).
fn header_value(params: &Params, value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(params.slice(value)).ok()
}

#[cfg(test)]
mod tests {
    use crate::cgi_vars::cgi_to_http::tests::head_of;

    /// The headers made from variables, sorted, as `name: value`.
    fn headers(variables: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/")];
        all.extend_from_slice(variables);
        let head = head_of(&all).unwrap();
        let mut found: Vec<String> = head
            .request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn headers_follow_the_rules() {
        let long = "X_".repeat(40);
        let long_variable = format!("HTTP_{long}X");
        let long_header = format!("{}x: 1", "x-".repeat(40));
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (
                "names",
                &[("HTTP_HOST", "example.org"), ("HTTP_ACCEPT_ENCODING", "gzip")],
                &["accept-encoding: gzip", "host: example.org"],
            ),
            (
                "length and type have variables of their own",
                &[
                    ("CONTENT_TYPE", "text/plain"),
                    ("CONTENT_LENGTH", "5"),
                    ("HTTP_CONTENT_LENGTH", "7"),
                    ("HTTP_CONTENT_TYPE", "text/html"),
                    ("HTTP_TRANSFER_ENCODING", "chunked"),
                ],
                &["content-length: 5", "content-type: text/plain"],
            ),
            ("nginx: empty", &[("CONTENT_LENGTH", ""), ("CONTENT_TYPE", "")], &[]),
            ("caddy: -1", &[("CONTENT_LENGTH", "-1")], &[]),
            ("httpoxy", &[("HTTP_PROXY", "http://evil")], &[]),
            (
                "no name, no value",
                &[("HTTP_BAD NAME", "x"), ("HTTP_", "y"), ("HTTP_X", "a\nb")],
                &[],
            ),
            ("an injected header", &[("HTTP_X", "a\r\nset-cookie: b")], &[]),
            ("a long name", &[(&long_variable, "1")], &[&long_header]),
            (
                "cookies twice",
                &[("HTTP_COOKIE", "a=b"), ("HTTP_COOKIE", "c=d"), ("HTTP_COOKIE", "e=f")],
                &["cookie: a=b; c=d; e=f"],
            ),
            (
                "lists twice",
                &[("HTTP_ACCEPT", "text/html"), ("HTTP_ACCEPT", "text/plain")],
                &["accept: text/html", "accept: text/plain"],
            ),
            (
                "single values twice",
                &[("HTTP_HOST", "first"), ("HTTP_HOST", "second"), ("HTTP_RANGE", "bytes=0-1")],
                &["host: first", "range: bytes=0-1"],
            ),
            (
                "Authorization",
                &[("HTTP_AUTHORIZATION", "Basic eA==")],
                &["authorization: Basic eA=="],
            ),
            ("set by a rewrite rule, none sent", &[("HTTP_AUTHORIZATION", "")], &[]),
            (
                "after a redirect",
                &[("REDIRECT_HTTP_AUTHORIZATION", "Basic eA==")],
                &["authorization: Basic eA=="],
            ),
            (
                "after two redirects",
                &[("REDIRECT_REDIRECT_HTTP_AUTHORIZATION", "Basic eA==")],
                &["authorization: Basic eA=="],
            ),
            (
                "the nearest counts",
                &[
                    ("REDIRECT_REDIRECT_HTTP_AUTHORIZATION", "Basic b2xk"),
                    ("REDIRECT_HTTP_AUTHORIZATION", "Basic bmV3"),
                ],
                &["authorization: Basic bmV3"],
            ),
        ];
        for (name, variables, expected) in cases {
            assert_eq!(headers(variables), *expected, "{name}");
        }
    }

    #[test]
    fn usual_headers_match_their_variables() {
        let usual = "ACCEPT ACCEPT_ENCODING ACCEPT_LANGUAGE CACHE_CONTROL CONNECTION COOKIE HOST \
                     IF_MODIFIED_SINCE IF_NONE_MATCH ORIGIN REFERER UPGRADE_INSECURE_REQUESTS USER_AGENT";
        for variable in usual.split(' ') {
            let name = super::usual_header(variable.as_bytes());
            let expected = variable.replace('_', "-").to_ascii_lowercase();
            assert_eq!(name.as_ref().map(|name| name.as_str()), Some(expected.as_str()));
        }
    }

    #[test]
    fn rejects_too_many_headers() {
        let names: Vec<String> = (0..40_000).map(|number| format!("HTTP_X{number}")).collect();
        let mut all = vec![("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")];
        all.extend(names.iter().map(|name| (name.as_str(), "")));
        assert_eq!(head_of(&all).unwrap_err(), "more than 16384 headers");
    }
}
