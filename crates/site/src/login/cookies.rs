//! The three cookies of the login, all encrypted: nobody but this site can read or make one.
//!
//! - `toolshed`: the session;
//! - `toolshed-form`: ties the login form to the browser that asked for it;
//! - `toolshed-known`: the owner has logged in with this browser before (see `throttle.rs`).
//!
//! A browser may send several of one name (of a site above ours, or set by a neighbour on another port): the
//! first that is ours counts.
//!
//! Where the site is mounted may be what a visitor's address says. So the one attribute that is made of it is
//! a [`CookiePath`], which cannot hold what would end the attribute and begin another.

use std::fmt;

use cookie::{Cookie, CookieJar, SameSite, time};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::secrets::Secrets;

pub(crate) const SESSION: &str = "toolshed";
pub(crate) const FORM: &str = "toolshed-form";
pub(crate) const KNOWN: &str = "toolshed-known";

/// How many cookies of one name are tried: decrypting costs some microseconds.
const MOST_TRIED: usize = 8;

/// Whether a request brings a cookie of this name at all.
pub(crate) fn is_there(headers: &HeaderMap, name: &str) -> bool {
    values(headers, name).next().is_some()
}

/// Returns the content of the cookies of this name that are ours.
pub(crate) fn ours(headers: &HeaderMap, name: &'static str, secrets: &Secrets) -> Vec<String> {
    let decrypted = values(headers, name).take(MOST_TRIED).filter_map(|value| {
        let jar = CookieJar::new();
        jar.private(&secrets.cookies).decrypt(Cookie::new(name, value.to_owned()))
    });
    decrypted.map(|cookie| cookie.value().to_owned()).collect()
}

fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// A path that may stand in a cookie's attribute `Path`: a slash, and then unreserved characters (RFC 3986
/// §2.3), `%` and slashes alone.
///
/// Everything else is refused, also what no browser takes for the end of an attribute: a path in quotes or
/// with a comma is read differently by different browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePath(String);

impl CookiePath {
    /// Takes a path; `None` when it is none that may stand in the attribute.
    pub fn new(path: &str) -> Option<CookiePath> {
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte);
        let is_path = path.starts_with('/') && !path.contains("//");
        (is_path && path.bytes().all(may_stand)).then(|| CookiePath(path.to_owned()))
    }

    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CookiePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a cookie holds and how.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The path below which it is sent.
    pub(crate) path: CookiePath,
    /// Whether it is sent over HTTPS alone.
    pub(crate) secure: bool,
}

/// Sets a cookie for so many seconds; 0 removes it.
pub(crate) fn set(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
    seconds: i64,
    scope: &Scope,
    secrets: &Secrets,
) {
    let mut jar = CookieJar::new();
    jar.private_mut(&secrets.cookies).add((name, value.to_owned()));
    let Some(mut cookie) = jar.get(name).cloned() else { return };
    if seconds <= 0 {
        cookie.set_value("");
    }
    cookie.set_path(scope.path.as_str().to_owned());
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_secure(scope.secure);
    cookie.set_max_age(time::Duration::seconds(seconds.max(0)));
    // Base64 and a path of few characters; were it not, there is no cookie rather than a broken line.
    if let Ok(line) = HeaderValue::try_from(cookie.to_string()) {
        headers.append(SET_COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookies_path_holds_nothing_that_could_end_the_attribute() {
        for path in ["/", "/project", "/~user/a.b-c_d", "/a%20b", "/a/b/"] {
            assert_eq!(CookiePath::new(path).as_ref().map(CookiePath::as_str), Some(path));
        }
        for path in ["", "project", "//", "/a//b", "/ä"] {
            assert_eq!(CookiePath::new(path), None, "{path}");
        }
        for byte in (0..=127_u8).filter(|byte| !byte.is_ascii_alphanumeric()) {
            let path = format!("/a{}b", char::from(byte));
            let is_taken = CookiePath::new(&path).is_some();
            assert_eq!(is_taken, b"-._~%/".contains(&byte), "{path:?}");
        }
    }
}
