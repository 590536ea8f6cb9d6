//! BASE: where the site is mounted, determined for each request from what rewriting left.
//!
//! The raw request path is authoritative (`%2F` and UTF-8 survive in it); the variables only say how much
//! of it belongs to the mount. Links, redirects and cookie paths are built from BASE, so clients must not
//! be able to choose it: many web servers put the client's own path into SCRIPT_NAME, and a name that
//! looks like a launcher's proves nothing. Only what the web server alone can know counts
//! ([`launcher_in_script_name`]), and a mount must not contain a character that could act as a separator
//! ([`is_harmless`]).

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode;

/// Where the site is mounted: empty at the root of the host, otherwise like `/project`, without a
/// trailing `/`. In the form it has in the raw URL, so a link is `BASE` + `/path`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BasePath(Bytes);

impl BasePath {
    /// The root of the host.
    pub(crate) const fn root() -> Self {
        BasePath(Bytes::new())
    }

    /// Reads what an owner writes: `/project` or `/project/`; `/` is the root. `None` if it does not start with one `/`, if
    /// it has a `.` or `..` as a segment, or contains a character that could separate or quote something in a header or a page.
    pub fn from_setting(text: &str) -> Option<BasePath> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_local = text.starts_with('/') && !path.ends_with('/') && !path.contains("//");
        let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
        let is_usable = is_local && !has_dots && path.bytes().all(|byte| is_harmless(&byte));
        is_usable.then(|| BasePath(Bytes::copy_from_slice(path.as_bytes())))
    }

    /// Returns a URI without this base in front; `None` if it does not have it.
    pub fn removed_from(&self, uri: &Uri) -> Option<Uri> {
        let rest = uri.path_and_query()?.as_str().strip_prefix(self.as_str())?;
        let rest = match rest.as_bytes().first() {
            Some(b'/') => rest.to_owned(),
            None | Some(b'?') => format!("/{rest}"),
            Some(_) => return None,
        };
        PathAndQuery::from_maybe_shared(Bytes::from(rest)).ok().map(Uri::from)
    }

    /// The path as text to prefix to every link.
    pub fn as_str(&self) -> &str {
        // It is cut from a URI and therefore ASCII; otherwise, links without a base are better than none.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Debug for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The variables that reveal a mount.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountVariables<'a> {
    /// Set by the owner (`SetEnv APP_BASE /project`, `fastcgi_param APP_BASE /project`) where the other
    /// variables cannot tell, as behind mod_proxy_fcgi. Takes precedence.
    pub(crate) base: Option<&'a [u8]>,
    pub(crate) script_name: &'a [u8],
    pub(crate) path_info: &'a [u8],
    pub(crate) document_root: &'a [u8],
    pub(crate) script_filename: &'a [u8],
    /// REDIRECT_URL is set: Apache has made an internal redirect, so SCRIPT_NAME is its own.
    pub(crate) is_redirected: bool,
    /// The web server has executed the script (CGI): SCRIPT_NAME names an existing program.
    pub(crate) is_executed: bool,
}

/// Splits a raw path (no query) into the mount and the rest, which starts with `/` or is empty.
/// Returns the number of bytes of the mount. The first rule that applies decides; the last is that
/// there is no mount. A mount with a character that is not [harmless](is_harmless) does not count.
///
/// | rule | web server |
/// | --- | --- |
/// | [`set_by_owner`] | mod_proxy_fcgi, nginx and lighttpd below a folder, where no variable shows it |
/// | [`launcher_in_script_name`] | Apache with `.htaccess`, with FcgidFixPathinfo or without |
/// | [`script_name_before_path_info`] | lighttpd and caddy at a prefix; CGI as specified |
pub(crate) fn mount_length(raw_path: &[u8], variables: MountVariables<'_>) -> usize {
    set_by_owner(raw_path, variables)
        .or_else(|| launcher_in_script_name(raw_path, variables))
        .or_else(|| script_name_before_path_info(raw_path, variables))
        .filter(|&length| raw_path[..length].iter().all(is_harmless))
        .unwrap_or(0)
}

/// Whether a mount may contain this byte: those of a path (RFC 3986 §3.3) except `;`, `,` and `'`, which
/// separate or quote in headers and pages.
fn is_harmless(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%/!$&()*+:=@".contains(byte)
}

/// Rule: the owner's setting takes precedence, even if the path does not start with it.
fn set_by_owner(raw_path: &[u8], variables: MountVariables<'_>) -> Option<usize> {
    let base = variables.base?;
    Some(prefix_length(raw_path, trim_slash(base)).unwrap_or(0))
}

