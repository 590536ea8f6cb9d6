//! Web servers, and how each describes a request: what `request --as` sends to the program.
//!
//! Recorded with an application that returns all variables it gets, behind the web servers of Debian 12 as
//! docs/deploying.md sets them up. A test compares them with what these servers say now (`tests/suite/fronts.rs`).

use app_server::Role;
use clap::ValueEnum;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, Request};
use percent_encoding::percent_decode_str;

/// A web server that passes on a request by CGI variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Front {
    // Apache with mod_fcgid, by .htaccess.
    #[value(name = "mod_fcgid")]
    ModFcgid,
    // Apache without it: CGI.
    #[value(name = "mod_cgi")]
    ModCgi,
    // Apache with mod_proxy_fcgi.
    #[value(name = "mod_proxy_fcgi")]
    ModProxyFcgi,
    Nginx,
    // The only one here that knows the folder of a site by itself, but for Apache with .htaccess.
    Lighttpd,
    Caddy,
    Haproxy,
}

/// What a web server does with headers.
struct Headers {
    /// It does not pass these on.
    dropped: &'static [&'static str],
    /// It passes on names with an underscore, in which they cannot be told from those with a hyphen.
    keeps_underscores: bool,
    /// It makes one of several with the same name.
    joins: bool,
    /// It also passes on these as headers.
    content: &'static [&'static str],
}

/// Where the recorded sites are.
const ROOT: &str = "/home/owner/public_html";

/// A value has `{words}` in it, for what differs by request. If there is no such thing, it is what comes after the
/// colon, and without a colon there is no such variable.
type Variables = &'static [(&'static str, &'static str)];

