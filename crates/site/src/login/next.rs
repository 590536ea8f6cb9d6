//! Where to go after the login: only to a path of this site, or to one that this site has signed.

use subtle::ConstantTimeEq;

use super::secrets::Secrets;
use crate::http::base_path::BasePath;

/// The longest path to go back to, in bytes. A longer one leads to the front page.
const MAX_BYTES: usize = 2000;

/// Returns where to go: `next` if it is a path below BASE, otherwise the front page.
pub(crate) fn safe(base: &BasePath, next: &str) -> String {
    if is_path(next) && is_below(base, next) && !leads_to_login(base, next) {
        next.to_owned()
    } else {
        base.link("/")
    }
}

/// Like [`safe`], but also accepts a path outside of BASE that has our signature: that of a folder that the login
/// guards.
pub(crate) fn safe_or_signed(
    base: &BasePath,
    next: &str,
    signature: &str,
    secrets: &Secrets,
) -> String {
    let is_signed = || sign(secrets, next).as_bytes().ct_eq(signature.as_bytes()).into();
    if !signature.is_empty() && is_path(next) && is_signed() {
        next.to_owned()
    } else {
        safe(base, next)
    }
}

/// Signs a path outside of BASE.
pub(crate) fn sign(secrets: &Secrets, next: &str) -> String {
    secrets.code("next", next.as_bytes())
}

/// Returns whether it is a path of this host and nothing else, however a browser reads it: no host (`//`, `/\`), no
/// control characters, no `..`.
fn is_path(next: &str) -> bool {
    let path = next.split(['?', '#']).next().unwrap_or("");
    let goes_up = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    next.len() <= MAX_BYTES
        && next.starts_with('/')
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !path.contains("//")
        && !path.split('/').any(goes_up)
}

fn is_below(base: &BasePath, next: &str) -> bool {
    match next.strip_prefix(base.as_str()) {
        Some(rest) => rest.starts_with('/'),
        None => false,
    }
}

/// Returns whether it leads back to the login, in a loop.
fn leads_to_login(base: &BasePath, next: &str) -> bool {
    let rest = next.strip_prefix(base.as_str()).unwrap_or(next);
    let path = rest.split(['?', '#']).next().unwrap_or("");
    ["/login", "/logout", "/set-up"].contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_site_are_redirected_to() {
        for (base, next, expected) in [
            ("", "/tools/checksum?alg=md5", "/tools/checksum?alg=md5"),
            ("", "/tools/a%2Fb?next=//evil.example", "/tools/a%2Fb?next=//evil.example"),
            ("", "", "/"),
            ("", "tools", "/"),
            ("", "//evil.example/", "/"),
            ("", "/\\evil.example/", "/"),
            ("", "\\/evil.example/", "/"),
            ("", "/tools//evil.example", "/"),
            ("", "https://evil.example/", "/"),
            ("", "javascript:alert(1)", "/"),
            ("", "/a\r\nSet-Cookie: a=b", "/"),
            ("", "/a\tb", "/"),
            ("", "/\t/evil.example", "/"),
            ("", "/tools/ä", "/"),
            ("", "/login?next=/", "/"),
            ("", "/logout", "/"),
            ("/project", "/project/tools/x", "/project/tools/x"),
            ("/project", "/projects", "/project/"),
            ("/project", "/other", "/project/"),
            ("/project", "/project", "/project/"),
            ("/project", "/project/../other", "/project/"),
            ("/project", "/project/%2e%2E/other", "/project/"),
            ("/project", "/project/.%2e/other", "/project/"),
            ("/project", "/project/login", "/project/"),
        ] {
            assert_eq!(safe(&BasePath::new(base), next), expected, "{base} {next:?}");
        }
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        assert_eq!(safe(&BasePath::default(), &long), "/");
    }

    #[test]
    fn paths_outside_the_site_have_to_be_signed() {
        let folder = tempfile::tempdir().unwrap();
        let secrets =
            Secrets::load(&folder.path().join("secret.key"), storage::Trust::default()).unwrap();
        let base = BasePath::new("/project");
        let signature = sign(&secrets, "/members/a");
        for (next, signature, expected) in [
            ("/members/a", signature.as_str(), "/members/a"),
            ("/members/b", &signature, "/project/"),
            ("/members/a", "", "/project/"),
            ("/members/a", "AAAA", "/project/"),
            ("//evil.example", &sign(&secrets, "//evil.example"), "/project/"),
        ] {
            assert_eq!(safe_or_signed(&base, next, signature, &secrets), expected, "{next}");
        }
    }
}
