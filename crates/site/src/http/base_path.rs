//! Where the site is mounted.
//!
//! The program, which knows the web server, determines it; here it is validated and prefixed to links.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

/// The path the site is mounted at: empty for a site at the root of its host, else like `/project`.
///
/// The program sets it as a request extension; every link on every page starts with it. As an extractor it never
/// fails: without the extension the site is at the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(Option<Arc<str>>);

/// The characters that a base path may contain besides letters and digits: those of a path (RFC 3986 §3.3,
/// `pchar`) except `;`, `,` and `'`. A server that removes the mount from a request's path has to allow the
/// same.
const HARMLESS: &[u8] = b"/-._~%!$&()*+=:@";

impl BasePath {
    /// Makes a base path from `/project` or `/project/`; `/` and the empty string are the root.
    ///
    /// Links, redirects and the `Path` of cookies are built from it, and on some servers it comes from what the
    /// client sent. So only characters without a special meaning in any of these are allowed: anything that
    /// makes a link point to another host (`//host`, a backslash), ends an attribute, a header parameter or a
    /// list (quotes, `;`, `,`, spaces, control characters) or ends the path itself (`?`, `#`) makes it count
    /// as the root.
    pub fn new(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || HARMLESS.contains(&byte);
        let is_local = path.starts_with('/') && !path.ends_with('/') && !path.contains("//");
        if is_local && path.bytes().all(is_harmless) {
            BasePath(Some(path.into()))
        } else {
            BasePath(None)
        }
    }

    /// Returns the path without a trailing slash: `""` or like `"/project"`.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// Returns the link to a path of the site, which starts with a slash.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.as_str())
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for BasePath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for BasePath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_a_path_of_this_host_or_the_root() {
        for (given, expected) in [
            ("", ""),
            ("/", ""),
            ("/project", "/project"),
            ("/project/", "/project"),
            ("/~user/a/b", "/~user/a/b"),
            ("/a%20b", "/a%20b"),
            ("project", ""),
            ("//evil.example", ""),
            ("//", ""),
            ("/a//b", ""),
            ("/\\evil.example", ""),
            ("/a\"b", ""),
            ("/a b", ""),
            ("/a?b", ""),
            ("/a#b", ""),
            ("/a'b", ""),
            ("/a`b", ""),
            ("/a{b}", ""),
            ("/a,b", ""),
            ("/a;b", ""),
            ("/;Domain=host.test;/x.cgi", ""),
            ("/\u{fc}", ""),
            ("/%3BDomain=host.test", "/%3BDomain=host.test"),
            ("/a.b-c_d!$&()*+=:@", "/a.b-c_d!$&()*+=:@"),
            ("/a\r\nb", ""),
            ("https://evil.example", ""),
        ] {
            assert_eq!(BasePath::new(given).as_str(), expected, "{given:?}");
        }
    }
}