const APACHE: Variables = &[
    ("CONTENT_TYPE", "{type}"),
    ("CONTEXT_DOCUMENT_ROOT", ROOT),
    ("CONTEXT_PREFIX", ""),
    ("DOCUMENT_ROOT", ROOT),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("QUERY_STRING", "{query:}"),
    ("REMOTE_ADDR", "127.0.0.1"),
    ("REMOTE_PORT", "50000"),
    ("REQUEST_METHOD", "{method}"),
    ("REQUEST_SCHEME", "http"),
    ("REQUEST_URI", "{uri}"),
    ("SERVER_ADDR", "127.0.0.1"),
    ("SERVER_ADMIN", "[no address given]"),
    ("SERVER_NAME", "{host}"),
    ("SERVER_PORT", "80"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("SERVER_SIGNATURE", ""),
];

/// What rewriting in .htaccess adds.
const REWRITTEN: Variables = &[
    ("REDIRECT_HTTP_AUTHORIZATION", "{authorization}"),
    ("REDIRECT_QUERY_STRING", "{query}"),
    ("REDIRECT_STATUS", "200"),
    ("REDIRECT_URL", "{path}"),
    ("SCRIPT_FILENAME", "/home/owner/public_html{base:}/dispatch.fcgi"),
    ("SCRIPT_NAME", "{base:}/dispatch.fcgi"),
];

impl Front {
    /// The role that it asks for over FastCGI; `None` over CGI.
    pub(crate) fn role(self) -> Option<Role> {
        (self != Front::ModCgi).then_some(Role::Responder)
    }

    fn headers(self) -> Headers {
        match self {
            Front::ModFcgid | Front::ModCgi | Front::ModProxyFcgi => {
                Headers { dropped: &["proxy"], keeps_underscores: false, joins: true, content: &[] }
            }
            Front::Nginx => Headers {
                dropped: &[],
                keeps_underscores: false,
                joins: false,
                content: &["content-length", "content-type"],
            },
            Front::Lighttpd => Headers {
                dropped: &["proxy"],
                keeps_underscores: true,
                joins: true,
                content: &["content-length"],
            },
            Front::Caddy => Headers {
                dropped: &["connection"],
                keeps_underscores: true,
                joins: true,
                content: &["content-length", "content-type"],
            },
            Front::Haproxy => Headers {
                dropped: &["connection", "proxy"],
                keeps_underscores: false,
                joins: false,
                content: &[],
            },
        }
    }

    fn recorded(self) -> [Variables; 3] {
        match self {
            Front::ModFcgid => [
                APACHE,
                REWRITTEN,
                &[
                    ("CONTENT_LENGTH", "{length:0}"),
                    ("SERVER_SOFTWARE", "Apache/2.4.71 (Debian) mod_fcgid/2.3.9"),
                ],
            ],
            Front::ModCgi => [
                APACHE,
                REWRITTEN,
                &[("CONTENT_LENGTH", "{length}"), ("SERVER_SOFTWARE", "Apache/2.4.71 (Debian)")],
            ],
            Front::ModProxyFcgi => [
                APACHE,
                &[
                    ("CONTENT_LENGTH", "{length}"),
                    ("SCRIPT_FILENAME", "proxy:fcgi://site{path below, encoded}"),
                    ("SCRIPT_NAME", "{path}"),
                    ("SERVER_SOFTWARE", "Apache/2.4.71 (Debian)"),
                    ("proxy-sendchunked", "1"),
                ],
                BASE,
            ],
            Front::Nginx => [
                &[
                    ("CONTENT_LENGTH", "{length:}"),
                    ("CONTENT_TYPE", "{type:}"),
                    ("QUERY_STRING", "{query:}"),
                    ("REMOTE_ADDR", "127.0.0.1"),
                    ("REQUEST_METHOD", "{method}"),
                    ("REQUEST_URI", "{uri}"),
                    ("SCRIPT_NAME", "{path}"),
                    ("SERVER_NAME", ""),
                    ("SERVER_PORT", "80"),
                    ("SERVER_PROTOCOL", "HTTP/1.1"),
                ],
                BASE,
                &[],
            ],
            Front::Lighttpd => [
                &[
                    ("CONTENT_LENGTH", "{length:0}"),
                    ("CONTENT_TYPE", "{type}"),
                    ("DOCUMENT_ROOT", ROOT),
                    ("GATEWAY_INTERFACE", "CGI/1.1"),
                    ("PATH_INFO", "{path below}"),
                    ("PATH_TRANSLATED", "/home/owner/public_html{path below}"),
                    ("QUERY_STRING", "{query:}"),
                    ("REDIRECT_STATUS", "200"),
                    ("REMOTE_ADDR", "127.0.0.1"),
                    ("REMOTE_PORT", "50000"),
                    ("REQUEST_METHOD", "{method}"),
                    ("REQUEST_SCHEME", "http"),
                    ("REQUEST_URI", "{uri}"),
                    ("SCRIPT_FILENAME", "/home/owner/public_html{base:/}"),
                    ("SCRIPT_NAME", "{base:}"),
                ],
                &[
                    ("SERVER_ADDR", "127.0.0.1"),
                    ("SERVER_NAME", "{host}"),
                    ("SERVER_PORT", "80"),
                    ("SERVER_PROTOCOL", "HTTP/1.1"),
                    ("SERVER_SOFTWARE", "lighttpd/1.4.69"),
                ],
                &[],
            ],
            Front::Caddy => [
                &[
                    ("AUTH_TYPE", ""),
                    ("CONTENT_LENGTH", "{length:0}"),
                    ("CONTENT_TYPE", "{type:}"),
                    ("DOCUMENT_ROOT", ROOT),
                    ("DOCUMENT_URI", ""),
                    ("GATEWAY_INTERFACE", "CGI/1.1"),
                    ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
                    ("HTTP_X_FORWARDED_HOST", "{host}"),
                    ("HTTP_X_FORWARDED_PROTO", "http"),
                    ("PATH_INFO", "{path}"),
                    ("PATH_TRANSLATED", "/home/owner/public_html{path}"),
                    ("QUERY_STRING", "{query:}"),
                ],
                &[
                    ("REMOTE_ADDR", "127.0.0.1"),
                    ("REMOTE_HOST", "127.0.0.1"),
                    ("REMOTE_IDENT", ""),
                    ("REMOTE_PORT", "50000"),
                    ("REMOTE_USER", ""),
                    ("REQUEST_METHOD", "{method}"),
                    ("REQUEST_SCHEME", "http"),
                    ("REQUEST_URI", "{uri}"),
                    ("SCRIPT_FILENAME", ROOT),
                    ("SCRIPT_NAME", ""),
                    ("SERVER_NAME", "{host}"),
                    ("SERVER_PORT", "80"),
                    ("SERVER_PROTOCOL", "HTTP/1.1"),
                    ("SERVER_SOFTWARE", "Caddy/2.6.2"),
                ],
                BASE,
            ],
            Front::Haproxy => [
                &[
                    ("AUTH_TYPE", "{authorization scheme}"),
                    ("CONTENT_LENGTH", "{length:0}"),
                    ("CONTENT_TYPE", "{type}"),
                    ("DOCUMENT_ROOT", ROOT),
                    ("GATEWAY_INTERFACE", "CGI/1.1"),
                    ("QUERY_STRING", "{query}"),
                    ("REMOTE_ADDR", "127.0.0.1"),
                    ("REMOTE_PORT", "50000"),
                    ("REQUEST_METHOD", "{method}"),
                    ("REQUEST_URI", "{uri}"),
                    ("SCRIPT_FILENAME", "/home/owner/public_html{path}"),
                    ("SCRIPT_NAME", "{path}"),
                    ("SERVER_NAME", "{host}"),
                    ("SERVER_PORT", "80"),
                    ("SERVER_PROTOCOL", "HTTP/1.1"),
                    ("SERVER_SOFTWARE", "HAProxy 2.6.12-1+deb12u4"),
                ],
                BASE,
                &[],
            ],
        }
    }

    /// Returns the variables by which this web server describes a request to a site below `base`, which is empty or like
    /// `/project`. `base_variable`: the one that the site's owner sets where nothing else says so.
    pub(crate) fn variables<B>(
        self,
        request: &Request<B>,
        base: &str,
        base_variable: &str,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let words = Words {
            request_headers: request.headers(),
            method: request.method().as_str(),
            uri: request.uri(),
            base,
        };
        let mut variables = Vec::new();
        for (name, template) in self.recorded().into_iter().flatten() {
            if let Some(value) = words.fill(template) {
                variables
                    .push((name.replace("{base variable}", base_variable).into_bytes(), value));
            }
        }
        self.headers().add(request.headers(), &mut variables);
        variables
    }
}

/// What an owner sets for these servers below a folder.
const BASE: Variables = &[("{base variable}", "{base}")];

impl Headers {
    fn add(&self, headers: &HeaderMap, variables: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for name in headers.keys() {
            let is_known = |names: &[&str]| names.contains(&name.as_str());
            let is_content = [CONTENT_LENGTH, CONTENT_TYPE].contains(name);
            let is_odd = name.as_str().contains('_') && !self.keeps_underscores;
            if is_odd || is_known(self.dropped) || is_content && !is_known(self.content) {
                continue;
            }
            let variable = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
            let values = if self.joins {
                vec![values.join(&b", "[..])]
            } else {
                values.into_iter().map(<[u8]>::to_vec).collect()
            };
            variables
                .extend(values.into_iter().map(|value| (variable.clone().into_bytes(), value)));
        }
    }
}

/// What the words in values stand for.
struct Words<'a> {
    request_headers: &'a HeaderMap,
    method: &'a str,
    uri: &'a http::Uri,
    base: &'a str,
}

