//! Converts CGI variables (RFC 3875 §4.1) to an HTTP request. Each web server's quirk is a named rule.
//!
//! | who | what | rule |
//! | --- | --- | --- |
//! | all | PATH_INFO is decoded, once too often or too little; REQUEST_URI is raw | [`target`] |
//! | some | no REQUEST_URI: it is not a CGI variable | [`rebuilt_target`] |
//! | browsers | bytes in URLs that RFC 3986 requires to be encoded | [`OUTSIDE_RFC_3986`] |
//! | nginx, caddy, Apache | CONTENT_LENGTH empty, -1 or missing | [`content_length`] |
//! | Apache | variables of .htaccess get REDIRECT_ before their names, once per redirect | [`without_redirects`] |
//! | all | HTTPS is `on`, `1`, `off` or missing beside REQUEST_SCHEME; a trusted proxy overrides both | [`scheme`] |
//! | nginx | REMOTE_ADDR is `unix:` | [`peer`] |
//! | Apache | the site's password comes with every request (SetEnv) | [`divide`] |
//!
//! BASE and each web server's SCRIPT_NAME are handled in `base_path.rs`, `HTTP_…` variables in
//! `cgi_headers.rs`, proxies in `forwarded.rs`. Values share the memory of the request's variables.

use bytes::Bytes;
use fastcgi_server::{Params, Role};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::cgi_vars::base_path::{self, MountVariables};
use crate::cgi_vars::cgi_headers;
use crate::cgi_vars::forwarded::{self, Peer, Scheme, TrustedProxy};
use crate::cgi_vars::gateway::{CgiVariables, Gateway, Secrets};

/// What the variables say, before a body is attached.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) request: Request<()>,
    pub(crate) gateway: Gateway,
    /// Announced bytes; `None` if only the stream's end marks the body's end.
    pub(crate) content_length: Option<u64>,
}

/// The settings that concern variables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VariableSettings<'a> {
    pub(crate) trusted_proxies: &'a [TrustedProxy],
    /// The names of variables that hold passwords.
    pub(crate) secret: &'a [&'a str],
    /// The name of the variable that says where the site is mounted.
    pub(crate) base: &'a str,
}

/// Builds the request's head.
///
/// # Errors
///
/// One sentence on what is malformed; the only possible response is 400.
pub(crate) fn head(
    params: Params,
    role: Option<Role>,
    settings: VariableSettings<'_>,
) -> Result<Head, String> {
    let VariableSettings { trusted_proxies: trusted, secret, .. } = settings;
    let mut request = Request::new(());
    let mut variables = Variables::read(&params, settings, request.headers_mut())?;
    variables.mount.is_executed = role.is_none();
    let method = match variables.method {
        b"GET" => Method::GET,
        b"POST" => Method::POST,
        b"" => return Err("REQUEST_METHOD is missing".to_owned()),
        other => Method::from_bytes(other)
            .map_err(|_| format!("REQUEST_METHOD is {:?}", String::from_utf8_lossy(other)))?,
    };
    let content_length = content_length(variables.content_length)?;
    let (uri, base) = uri(&params, &variables)?;
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let Variables { content_type, content_length: length, .. } = variables;
    let redirect_status = StatusCode::from_bytes(variables.redirect_status).ok();
    let authorization = variables.authorization.value();
    cgi_headers::complete(&params, content_type, length, authorization, request.headers_mut());
    let visitor = forwarded::visitor(trusted, peer(variables.remote_address), request.headers());
    let scheme = visitor.scheme.unwrap_or_else(|| scheme(&variables));
    let (variables, secrets) = if variables.has_secrets {
        let (open, secrets) = divide(&params, secret);
        (open, Some(secrets))
    } else {
        (CgiVariables(params), None)
    };
    let gateway = Gateway {
        base,
        scheme,
        remote_address: visitor.address,
        redirect_status,
        role,
        variables: Some(variables),
        secrets,
    };
    Ok(Head { request, gateway, content_length })
}

/// The variables that matter here. They are collected in the same pass that makes the headers.
#[derive(Default)]
pub(crate) struct Variables<'a> {
    method: &'a [u8],
    request_uri: &'a [u8],
    query_string: &'a [u8],
    pub(crate) content_length: &'a [u8],
    pub(crate) content_type: &'a [u8],
    pub(crate) authorization: Nearest<'a>,
    https: Nearest<'a>,
    request_scheme: &'a [u8],
    remote_address: &'a [u8],
    redirect_status: &'a [u8],
    mount: MountVariables<'a>,
    /// Set by the owner: where the site is mounted.
    base: Nearest<'a>,
    has_secrets: bool,
}

