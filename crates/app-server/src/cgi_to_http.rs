//! CGI variables (RFC 3875 §4.1) to an HTTP request. Each web server's quirk is a named rule.
//!
//! The request's URI is the raw REQUEST_URI less BASE, so `%2F`, `%3F` and UTF-8 reach the
//! application as the visitor sent them. Values share the memory of the request's variables.

use std::net::IpAddr;

use bytes::Bytes;
use fastcgi_server::Params;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::base_path::{self, MountVariables};
use crate::extensions::{CgiVariables, RemoteAddress, Scheme};

/// What the variables say, before a body is known.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) request: Request<()>,
    /// Bytes announced; `None` when the body's end is told by the stream alone.
    pub(crate) content_length: Option<u64>,
}

/// Makes the request's head.
///
/// # Errors
/// One sentence on what makes no sense; nothing can be answered but 400.
pub(crate) fn head(params: Params) -> Result<Head, String> {
    let variables = Variables::read(&params);
    let method = match variables.method {
        b"GET" => Method::GET,
        b"POST" => Method::POST,
        b"" => return Err("REQUEST_METHOD is missing".to_owned()),
        other => Method::from_bytes(other)
            .map_err(|_| format!("REQUEST_METHOD is {:?}", String::from_utf8_lossy(other)))?,
    };
    let content_length = content_length(variables.content_length)?;
    let (uri, base) = uri(&params, &variables)?;

    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    headers(&params, &variables, request.headers_mut());
    let extensions = request.extensions_mut();
    extensions.insert(base);
    let https = variables.https.eq_ignore_ascii_case(b"on") || variables.https == b"1";
    extensions.insert(if https { Scheme::Https } else { Scheme::Http });
    if let Some(address) = ip_address(variables.remote_address) {
        extensions.insert(RemoteAddress(address));
    }
    extensions.insert(CgiVariables(params));
    Ok(Head { request, content_length })
}

/// The variables that decide, found in one pass.
#[derive(Default)]
struct Variables<'a> {
    method: &'a [u8],
    request_uri: &'a [u8],
    query_string: &'a [u8],
    content_length: &'a [u8],
    content_type: &'a [u8],
    https: &'a [u8],
    remote_address: &'a [u8],
    mount: MountVariables<'a>,
    redirected_authorization: &'a [u8],
}

impl<'a> Variables<'a> {
    fn read(params: &'a Params) -> Self {
        let mut variables = Variables::default();
        for (name, value) in params.iter() {
            match name {
                b"REQUEST_METHOD" => variables.method = value,
                b"REQUEST_URI" => variables.request_uri = value,
                b"QUERY_STRING" => variables.query_string = value,
                b"CONTENT_LENGTH" => variables.content_length = value,
                b"CONTENT_TYPE" => variables.content_type = value,
                b"HTTPS" => variables.https = value,
                b"REMOTE_ADDR" => variables.remote_address = value,
                b"SCRIPT_NAME" => variables.mount.script_name = value,
                b"PATH_INFO" => variables.mount.path_info = value,
                b"DOCUMENT_ROOT" => variables.mount.document_root = value,
                // A variable set in .htaccess gets the prefix once rewriting has redirected.
                b"TOOLSHED_BASE" | b"REDIRECT_TOOLSHED_BASE" => variables.mount.base = Some(value),
                b"REDIRECT_HTTP_AUTHORIZATION" => variables.redirected_authorization = value,
                _ => {}
            }
        }
        variables
    }
}

/// Rules: nginx sends an empty CONTENT_LENGTH on GET; caddy sends -1 for chunked bodies; Apache
/// sends none for those. All three: the stream's end is the body's end.
fn content_length(value: &[u8]) -> Result<Option<u64>, String> {
    match value {
        b"" | b"-1" => Ok(None),
        digits => std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("CONTENT_LENGTH is {:?}", String::from_utf8_lossy(digits))),
    }
}

