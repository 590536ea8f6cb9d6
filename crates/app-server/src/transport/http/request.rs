//! hyper's requests in the form in which the application sees all requests, and which of them are refused.

use std::net::SocketAddr;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Version};
use hyper::body::Incoming;

use crate::cgi_vars::cgi_headers;
use crate::cgi_vars::forwarded::{self, Peer};
use crate::cgi_vars::gateway::Gateway;
use crate::request::application::Application;
use crate::request::body::Body;

/// Checks whether the server can handle a request. hyper has already refused malformed ones.
///
/// # Errors
///
/// Why it cannot.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is only supported by proxies");
    }
    if request.uri().authority().is_some() {
        return Err("its target is not a path");
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return Err("the target * is only valid for OPTIONS");
    }
    check_host(request.version(), request.headers())
}

/// Checks the Host header (RFC 9112 §3.2): duplicates are used to smuggle requests past a proxy.
///
/// # Errors
///
/// What is wrong with it.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err("HTTP/1.1 requires a Host header"),
        (_, Some(_)) => Err("it has several Host headers"),
        (Some(host), None) if !is_host(host.as_bytes()) => {
            Err("its Host header is not a valid host")
        }
        _ => Ok(()),
    }
}

/// Whether this can be a host with an optional port (RFC 9110 §7.2, RFC 3986 §3.2.2), or empty.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

/// Converts hyper's request to the form in which the application sees all requests.
pub(super) fn into_ours<S>(
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    application: &Application<S>,
) -> Request<Body> {
    let settings = &application.settings;
    let (mut head, incoming) = request.into_parts();
    // An absolute target (RFC 9112 §3.2.2) is equivalent to its path, and its host takes precedence. A Host
    // header that is to be refused stays.
    if head.uri.scheme().is_some() {
        if check_host(head.version, &head.headers).is_ok()
            && let Some(host) = head.uri.authority().and_then(|it| it.as_str().parse().ok())
        {
            head.headers.insert(HOST, host);
        }
        head.uri = head.uri.path_and_query().cloned().map(Into::into).unwrap_or_default();
    }
    cgi_headers::join_cookies(&mut head.headers);
    let peer = peer.map_or(Peer::UnixSocket, |peer| Peer::Address(peer.ip()));
    let visitor = forwarded::visitor(&settings.trusted_proxies, peer, &head.headers);
    let gateway = Gateway {
        scheme: visitor.scheme.unwrap_or_default(),
        remote_address: visitor.address,
        ..Gateway::NONE
    };
    let body = Body::http(incoming, &head.headers, settings);
    let mut request = Request::from_parts(head, body);
    application.classify(&mut request, gateway);
    request
}
