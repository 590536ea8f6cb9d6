//! Redirects from HTTP to HTTPS if the owner says that the site has it (`https = "redirect"`).
//!
//! A program behind a proxy that terminates HTTPS may not know that the visitor used it, and would redirect in
//! a loop. So a request is not redirected if anything in it shows that the visitor used HTTPS. Such a hint
//! needs no trust: a visitor who forges it gets what the site sends without this setting.

use std::sync::Once;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CACHE_CONTROL, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::is_for_monitors;
use crate::http::base_path::BasePath;

/// Redirects visitors who use HTTP.
pub(crate) struct HttpsRedirect {
    /// Whether the log says already that a proxy is not trusted.
    warned: Once,
}

impl HttpsRedirect {
    pub(crate) const fn new() -> Self {
        HttpsRedirect { warned: Once::new() }
    }

    /// Returns where to redirect a request that came over HTTP; `None` if it is to be answered as it is.
    ///
    /// `/healthz` and `/readyz` are not redirected: monitors and load balancers ask for them.
    pub(crate) fn redirect(&self, request: &Request, base: &BasePath) -> Option<Response> {
        let (uri, headers) = (request.uri(), request.headers());
        let host = host_of(headers).filter(|host| !is_this_machine(host))?;
        if is_for_monitors(uri.path()) {
            return None;
        }
        if let Some(hint) = hint_of_https(headers) {
            self.warned.call_once(|| {
                tracing::warn!(
                    "Redirect to HTTPS skipped: {hint} says the visitor already uses HTTPS. Add the proxy to \
                     trusted_proxies."
                );
            });
            return None;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path } else { "/" };
        let location = HeaderValue::try_from(format!("https://{host}{}", base.link(path))).ok()?;
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        let mut response = Response::new(Body::empty());
        // For all other methods, the status that preserves method and body; older clients do not know it.
        *response.status_mut() =
            if is_read { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
        let headers = response.headers_mut();
        headers.insert(LOCATION, location);
        // Browsers cache both indefinitely: an owner could not go back.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}

/// The host name that the visitor used, without its port, since HTTPS has another one.
///
/// It comes from the visitor; anything that is not a host name and could mean more in a link does not count.
fn host_of(headers: &HeaderMap) -> Option<&str> {
    let authority = headers.get(HOST)?.to_str().ok()?;
    let (host, port) = match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => (&authority[..at], &authority[at + 1..]),
        _ => (authority, ""),
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    (is_host && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

/// Names that browsers trust without HTTPS: those of the local machine.
fn is_this_machine(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the header that shows, trusted or not, that the visitor used HTTPS.
fn hint_of_https(headers: &HeaderMap) -> Option<&'static str> {
    const PROXY_HEADERS: [&str; 10] = [
        "forwarded",
        "x-forwarded-proto",
        "x-forwarded-protocol",
        "x-forwarded-scheme",
        "x-url-scheme",
        "x-forwarded-ssl",
        "x-forwarded-port",
        "x-https",
        "front-end-https",
        "cf-visitor",
    ];
    // Browsers send it only over HTTPS and to their own machine (W3C Fetch Metadata §2): behind a proxy that
    // sends no header, this one prevents the loop.
    const BROWSER_HEADER: &str = "sec-fetch-site";

    let says_https = |name: &&'static str| {
        headers.get_all(*name).iter().any(|value| {
            let value = value.as_bytes().to_ascii_lowercase();
            [&b"on"[..], b"1", b"443"].contains(&&*value)
                || value.windows(5).any(|word| word == b"https")
        })
    };
    let from_browser = || headers.contains_key(BROWSER_HEADER).then_some(BROWSER_HEADER);
    PROXY_HEADERS.into_iter().find(says_https).or_else(from_browser)
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use crate::testing::{TestResponse, request, send};
    use crate::{BasePath, Server, ServerFacts, SiteSettings};

    static OVER_TLS: ServerFacts = ServerFacts { is_https: |_| true, ..*Server::SILENT.0 };

    fn site() -> Router {
        let settings = SiteSettings { redirects_to_https: true, ..SiteSettings::default() };
        crate::router_with(&[], &settings)
    }

    fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> TestResponse {
        let request = request(method, path);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        send(&site(), request.body(Default::default()).unwrap())
    }

    fn location(response: &TestResponse) -> Option<&str> {
        response.header("location")
    }

    #[test]
    fn http_is_redirected_to_the_same_address_over_https() {
        for (host, path, expected) in [
            ("example.org", "/", "https://example.org/"),
            ("example.org", "/a%2Fb?c=%0D", "https://example.org/a%2Fb?c=%0D"),
            ("example.org", "//evil.example/", "https://example.org//evil.example/"),
            ("example.org:80", "/", "https://example.org/"),
            ("example.org:8080", "/", "https://example.org/"),
            ("192.0.2.1:80", "/", "https://192.0.2.1/"),
            ("[2001:db8::1]:80", "/", "https://[2001:db8::1]/"),
            ("[2001:db8::1]", "/", "https://[2001:db8::1]/"),
            ("127.0.0.1.example", "/", "https://127.0.0.1.example/"),
        ] {
            let response = ask("GET", path, &[("host", host)]);
            assert_eq!(location(&response), Some(expected), "{host} {path}");
            assert_eq!(response.status, 301, "{host} {path}");
            assert_eq!(response.header("cache-control"), Some("no-store"), "{host} {path}");
            assert_eq!(response.header("strict-transport-security"), None, "{host} {path}");
            assert!(response.header("content-security-policy").is_some(), "{host} {path}");
        }
        for (method, status) in [("HEAD", 301), ("POST", 308), ("DELETE", 308)] {
            let response = ask(method, "/tools/x", &[("host", "example.org")]);
            assert_eq!(response.status, status, "{method}");
            assert_eq!(location(&response), Some("https://example.org/tools/x"), "{method}");
        }
        let below = request("GET", "/x?y").header("host", "example.org");
        let below = below.extension(BasePath::new("/project")).body(Default::default()).unwrap();
        assert_eq!(location(&send(&site(), below)), Some("https://example.org/project/x?y"));
    }

    #[test]
    fn an_invalid_host_is_not_redirected_to() {
        for host in [
            "",
            ":80",
            "a b",
            "a/b",
            "evil.example/",
            "a@evil.example",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:80:80",
            "[",
            "[]",
            "[evil]",
            "[::1",
            "a\"b",
            "a,b",
            "a;b",
        ] {
            let response = ask("GET", "/", &[("host", host)]);
            assert_eq!((response.status.as_u16(), location(&response)), (200, None), "{host:?}");
        }
        assert_eq!(ask("GET", "/", &[]).status, 200);
    }

    #[test]
    fn there_are_no_redirect_loops() {
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "HTTPS, http"),
            ("x-forwarded-protocol", "https"),
            ("x-forwarded-scheme", "https"),
            ("x-url-scheme", "https"),
            ("x-forwarded-ssl", "on"),
            ("front-end-https", "On"),
            ("front-end-https", "1"),
            ("x-https", "1"),
            ("x-forwarded-port", "443"),
            ("cf-visitor", "{\"scheme\":\"https\"}"),
            ("forwarded", "for=192.0.2.1;proto=https"),
            ("sec-fetch-site", "none"),
        ] {
            let response = ask("GET", "/", &[("host", "example.org"), (name, value)]);
            assert_eq!(
                (response.status.as_u16(), location(&response)),
                (200, None),
                "{name}: {value}"
            );
        }
        for (name, value) in [
            ("x-forwarded-proto", "http"),
            ("x-forwarded-ssl", "off"),
            ("x-forwarded-port", "80"),
            ("cf-visitor", "{\"scheme\":\"http\"}"),
            ("forwarded", "for=192.0.2.1;proto=http"),
            ("upgrade-insecure-requests", "1"),
        ] {
            let response = ask("GET", "/", &[("host", "example.org"), (name, value)]);
            assert_eq!(response.status, 301, "{name}: {value}");
        }
        let over_tls = request("GET", "/").header("host", "example.org");
        let over_tls = over_tls.extension(Server(&OVER_TLS)).body(Default::default()).unwrap();
        assert_eq!(send(&site(), over_tls).status, 200);
    }

    #[test]
    fn monitors_and_localhost_are_served_over_http() {
        assert_eq!(ask("GET", "/healthz", &[("host", "example.org")]).text(), "ok");
        for host in ["localhost", "LOCALHOST:8080", "a.localhost", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask("GET", "/", &[("host", host)]).status, 200, "{host}");
        }
    }

    #[test]
    fn without_the_setting_http_is_http() {
        let request = request("GET", "/").header("host", "example.org");
        let response = send(&crate::router(&[]), request.body(Default::default()).unwrap());
        assert_eq!(response.status, 200);
    }
}