fn uri(params: &Params, variables: &Variables<'_>) -> Result<(Uri, base_path::BasePath), String> {
    let target = target(params, variables);
    if target == "*" {
        return Ok((Uri::from_static("*"), base_path::BasePath::default()));
    }
    let path_length = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let path = target.slice(..path_length);
    let mount = base_path::mount_length(&path, variables.mount);
    let base = base_path::base_path(&path, mount);
    let rest = match target.slice(mount..) {
        // `/project` and `/project?x` are the site's front page.
        rest if !rest.starts_with(b"/") => {
            let mut with_slash = Vec::with_capacity(rest.len() + 1);
            with_slash.push(b'/');
            with_slash.extend_from_slice(&rest);
            Bytes::from(with_slash)
        }
        rest => rest,
    };
    let path_and_query = PathAndQuery::from_maybe_shared(rest.clone())
        .or_else(|_| {
            // Browsers and scripts send bytes in URLs that RFC 3986 wants encoded.
            PathAndQuery::from_maybe_shared(Bytes::from(
                percent_encode(&rest, OUTSIDE_RFC_3986).to_string(),
            ))
        })
        .map_err(|error| format!("REQUEST_URI cannot be read: {error}"))?;
    Ok((Uri::from(path_and_query), base))
}

/// What `http::Uri` refuses in a path or a query.
const OUTSIDE_RFC_3986: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'#');

/// The target as a path: REQUEST_URI is one, or a whole URL (RFC 9112 §3.2.2), or `*`, or absent.
fn target(params: &Params, variables: &Variables<'_>) -> Bytes {
    let request_uri = variables.request_uri;
    if request_uri.starts_with(b"/") || request_uri == b"*" {
        return params.slice(request_uri);
    }
    let Some(scheme) = request_uri.windows(3).position(|window| window == b"://") else {
        return rebuilt_target(variables);
    };
    let after_scheme = &request_uri[scheme + 3..];
    match after_scheme.iter().position(|&byte| byte == b'/') {
        Some(path) => params.slice(&after_scheme[path..]),
        None => Bytes::from_static(b"/"),
    }
}

/// Rule: without REQUEST_URI (it is no CGI variable) the path is SCRIPT_NAME + PATH_INFO, encoded
/// anew. What was `%2F` is lost then.
fn rebuilt_target(variables: &Variables<'_>) -> Bytes {
    const IN_A_PATH: &AsciiSet = &OUTSIDE_RFC_3986.add(b'?').add(b'%');
    let mut target = String::new();
    for part in [variables.mount.script_name, variables.mount.path_info] {
        target.extend(percent_encode(part, IN_A_PATH));
    }
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    if !variables.query_string.is_empty() {
        target.push('?');
        target.extend(percent_encode(variables.query_string, OUTSIDE_RFC_3986));
    }
    Bytes::from(target)
}

fn headers(params: &Params, variables: &Variables<'_>, headers: &mut http::HeaderMap) {
    headers.reserve(16);
    for (name, value) in params.iter() {
        let Some(name) = name.strip_prefix(b"HTTP_") else { continue };
        let Some(name) = header_name(name) else { continue };
        if let Ok(value) = HeaderValue::from_maybe_shared(params.slice(value)) {
            headers.append(name, value);
        }
    }
    if !variables.content_type.is_empty()
        && let Ok(value) = HeaderValue::from_maybe_shared(params.slice(variables.content_type))
    {
        headers.insert(CONTENT_TYPE, value);
    }
    if !matches!(variables.content_length, b"" | b"-1")
        && let Ok(value) = HeaderValue::from_maybe_shared(params.slice(variables.content_length))
    {
        headers.insert(CONTENT_LENGTH, value);
    }
    // Rule: Apache keeps Authorization from programs; a rewrite rule hands it on as a variable,
    // with the prefix once it has redirected.
    if !variables.redirected_authorization.is_empty()
        && !headers.contains_key(AUTHORIZATION)
        && let Ok(value) =
            HeaderValue::from_maybe_shared(params.slice(variables.redirected_authorization))
    {
        headers.insert(AUTHORIZATION, value);
    }
}

/// `ACCEPT_ENCODING` → `accept-encoding`; `None` for what must not become a header.
fn header_name(name: &[u8]) -> Option<HeaderName> {
    // Rules: a Proxy header must never look like a proxy setting (httpoxy); length, type and
    // coding of the body are told by CGI variables of their own.
    if matches!(name, b"PROXY" | b"CONTENT_LENGTH" | b"CONTENT_TYPE" | b"TRANSFER_ENCODING") {
        return None;
    }
    let mut lower = [0u8; 64];
    let lower = lower.get_mut(..name.len())?;
    for (lower, byte) in lower.iter_mut().zip(name) {
        *lower = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    }
    HeaderName::from_bytes(lower).ok()
}