/// Rule: a SCRIPT_NAME that ends with a launcher's name and that the web server determined itself, by
/// rewriting or by finding that file. The name belongs to the mount if the client requested it, but not
/// if rewriting hid it.
///
/// Web servers that look for no file (nginx, lighttpd, mod_proxy_fcgi, caddy, haproxy as usually
/// configured) pass the client's own path, decoded and without dot segments. So a name that the path does
/// not start with was rewritten if there was nothing to normalize in the path, or if Apache says so; and
/// a name that the path does start with counts if such a file exists.
fn launcher_in_script_name(raw_path: &[u8], variables: MountVariables<'_>) -> Option<usize> {
    let script_name = without_document_root(variables.script_name, variables.document_root);
    if !(script_name.ends_with(b".fcgi") || script_name.ends_with(b".cgi")) {
        return None;
    }
    let file_name_at = script_name.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let (folder, file_name) = script_name.split_at(file_name_at);
    if let Some(shown) = prefix_length(raw_path, script_name) {
        let is_there = || variables.is_executed || is_a_file(variables.script_filename, file_name);
        // With a PATH_INFO the next rule applies.
        return (variables.path_info.is_empty() && is_there()).then_some(shown);
    }
    let is_rewritten =
        variables.is_executed || variables.is_redirected || !may_be_cleaned_up(raw_path);
    is_rewritten.then(|| prefix_length(raw_path, folder).unwrap_or(0))
}

/// Whether a file of this name, which starts with a slash, exists on this machine.
fn is_a_file(script_filename: &[u8], file_name: &[u8]) -> bool {
    script_filename.ends_with(file_name) && Path::new(OsStr::from_bytes(script_filename)).is_file()
}

/// Whether a web server may normalize this path into another: it has an empty segment or a dot segment
/// (possibly encoded), or letters that a case-insensitive server would change.
fn may_be_cleaned_up(raw_path: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_decode(raw_path).collect();
    let is_odd = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    let mut segments = decoded.strip_prefix(b"/").unwrap_or(&decoded).split(|byte| *byte == b'/');
    // A trailing slash is not a segment.
    let last = segments.next_back().unwrap_or_default();
    matches!(last, b"." | b"..")
        || segments.any(is_odd)
        || decoded.contains(&b'\\')
        // nginx removes a fragment.
        || raw_path.contains(&b'#')
        || decoded.rsplit(|byte| *byte == b'.').next().is_some_and(|extension| {
            [&b"fcgi"[..], b"cgi"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        })
}

/// Rule: SCRIPT_NAME and PATH_INFO as RFC 3875 §4.1.5 and §4.1.13 define them. Without PATH_INFO (nginx,
/// lighttpd, mod_proxy_fcgi as usually configured), SCRIPT_NAME is the whole decoded path and not a
/// mount.
fn script_name_before_path_info(raw_path: &[u8], variables: MountVariables<'_>) -> Option<usize> {
    if variables.path_info.is_empty() {
        return None;
    }
    let script_name = without_document_root(variables.script_name, variables.document_root);
    prefix_length(raw_path, trim_slash(script_name))
}

/// Slices the mount out of the raw path.
pub(crate) fn base_path(raw_path: &Bytes, length: usize) -> BasePath {
    if length == 0 { BasePath::default() } else { BasePath(raw_path.slice(..length)) }
}

/// Rule: mod_fcgid's FcgidFixPathinfo, made for PHP, puts the document root in front of SCRIPT_NAME.
fn without_document_root<'a>(script_name: &'a [u8], document_root: &[u8]) -> &'a [u8] {
    let document_root = trim_slash(document_root);
    match script_name.strip_prefix(document_root) {
        Some(rest) if !document_root.is_empty() && rest.starts_with(b"/") => rest,
        _ => script_name,
    }
}

/// How many raw bytes decode to `prefix`, if the raw path starts with it and a segment ends there.
fn prefix_length(raw_path: &[u8], prefix: &[u8]) -> Option<usize> {
    if prefix.is_empty() {
        return Some(0);
    }
    let length = if raw_path.starts_with(prefix) {
        prefix.len()
    } else {
        let mut wanted = prefix.iter();
        let mut at = 0;
        while !wanted.as_slice().is_empty() {
            let unit = match raw_path.get(at)? {
                b'%' => at..(at + 3).min(raw_path.len()),
                _ => at..at + 1,
            };
            let decoded = percent_decode(&raw_path[unit.clone()]).next()?;
            if Some(&decoded) != wanted.next() {
                return None;
            }
            at = unit.end;
        }
        at
    };
    (raw_path.len() == length || raw_path[length] == b'/').then_some(length)
}