impl<'a> Variables<'a> {
    fn read(
        params: &'a Params,
        settings: VariableSettings<'_>,
        headers: &mut HeaderMap,
    ) -> Result<Self, String> {
        let VariableSettings { secret, base, .. } = settings;
        let mut variables = Variables::default();
        headers.reserve(cgi_headers::USUAL_HEADERS);
        for (full_name, value) in params.iter() {
            let (name, redirects) = without_redirects(full_name);
            match name.strip_prefix(b"HTTP_") {
                Some(b"AUTHORIZATION") if !value.is_empty() => {
                    variables.authorization.offer(value, redirects);
                }
                Some(header) if redirects == 0 => cgi_headers::add(params, header, value, headers)?,
                Some(_) => {}
                None if name == base.as_bytes() => variables.base.offer(value, redirects),
                None => variables.note(name, redirects, value, secret),
            }
        }
        variables.mount.base = variables.base.value();
        Ok(variables)
    }

    /// Compares the length first: most variables are irrelevant here, and few share a length.
    #[inline]
    fn note(&mut self, name: &[u8], redirects: usize, value: &'a [u8], secret: &[&str]) {
        let place = match name.len() {
            5 if name == b"HTTPS" => return self.https.offer(value, redirects),
            6 if name == b"STATUS" && redirects == 1 => {
                self.redirect_status = value;
                return;
            }
            9 if name == b"PATH_INFO" => &mut self.mount.path_info,
            11 if name == b"REQUEST_URI" => &mut self.request_uri,
            11 if name == b"SCRIPT_NAME" => &mut self.mount.script_name,
            11 if name == b"REMOTE_ADDR" => &mut self.remote_address,
            12 if name == b"QUERY_STRING" => &mut self.query_string,
            12 if name == b"CONTENT_TYPE" => &mut self.content_type,
            13 if name == b"DOCUMENT_ROOT" => &mut self.mount.document_root,
            15 if name == b"SCRIPT_FILENAME" => &mut self.mount.script_filename,
            3 if name == b"URL" && redirects > 0 => {
                self.mount.is_redirected = true;
                return;
            }
            14 if name == b"REQUEST_METHOD" => &mut self.method,
            14 if name == b"CONTENT_LENGTH" => &mut self.content_length,
            14 if name == b"REQUEST_SCHEME" => &mut self.request_scheme,
            _ => return self.has_secrets |= is_secret(name, secret),
        };
        if redirects == 0 {
            *place = value;
        }
    }
}

/// Rule: Apache puts REDIRECT_ before the name of a variable set in .htaccess at each internal redirect,
/// and rewriting there is one. Returns the name as it was set, and how often it was redirected.
fn without_redirects(name: &[u8]) -> (&[u8], usize) {
    let mut name = name;
    let mut redirects = 0;
    while let Some(rest) = name.strip_prefix(b"REDIRECT_") {
        name = rest;
        redirects += 1;
    }
    (name, redirects)
}

/// A variable that may arrive under several names. The one with the fewest redirects counts, because it
/// is the newest, and among those the first.
#[derive(Clone, Copy, Default)]
pub(crate) struct Nearest<'a>(Option<(&'a [u8], usize)>);

impl<'a> Nearest<'a> {
    fn offer(&mut self, value: &'a [u8], redirects: usize) {
        if self.0.is_none_or(|(_, nearest)| redirects < nearest) {
            self.0 = Some((value, redirects));
        }
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        self.0.map(|(value, _)| value)
    }
}

/// Whether this is a password, however often it was redirected.
pub(crate) fn is_secret_variable(name: &[u8], secret: &[&str]) -> bool {
    is_secret(without_redirects(name).0, secret)
}

fn is_secret(name: &[u8], secret: &[&str]) -> bool {
    secret.iter().any(|secret| secret.as_bytes() == name)
}

/// Rule: passwords set with SetEnv come with every request. They are kept apart from the variables that
/// applications display, pass to scripts or write down.
fn divide(params: &Params, secret: &[&str]) -> (CgiVariables, Secrets) {
    let is_secret = |name| is_secret_variable(name, secret);
    let open = params.iter().filter(|(name, _)| !is_secret(name));
    let mut secrets: Vec<(&[u8], usize, &[u8])> = params
        .iter()
        .filter(|(name, _)| is_secret(name))
        .map(|(full_name, value)| {
            let (name, redirects) = without_redirects(full_name);
            (name, redirects, value)
        })
        .collect();
    // The newest of a name comes first, so that it is the one found.
    secrets.sort_by_key(|(_, redirects, _)| *redirects);
    let secrets = secrets.into_iter().map(|(name, _, value)| (name, value));
    (CgiVariables(Params::from_pairs(open)), Secrets(Params::from_pairs(secrets)))
}

