//! The three cookies of the login, all encrypted: nobody but this site can read or make one.
//!
//! - `toolshed`: the session;
//! - `toolshed-form`: ties the login form to the browser that asked for it;
//! - `toolshed-known`: the owner has logged in with this browser before (see `throttle.rs`).
//!
//! Over HTTPS, if they are valid for the whole host, their names start with `__Host-`: no neighboring
//! subdomain and no page over HTTP can set such a cookie (RFC 6265bis §4.1.3.2). Otherwise browsers refuse the
//! name. Both are read, since a browser may have older cookies.
//!
//! A browser may send several of one name (from a site above ours, or set by a neighbor on another port): the first
//! one that is ours counts.
//!
//! The path at which the site is mounted may come from a visitor's URL. So the one attribute built from it is a
//! [`CookiePath`], which cannot contain anything that would end the attribute and start another.

use std::fmt;

use cookie::{Cookie, CookieJar, SameSite, time};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::secrets::Secrets;

pub(crate) const SESSION: &str = "toolshed";
pub(crate) const FORM: &str = "toolshed-form";
pub(crate) const KNOWN: &str = "toolshed-known";

/// The prefix of a cookie's name that only this host can set, for all its paths.
const PROTECTED: &str = "__Host-";

/// How many cookies of one name are tried: decrypting takes some microseconds.
const MAX_TRIED: usize = 8;

/// Returns whether a request has a cookie of this name at all.
pub(crate) fn is_there(headers: &HeaderMap, name: &str) -> bool {
    // A single pass over the headers: most requests have no cookie.
    pairs(headers).any(|(found, _)| found.strip_prefix(PROTECTED).unwrap_or(found) == name)
}

/// Returns the decrypted values of the cookies of this name that are ours.
pub(crate) fn ours(headers: &HeaderMap, name: &'static str, secrets: &Secrets) -> Vec<String> {
    let decrypted = values(headers, name).take(MAX_TRIED).filter_map(|value| {
        let jar = CookieJar::new();
        jar.private(&secrets.cookies).decrypt(Cookie::new(name, value.to_owned()))
    });
    decrypted.map(|cookie| cookie.value().to_owned()).collect()
}

/// Returns the values of a cookie; first those that no neighbor can have set.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let protected = pairs(headers)
        .filter(move |(found, _)| found.strip_prefix(PROTECTED).is_some_and(|found| found == name));
    let plain = pairs(headers).filter(move |(found, _)| *found == name);
    protected.chain(plain).map(|(_, value)| value)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Returns whether a response already sets this cookie.
pub(crate) fn is_set(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(SET_COOKIE).iter().any(|line| {
        let line = line.as_bytes();
        let line = line.strip_prefix(PROTECTED.as_bytes()).unwrap_or(line);
        line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
    })
}

/// A path that a cookie's `Path` attribute may contain: a slash, then only unreserved characters (RFC 3986
/// §2.3), `%` and slashes.
///
/// Everything else is rejected, even where no browser would end the attribute: browsers disagree on quoted paths and on
/// commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePath(String);

impl CookiePath {
    /// Accepts a path; `None` if the attribute must not contain it.
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

/// Where a cookie is valid.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The path below which it is sent.
    pub(crate) path: CookiePath,
    /// Whether it is sent over HTTPS only.
    pub(crate) secure: bool,
}

impl Scope {
    /// Whether browsers accept a name that starts with [`PROTECTED`].
    fn is_protected(&self) -> bool {
        self.secure && self.path.as_str() == "/"
    }
}

/// Sets a cookie for this many seconds.
pub(crate) fn set(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
    seconds: i64,
    scope: &Scope,
    secrets: &Secrets,
) {
    let mut jar = CookieJar::new();
    // The name is authenticated with the value: the plain one in both cases.
    jar.private_mut(&secrets.cookies).add((name, value.to_owned()));
    let Some(mut cookie) = jar.get(name).cloned() else { return };
    if scope.is_protected() {
        cookie.set_name(format!("{PROTECTED}{name}"));
    }
    append(headers, cookie, seconds, scope);
}

/// Removes a cookie from a browser that has sent it, under either name.
pub(crate) fn remove(headers: &mut HeaderMap, sent: &HeaderMap, name: &'static str, scope: &Scope) {
    remove_plain(headers, sent, name, scope);
    let protected = format!("{PROTECTED}{name}");
    if pairs(sent).any(|(found, _)| found == protected) {
        // Browsers accept even its removal only like this.
        let path = CookiePath("/".to_owned());
        append(headers, Cookie::new(protected, ""), 0, &Scope { path, secure: true });
    }
}

/// Removes the cookie with the plain name when the protected one replaces it.
pub(crate) fn replace(
    headers: &mut HeaderMap,
    sent: &HeaderMap,
    name: &'static str,
    scope: &Scope,
) {
    if scope.is_protected() {
        remove_plain(headers, sent, name, scope);
    }
}

fn remove_plain(headers: &mut HeaderMap, sent: &HeaderMap, name: &'static str, scope: &Scope) {
    if pairs(sent).any(|(found, _)| found == name) {
        append(headers, Cookie::new(name, ""), 0, scope);
    }
}

fn append(headers: &mut HeaderMap, mut cookie: Cookie<'_>, seconds: i64, scope: &Scope) {
    cookie.set_path(scope.path.as_str().to_owned());
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_secure(scope.secure);
    cookie.set_max_age(time::Duration::seconds(seconds));
    // Base64 and a path of harmless characters; were it invalid after all, no cookie would be better than a broken
    // line.
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