fn ip_address(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base_path::BasePath;

    fn head_of(pairs: &[(&str, &str)]) -> Result<Head, String> {
        head(Params::from_pairs(
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        ))
    }

    type Variables = [(&'static str, &'static str)];

    #[test]
    fn uris() {
        // name, variables, the application's URI, BASE
        let cases: &[(&str, &Variables, &str, &str)] = &[
            ("plain", &[("REQUEST_URI", "/a?b=c")], "/a?b=c", ""),
            ("raw stays raw", &[("REQUEST_URI", "/a%2Fb%3Fc%25d")], "/a%2Fb%3Fc%25d", ""),
            ("UTF-8, not encoded", &[("REQUEST_URI", "/ä")], "/ä", ""),
            ("spaces and brackets", &[("REQUEST_URI", "/a b?q=<x>")], "/a%20b?q=%3Cx%3E", ""),
            ("odd queries", &[("REQUEST_URI", "/a??b&&=")], "/a??b&&=", ""),
            ("whole URL", &[("REQUEST_URI", "http://host:80/a?b")], "/a?b", ""),
            ("whole URL, no path", &[("REQUEST_URI", "http://host")], "/", ""),
            ("star", &[("REQUEST_URI", "*")], "*", ""),
            (
                "folder",
                &[
                    ("REQUEST_URI", "/p/a?b"),
                    ("SCRIPT_NAME", "/p/dispatch.fcgi"),
                    ("PATH_INFO", "/a"),
                ],
                "/a?b",
                "/p",
            ),
            (
                "folder alone",
                &[("REQUEST_URI", "/p?b"), ("SCRIPT_NAME", "/p/dispatch.fcgi")],
                "/?b",
                "/p",
            ),
            (
                "no REQUEST_URI",
                &[("SCRIPT_NAME", "/p"), ("PATH_INFO", "/a b?"), ("QUERY_STRING", "x=1")],
                "/a%20b%3F?x=1",
                "/p",
            ),
            (
                "set by the owner behind mod_proxy_fcgi",
                &[("REQUEST_URI", "/p/a"), ("SCRIPT_NAME", "/p/a"), ("TOOLSHED_BASE", "/p")],
                "/a",
                "/p",
            ),
        ];
        for (name, variables, uri, base) in cases {
            let mut all = vec![("REQUEST_METHOD", "GET")];
            all.extend_from_slice(variables);
            let head = head_of(&all).expect(name);
            assert_eq!(head.request.uri().to_string(), *uri, "{name}");
            let found = head.request.extensions().get::<BasePath>().unwrap();
            assert_eq!(found.as_str(), *base, "{name}");
        }
    }

    #[test]
    fn headers_are_told_from_variables() {
        let head = head_of(&[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "5"),
            ("HTTP_HOST", "example.org"),
            ("HTTP_ACCEPT_ENCODING", "gzip"),
            ("HTTP_COOKIE", "a=b"),
            ("HTTP_COOKIE", "c=d"),
            ("HTTP_PROXY", "http://evil"),
            ("HTTP_CONTENT_LENGTH", "7"),
            ("HTTP_TRANSFER_ENCODING", "chunked"),
            ("HTTP_BAD NAME", "x"),
            ("HTTP_X_BAD_VALUE", "a\nb"),
            ("REDIRECT_HTTP_AUTHORIZATION", "Basic eA=="),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("HTTPS", "on"),
        ])
        .unwrap();
        let mut found: Vec<String> = head
            .request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "accept-encoding: gzip",
                "authorization: Basic eA==",
                "content-length: 5",
                "content-type: text/plain",
                "cookie: a=b",
                "cookie: c=d",
                "host: example.org",
            ]
        );
        assert_eq!(head.content_length, Some(5));
        assert_eq!(head.request.extensions().get(), Some(&Scheme::Https));
        let address = RemoteAddress("192.0.2.7".parse().unwrap());
        assert_eq!(head.request.extensions().get(), Some(&address));
    }

    #[test]
    fn lengths() {
        for (value, expected) in [
            ("", Some(None)),
            ("-1", Some(None)),
            ("0", Some(Some(0))),
            ("12", Some(Some(12))),
            ("+1", None),
            ("x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(content_length(value.as_bytes()).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (variables, expected) in [
            (&[("REQUEST_URI", "/")][..], "REQUEST_METHOD is missing"),
            (&[("REQUEST_METHOD", "G T"), ("REQUEST_URI", "/")], "REQUEST_METHOD is \"G T\""),
            (
                &[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("CONTENT_LENGTH", "1e3")],
                "CONTENT_LENGTH is \"1e3\"",
            ),
        ] {
            assert_eq!(head_of(variables).err().as_deref(), Some(expected));
        }
    }
}