impl Words<'_> {
    fn fill(&self, template: &str) -> Option<Vec<u8>> {
        let Some((before, rest)) = template.split_once('{') else {
            return Some(template.as_bytes().to_vec());
        };
        let (word, after) = rest.split_once('}')?;
        let (word, otherwise) = match word.split_once(':') {
            Some((word, otherwise)) => (word, Some(otherwise)),
            None => (word, None),
        };
        let value = self.value(word).or_else(|| otherwise.map(|text| text.as_bytes().to_vec()))?;
        Some([before.as_bytes(), &value, after.as_bytes()].concat())
    }

    fn value(&self, word: &str) -> Option<Vec<u8>> {
        let header = |name: HeaderName| Some(self.request_headers.get(name)?.as_bytes().to_vec());
        let path = self.uri.path();
        let decoded = |path: &str| percent_decode_str(path).collect::<Vec<_>>();
        match word {
            "method" => Some(self.method.as_bytes().to_vec()),
            "uri" => Some(format!("{}{}", self.base, self.uri).into_bytes()),
            "path" => Some(decoded(&format!("{}{path}", self.base))),
            "path below" => Some(decoded(path)),
            "path below, encoded" => Some(path.as_bytes().to_vec()),
            "query" => Some(self.uri.query()?.as_bytes().to_vec()),
            "base" => (!self.base.is_empty()).then(|| self.base.as_bytes().to_vec()),
            "host" => header(HOST).map(|value| until(b':', &value)),
            "length" => header(CONTENT_LENGTH),
            "type" => header(CONTENT_TYPE),
            "authorization" => header(AUTHORIZATION),
            "authorization scheme" => header(AUTHORIZATION).map(|value| until(b' ', &value)),
            _ => None,
        }
    }
}

fn until(end: u8, value: &[u8]) -> Vec<u8> {
    value.split(|byte| *byte == end).next().unwrap_or_default().to_vec()
}