/// Rule: HTTPS decides if it is set (`off` and an empty value mean no), otherwise REQUEST_SCHEME.
fn scheme(variables: &Variables<'_>) -> Scheme {
    let https = match variables.https.value() {
        Some(value) if !value.is_empty() => value.eq_ignore_ascii_case(b"on") || value == b"1",
        _ => variables.request_scheme.eq_ignore_ascii_case(b"https"),
    };
    if https { Scheme::Https } else { Scheme::Http }
}

/// Rule: nginx reports `unix:` for a peer on its unix socket.
fn peer(remote_address: &[u8]) -> Peer {
    if remote_address == b"unix:" {
        return Peer::UnixSocket;
    }
    let address = std::str::from_utf8(remote_address).ok().and_then(|text| text.parse().ok());
    address.map_or(Peer::Unknown, Peer::Address)
}

/// Rules: nginx sends an empty CONTENT_LENGTH on GET; caddy sends -1 for chunked bodies; Apache sends
/// none for those. In all three cases, the stream's end is the body's end.
fn content_length(value: &[u8]) -> Result<Option<u64>, String> {
    match value {
        b"" | b"-1" => Ok(None),
        value => parse_content_length(value)
            .map(Some)
            .ok_or_else(|| format!("CONTENT_LENGTH is {:?}", String::from_utf8_lossy(value))),
    }
}

/// Parses a Content-Length: digits, without the sign that Rust would allow (RFC 9110 §8.6).
pub(crate) fn parse_content_length(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
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
            // Browsers and scripts send bytes in URLs that RFC 3986 requires to be encoded.
            PathAndQuery::from_maybe_shared(Bytes::from(
                percent_encode(&rest, OUTSIDE_RFC_3986).to_string(),
            ))
        })
        .map_err(|error| format!("REQUEST_URI is invalid: {error}"))?;
    Ok((Uri::from(path_and_query), base))
}

/// What `http::Uri` rejects in a path or a query.
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

/// Rule: the raw REQUEST_URI is authoritative, so that `%2F`, `%3F` and UTF-8 reach the application as
/// the client sent them. It is a path, a full URL (RFC 9112 §3.2.2), `*`, or absent.
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