fn trim_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_may_set_a_path() {
        for (text, expected) in [
            ("/", Some("")),
            ("/project", Some("/project")),
            ("/project/", Some("/project")),
            ("", None),
            ("project", None),
            ("//host", None),
            ("/a//b", None),
            ("/a b", None),
            ("/a;b", None),
            ("/..", None),
            ("/a/./b", None),
            ("/.well-known", Some("/.well-known")),
        ] {
            let base = BasePath::from_setting(text);
            assert_eq!(base.as_ref().map(BasePath::as_str), expected, "{text}");
        }
    }

    #[test]
    fn the_base_is_removed_where_it_is_present() {
        for (base, uri, rest) in [
            ("/project", "/project", Some("/")),
            ("/project", "/project?a=b", Some("/?a=b")),
            ("/project", "/project/", Some("/")),
            ("/project", "/project/a%2Fb?c", Some("/a%2Fb?c")),
            ("/project", "/project/project/a", Some("/project/a")),
            ("/project", "/projects/a", None),
            ("/project", "/a", None),
            ("/project", "*", None),
            // Whether a proxy has removed it cannot be told from the path.
            ("/tools", "/tools/tools/inspect", Some("/tools/inspect")),
            ("/tools", "/tools/inspect", Some("/inspect")),
            ("/tool", "/tools/inspect", None),
        ] {
            let base = BasePath::from_setting(base).unwrap();
            let found = base.removed_from(&uri.parse().unwrap());
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), rest, "{uri}");
        }
    }

    #[test]
    fn finds_the_mount() {
        // name, raw path, SCRIPT_NAME, PATH_INFO, DOCUMENT_ROOT, the mount
        let cases = [
            ("top, rewritten", "/tools/x", "/dispatch.fcgi", "/tools/x", "/home/a", ""),
            ("top, shown", "/dispatch.fcgi/x", "/dispatch.fcgi", "/x", "/home/a", "/dispatch.fcgi"),
            (
                "folder, rewritten",
                "/project/x",
                "/project/dispatch.fcgi",
                "/x",
                "/home",
                "/project",
            ),
            ("folder alone", "/project/", "/project/dispatch.fcgi", "/", "/home", "/project"),
            ("FcgidFixPathinfo", "/p/x", "/home/a/p/dispatch.fcgi", "/x", "/home/a", "/p"),
            ("document root with slash", "/p/x", "/home/a/p/dispatch.fcgi", "/x", "/home/a/", "/p"),
            ("FcgidWrapper virtual", "/p/x", "/p/x", "", "/home/a", ""),
            ("nginx", "/tools/x", "/tools/x", "", "/usr/share/nginx/html", ""),
            ("lighttpd, decoded", "/a%2Fb%20c", "/a/b c", "", "/var/www", ""),
            ("haproxy, PATH_INFO encoded", "/p/a%2Fb", "/p", "/a%2Fb", "/var/www", "/p"),
            ("lighttpd at a prefix", "/p/x", "/p", "/x", "/var/www", "/p"),
            ("lighttpd at the root", "/x", "/", "/x", "/var/www", ""),
            ("encoded folder", "/my%20site/x", "/my site/dispatch.fcgi", "/x", "/h", "/my%20site"),
            ("encoded otherwise", "/%70/x", "/p/dispatch.fcgi", "/x", "/h", "/%70"),
            ("not a whole segment", "/projects/x", "/project/dispatch.fcgi", "/x", "/h", ""),
            ("alias elsewhere", "/x", "/cgi-bin/dispatch.fcgi", "/x", "/h", ""),
            ("bad escape", "/%", "/p/dispatch.fcgi", "/", "/h", ""),
            ("short escape", "/%7", "/p/dispatch.fcgi", "/", "/h", ""),
        ];
        for (name, raw, script_name, path_info, document_root, expected) in cases {
            let raw = Bytes::from(raw);
            let variables = MountVariables {
                base: None,
                script_name: script_name.as_bytes(),
                path_info: path_info.as_bytes(),
                document_root: document_root.as_bytes(),
                ..Default::default()
            };
            let base = base_path(&raw, mount_length(&raw, variables));
            assert_eq!(base.as_str(), expected, "{name}");
        }
    }

    #[test]
    fn a_client_cannot_choose_the_mount() {
        // name, raw path, SCRIPT_NAME, PATH_INFO
        let cases = [
            ("nginx", "/x.cgi", "/x.cgi", ""),
            ("in a folder", "/a/x.fcgi", "/a/x.fcgi", ""),
            ("the launcher's name", "/a/dispatch.fcgi", "/a/dispatch.fcgi", ""),
            ("a cookie's attribute", "/;Domain=host.test;/x.cgi", "/;Domain=host.test;/x.cgi", ""),
            ("encoded", "/%3BDomain=h%3B/x.cgi", "/;Domain=h;/x.cgi", ""),
            ("normalized", "/a;b/../a;b/x.cgi", "/a;b/x.cgi", ""),
            ("normalized, harmless", "/a/../a/x.cgi", "/a/x.cgi", ""),
            ("normalized, encoded", "/a/%2e%2E/a/x.cgi", "/a/x.cgi", ""),
            ("normalized, a single dot", "/a/./x.cgi", "/a/x.cgi", ""),
            ("merged slashes", "/a//x.cgi", "/a/x.cgi", ""),
            ("merged leading slashes", "//a/x.cgi", "/a/x.cgi", ""),
            ("ends with dots", "/a/x.cgi/y/..", "/a/x.cgi/", ""),
            ("trailing dot", "/a/x.cgi/.", "/a/x.cgi/", ""),
            ("case-insensitive", "/a/x.CGI", "/a/x.cgi", ""),
            ("nginx removes a fragment", "/a/x.cgi#b", "/a/x.cgi", ""),
            ("an empty fragment", "/a/x.cgi#", "/a/x.cgi", ""),
            ("split, with an attribute", "/;Domain=h;/x.fcgi/y", "/;Domain=h;/x.fcgi", "/y"),
            ("split, with a list", "/a,b/x.fcgi/y", "/a,b/x.fcgi", "/y"),
        ];
        for (name, raw, script_name, path_info) in cases {
            let raw = Bytes::from(raw);
            let file = format!("/var/www{script_name}");
            let variables = MountVariables {
                script_name: script_name.as_bytes(),
                path_info: path_info.as_bytes(),
                document_root: b"/var/www",
                script_filename: file.as_bytes(),
                ..Default::default()
            };
            assert_eq!(base_path(&raw, mount_length(&raw, variables)).as_str(), "", "{name}");
        }
    }

    #[test]
    fn trusts_what_only_the_web_server_can_know() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dispatch.fcgi");
        std::fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        let shown = MountVariables { script_name: b"/p/dispatch.fcgi", ..Default::default() };
        let there = MountVariables { script_filename: file.as_bytes(), ..shown };
        let a_folder = folder.path().to_str().unwrap().as_bytes();
        let cases = [
            ("requested, no such file", "/p/dispatch.fcgi", shown, ""),
            ("requested, file exists", "/p/dispatch.fcgi", there, "/p/dispatch.fcgi"),
            (
                "a file of another name",
                "/p/other.fcgi",
                MountVariables { script_name: b"/p/other.fcgi", ..there },
                "",
            ),
            (
                "a folder",
                "/p/dispatch.fcgi",
                MountVariables { script_filename: a_folder, ..shown },
                "",
            ),
            (
                "executed",
                "/p/dispatch.fcgi",
                MountVariables { is_executed: true, ..shown },
                "/p/dispatch.fcgi",
            ),
            ("rewritten", "/p/a/b", shown, "/p"),
            ("rewritten, with dots, by an unknown server", "/p/a/../b", shown, ""),
            (
                "rewritten, with dots, by Apache",
                "/p/a/../b",
                MountVariables { is_redirected: true, ..shown },
                "/p",
            ),
            (
                "rewritten, with dots, executed",
                "/p//b",
                MountVariables { is_executed: true, ..shown },
                "/p",
            ),
        ];
        for (name, raw, variables, expected) in cases {
            let raw = Bytes::from(raw);
            let base = base_path(&raw, mount_length(&raw, variables));
            assert_eq!(base.as_str(), expected, "{name}");
        }
    }

    #[test]
    fn a_mount_contains_no_separators() {
        for (owner, expected) in [("/a;b", ""), ("/a,b", ""), ("/a'b", ""), ("/a+b@c", "/a+b@c")] {
            let raw = Bytes::from(format!("{owner}/x"));
            let base = Some(owner.as_bytes());
            let variables = MountVariables { base, ..Default::default() };
            assert_eq!(base_path(&raw, mount_length(&raw, variables)).as_str(), expected);
        }
    }

    #[test]
    fn the_owners_setting_takes_precedence() {
        let raw = Bytes::from("/project/x");
        for (set, expected) in [("/project", "/project"), ("/project/", "/project"), ("/", "")] {
            let variables = MountVariables {
                base: Some(set.as_bytes()),
                script_name: b"/project/x",
                ..Default::default()
            };
            assert_eq!(base_path(&raw, mount_length(&raw, variables)).as_str(), expected, "{set}");
        }
    }
}
