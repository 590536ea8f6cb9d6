//! The static files: everything in the top-level folder `static/`, compiled in.
//!
//! Installed behind a web server, that server sends them from disk and this file is only asked for
//! their versions; with `serve` they are sent from here. A path is looked up in a closed table, so no
//! spelling of a path can reach anything else.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::error_page::ErrorPage;

/// Makes the table; each file is named once, and a test finds those that are not.
macro_rules! files_of_static {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../static/", $path)) as &[u8])),+]
    };
}

/// Every file in `static/`, in the order of the alphabet.
const FILES: &[(&str, &[u8])] = files_of_static![
    "checksum.js",
    "favicon.svg",
    "icons/arrow-left.svg",
    "icons/checksum.svg",
    "icons/tool.svg",
    "site.css",
    "tokens.css",
];

/// One static file.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its path in `static/`, with forward slashes: `icons/checksum.svg`.
    pub path: &'static str,
    /// What is in it.
    pub content: &'static [u8],
    /// A hash of the content, so that a new content gets a new URL and may be kept for ever.
    pub version: u64,
}

impl Asset {
    /// Returns the file's URL below BASE, with its version: `/static/site.css?v=…`.
    ///
    /// The version is in the query, for a web server that sends `static/` from disk to find the file.
    pub fn url(&self) -> String {
        format!("/static/{}?v={:016x}", self.path, self.version)
    }

    /// Returns the media type, by the ending of the path.
    pub fn content_type(&self) -> &'static str {
        let ending = self.path.rsplit_once('.').map_or("", |(_, ending)| ending);
        CONTENT_TYPES
            .iter()
            .find(|(known, _)| *known == ending)
            .map_or("application/octet-stream", |(_, media_type)| media_type)
    }
}

/// Returns every static file, in the order of the alphabet.
pub fn all() -> &'static [Asset] {
    &ASSETS.0
}

/// Returns the static file with this path (`icons/checksum.svg`).
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.1.get(path).map(|index| &ASSETS.0[*index])
}

/// Answers `GET /static/PATH`.
///
/// With the version in its URL a file may be kept for ever; without, or with the version of another
/// release, the browser has to ask again, and hears 304 while nothing has changed.
pub(crate) fn serve(path: &str, query: Option<&str>, headers: &HeaderMap) -> Response {
    let Some(asset) = find(path) else {
        return ErrorPage::new(StatusCode::NOT_FOUND).into_response();
    };
    let version = format!("{:016x}", asset.version);
    let etag = format!("\"{version}\"");
    let is_versioned = query.and_then(|query| query.strip_prefix("v=")) == Some(&version);
    let caching =
        if is_versioned { "public, max-age=31536000, immutable" } else { "public, no-cache" };

    let mut response = if is_known_to_client(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, asset.content_type())], asset.content).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(ETAG, etag);
    }
    response
}

/// Reads `If-None-Match` (RFC 9110 §13.1.2): a list of tags, compared weakly, or `*`.
fn is_known_to_client(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The table and its index, made at the first use.
static ASSETS: LazyLock<(Vec<Asset>, HashMap<&str, usize>)> = LazyLock::new(|| {
    let assets: Vec<Asset> = FILES
        .iter()
        .map(|&(path, content)| Asset { path, content, version: fnv1a(content) })
        .collect();
    let index = assets.iter().enumerate().map(|(index, asset)| (asset.path, index)).collect();
    (assets, index)
});

/// FNV-1a, 64 bits: enough to tell two releases of a file apart, and nobody gains by a collision.
fn fnv1a(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Media types by the ending of a file's name. Text says its encoding.
const CONTENT_TYPES: &[(&str, &str)] = &[
    ("css", "text/css; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::testing::{get, request, send};

    fn files_below(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                files_below(&entry.path(), &format!("{path}/"), found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_file_in_static_is_forgotten_and_the_table_is_in_order() {
        let mut on_disk = Vec::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../static");
        files_below(&folder, "", &mut on_disk);
        on_disk.sort();
        let in_table: Vec<_> = FILES.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(in_table, on_disk, "FILES in assets.rs (left) and static/ (right) differ");
    }

    #[test]
    fn every_file_has_a_media_type() {
        for asset in all() {
            assert_ne!(asset.content_type(), "application/octet-stream", "{}", asset.path);
        }
    }

    #[test]
    fn versioned_urls_are_kept_and_others_are_asked_for_again() {
        let site = crate::router(&[]);
        let url = find("site.css").unwrap().url();
        let answer = get(&site, &url);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.body, find("site.css").unwrap().content);
        for url in ["/static/site.css", "/static/site.css?v=0000000000000000"] {
            assert_eq!(get(&site, url).header("cache-control"), Some("public, no-cache"), "{url}");
        }
    }

    #[test]
    fn a_file_the_client_has_is_not_sent_again() {
        let site = crate::router(&[]);
        let etag = get(&site, "/static/site.css").header("etag").unwrap().to_owned();
        for (tags, status) in [
            (etag.clone(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"other\", {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let request = request("GET", "/static/site.css").header("if-none-match", &tags);
            let answer = send(&site, request.body(Default::default()).unwrap());
            assert_eq!(answer.status, status, "{tags}");
            assert_eq!(answer.header("etag"), Some(&*etag), "{tags}");
            assert_eq!(answer.body.is_empty(), status == 304, "{tags}");
        }
    }

    #[test]
    fn no_spelling_of_a_path_leaves_the_table() {
        let site = crate::router(&[]);
        for path in [
            "/static/",
            "/static",
            "/static/../Cargo.toml",
            "/static/%2e%2e/Cargo.toml",
            "/static/..%2fCargo.toml",
            "/static//etc/passwd",
            "/static/icons/../site.css",
            "/static/site.css/",
            "/static/site.css%00",
            "/static/SITE.CSS",
        ] {
            assert_eq!(get(&site, path).status, 404, "{path}");
        }
    }
}