/// Rule: without REQUEST_URI (not a CGI variable), the path is SCRIPT_NAME + PATH_INFO, encoded again. A
/// `%2F` is lost then.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn head_of(pairs: &[(&str, &str)]) -> Result<Head, String> {
        head_behind(&[], pairs)
    }

    fn head_behind(
        trusted_proxies: &[TrustedProxy],
        pairs: &[(&str, &str)],
    ) -> Result<Head, String> {
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let secret = &["APP_PASSWORD", "APP_PASSWORD_HASH"];
        let settings = VariableSettings { trusted_proxies, secret, base: "APP_BASE" };
        head(Params::from_pairs(pairs), None, settings)
    }

    type Variables = [(&'static str, &'static str)];

    #[test]
    fn builds_uris() {
        // name, variables, the application's URI, BASE
        let cases: &[(&str, &Variables, &str, &str)] = &[
            ("plain", &[("REQUEST_URI", "/a?b=c")], "/a?b=c", ""),
            ("raw stays raw", &[("REQUEST_URI", "/a%2Fb%3Fc%25d")], "/a%2Fb%3Fc%25d", ""),
            ("UTF-8, not encoded", &[("REQUEST_URI", "/ä")], "/ä", ""),
            ("spaces and brackets", &[("REQUEST_URI", "/a b?q=<x>")], "/a%20b?q=%3Cx%3E", ""),
            ("odd queries", &[("REQUEST_URI", "/a??b&&=")], "/a??b&&=", ""),
            ("whole URL", &[("REQUEST_URI", "http://host:80/a?b")], "/a?b", ""),
            ("full URL, no path", &[("REQUEST_URI", "http://host")], "/", ""),
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
                "folder only",
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
                &[("REQUEST_URI", "/p/a"), ("SCRIPT_NAME", "/p/a"), ("APP_BASE", "/p")],
                "/a",
                "/p",
            ),
        ];
        for (name, variables, uri, base) in cases {
            let mut all = vec![("REQUEST_METHOD", "GET")];
            all.extend_from_slice(variables);
            let head = head_of(&all).expect(name);
            assert_eq!(head.request.uri().to_string(), *uri, "{name}");
            assert_eq!(head.gateway.base.as_str(), *base, "{name}");
        }
    }

    #[test]
    fn mounts_set_by_the_owner_survive_redirects() {
        for (variables, base) in [
            (&[("APP_BASE", "/a")][..], "/a"),
            (&[("REDIRECT_APP_BASE", "/a")], "/a"),
            (&[("REDIRECT_REDIRECT_APP_BASE", "/a")], "/a"),
            (&[("REDIRECT_APP_BASE", "/a"), ("APP_BASE", "/a/b")], "/a/b"),
            (&[("XREDIRECT_APP_BASE", "/a")], ""),
        ] {
            let mut all = vec![("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/a/b/c")];
            all.extend_from_slice(variables);
            let head = head_of(&all).unwrap();
            assert_eq!(head.gateway.base.as_str(), base, "{variables:?}");
        }
    }

    #[test]
    fn determines_the_scheme() {
        for (variables, expected) in [
            (&[][..], Scheme::Http),
            (&[("HTTPS", "on")], Scheme::Https),
            (&[("HTTPS", "ON")], Scheme::Https),
            (&[("HTTPS", "1")], Scheme::Https),
            (&[("HTTPS", "off")], Scheme::Http),
            (&[("HTTPS", "off"), ("REQUEST_SCHEME", "https")], Scheme::Http),
            (&[("HTTPS", ""), ("REQUEST_SCHEME", "https")], Scheme::Https),
            (&[("REQUEST_SCHEME", "https")], Scheme::Https),
            (&[("REQUEST_SCHEME", "http")], Scheme::Http),
            (&[("REDIRECT_HTTPS", "on")], Scheme::Https),
            // What a client claims.
            (&[("HTTP_HTTPS", "on"), ("HTTP_X_FORWARDED_PROTO", "https")], Scheme::Http),
        ] {
            let mut all = vec![("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")];
            all.extend_from_slice(variables);
            let head = head_of(&all).unwrap();
            assert_eq!(head.gateway.scheme, expected, "{variables:?}");
        }
    }

    #[test]
    fn finds_the_client_behind_proxies() {
        let trusted = ["10.0.0.1".parse().unwrap(), "unix".parse().unwrap()];
        for (remote, expected, scheme) in [
            ("192.0.2.7", Some("192.0.2.7"), Scheme::Http),
            ("10.0.0.1", Some("198.51.100.1"), Scheme::Https),
            ("unix:", Some("198.51.100.1"), Scheme::Https),
            ("", None, Scheme::Http),
        ] {
            let head = head_behind(
                &trusted,
                &[
                    ("REQUEST_METHOD", "GET"),
                    ("REQUEST_URI", "/"),
                    ("REMOTE_ADDR", remote),
                    ("HTTP_X_FORWARDED_FOR", "1.1.1.1, 198.51.100.1"),
                    ("HTTP_X_FORWARDED_PROTO", "https"),
                ],
            )
            .unwrap();
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(head.gateway.remote_address, expected, "{remote:?}");
            assert_eq!(head.gateway.scheme, scheme, "{remote:?}");
        }
    }

    #[test]
    fn passwords_are_kept_apart_from_variables() {
        let head = head_of(&[
            ("REDIRECT_REDIRECT_APP_PASSWORD", "older"),
            ("REQUEST_METHOD", "GET"),
            ("REDIRECT_APP_PASSWORD", "newer"),
            ("REQUEST_URI", "/"),
            ("APP_PASSWORD_HASH", "hash"),
            ("REDIRECT_STATUS", "200"),
            ("APP_PASSWORDS", "is another name"),
        ])
        .unwrap();
        let variables = head.gateway.variables.as_ref().unwrap();
        let names: Vec<&[u8]> = variables.iter().map(|(name, _)| name).collect();
        let expected = ["REQUEST_METHOD", "REQUEST_URI", "REDIRECT_STATUS", "APP_PASSWORDS"];
        assert_eq!(names, expected.map(str::as_bytes));
        let secrets = head.gateway.secrets.as_ref().unwrap();
        assert_eq!(secrets.get("APP_PASSWORD"), Some(&b"newer"[..]));
        assert_eq!(secrets.get("APP_PASSWORD_HASH"), Some(&b"hash"[..]));
        assert_eq!(secrets.get("REQUEST_METHOD"), None);
        let shown = format!("{head:?}");
        assert!(!shown.contains("newer") && !shown.contains("APP_PASSWORD\""), "{shown}");
        // Without secrets, the variables are not copied.
        let none = head_of(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")]).unwrap();
        assert!(none.gateway.secrets.is_none());
    }

    /// Apache: of two redirects, the last one counts.
    #[test]
    fn knows_what_an_error_document_is_for() {
        for (name, value, expected) in [
            ("REDIRECT_STATUS", "401", Some(StatusCode::UNAUTHORIZED)),
            ("REDIRECT_STATUS", "200", Some(StatusCode::OK)),
            ("REDIRECT_REDIRECT_STATUS", "401", None),
            ("STATUS", "401", None),
            ("HTTP_REDIRECT_STATUS", "401", None),
            ("REDIRECT_STATUS", "4O1", None),
        ] {
            let head = head_of(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), (name, value)]);
            assert_eq!(head.unwrap().gateway.redirect_status, expected, "{name}={value}");
        }
    }

    #[test]
    fn reads_content_length() {
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
    fn reports_malformed_variables() {
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
