//! Where to go after the login: only to a path of this site, or to one that we ourselves have signed.

use subtle::ConstantTimeEq;

use super::secrets::Secrets;
use crate::http::base_path::BasePath;

/// The longest address that is gone back to; bytes. Longer ones lead to the front page.
const LONGEST: usize = 2000;

/// Returns the address to go on to: `next` when it is a path below BASE, else the front page.
pub(crate) fn safe(base: &BasePath, next: &str) -> String {
    if is_path(next) && is_below(base, next) && !is_of_login(base, next) {
        next.to_owned()
    } else {
        base.link("/")
    }
}

/// As [`safe`]; a path beside BASE is taken, too, when it bears our signature: that of a folder which the
/// login guards.
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

/// Signs a path beside BASE.
pub(crate) fn sign(secrets: &Secrets, next: &str) -> String {
    secrets.code("next", next.as_bytes())
}

/// Whether it is a path of this host and nothing else, however a browser reads it: no host (`//`, `/\`),
/// nothing that ends a header line, no way up.
fn is_path(next: &str) -> bool {
    let path = next.split(['?', '#']).next().unwrap_or("");
    let is_way_up = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    next.len() <= LONGEST
        && next.starts_with('/')
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !path.contains("//")
        && !path.split('/').any(is_way_up)
}

fn is_below(base: &BasePath, next: &str) -> bool {
    match next.strip_prefix(base.as_str()) {
        Some(rest) => rest.starts_with('/'),
        None => false,
    }
}

/// Going back to these would lead in a circle.
fn is_of_login(base: &BasePath, next: &str) -> bool {
    let rest = next.strip_prefix(base.as_str()).unwrap_or(next);
    let path = rest.split(['?', '#']).next().unwrap_or("");
    ["/login", "/logout", "/set-up"].contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_site_are_gone_to() {
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
        let long = format!("/{}", "a".repeat(LONGEST));
        assert_eq!(safe(&BasePath::default(), &long), "/");
    }

    #[test]
    fn what_lies_beside_the_site_has_to_be_signed() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::load(&folder.path().join("secret.key")).unwrap();
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
