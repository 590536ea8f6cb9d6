//! The static files: everything in the top-level folder `static/`, compiled in by `build.rs`.
//!
//! They are served from here, unless a web server serves `static/` from disk: then only their versions are used. A
//! path is looked up in a fixed table, so no spelling of a path can reach anything else.
//!
//! There is no `Last-Modified`: a compiled-in file has no date that means the same in two builds. The ETag, a hash of
//! the content, is more precise.

use std::ops::Range;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::accept_encoding::Coding;
use super::error::HttpError;
use super::file_request::{Asked, asked, content_range, range_of};

/// Every file in `static/`, in alphabetical order, with its compressed forms.
const FILES: &[Asset] = include!(concat!(env!("OUT_DIR"), "/static_files.rs"));

/// One static file.
#[derive(Clone, Copy)]
pub struct Asset {
    /// Its path in `static/`, with forward slashes: `icons/checksum.svg`.
    pub path: &'static str,
    /// Its content.
    pub content: &'static [u8],
    /// A hash of the content, so that new content gets a new URL and may be cached forever.
    pub version: u64,
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

impl Asset {
    /// Returns the file's URL below BASE, with its version: `/static/site.css?v=…`.
    ///
    /// The version is in the query, so that a web server that serves `static/` from disk finds the file.
    pub fn url(&self) -> String {
        format!("/static/{}?v={:016x}", self.path, self.version)
    }

    /// Returns the media type, by the file extension.
    pub fn content_type(&self) -> &'static str {
        let ending = self.path.rsplit_once('.').map_or("", |(_, ending)| ending);
        CONTENT_TYPES
            .iter()
            .find(|(known, _)| *known == ending)
            .map_or("application/octet-stream", |(_, media_type)| media_type)
    }
}

/// Returns every static file, in alphabetical order.
pub fn all() -> &'static [Asset] {
    FILES
}

/// Returns the static file with this path (`icons/checksum.svg`).
pub fn find(path: &str) -> Option<&'static Asset> {
    let index = FILES.binary_search_by(|asset| asset.path.cmp(path)).ok()?;
    FILES.get(index)
}

/// Serves `GET /static/PATH`, and HEAD like GET.
///
/// With its version in the URL a file may be cached forever; without, or with the version of another release, the
/// browser has to revalidate it, and gets 304 as long as nothing has changed. The preconditions are evaluated in the
/// order of RFC 9110 §13.2.2.
pub(crate) fn serve(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response {
    let Some(asset) = find(path) else {
        return HttpError::new(StatusCode::NOT_FOUND).into_response();
    };
    // Ranges refer to the uncompressed file, so a part of it is never compressed.
    let form = if range_of(method, headers).is_some() {
        Form::plain(asset)
    } else {
        Form::wanted(asset, headers)
    };

    let mut response = match asked(method, headers, Some(&form.etag), length_of(asset)) {
        Asked::Failed => HttpError::new(StatusCode::PRECONDITION_FAILED).into_response(),
        Asked::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Asked::Whole => form.whole(),
        Asked::Outside => not_satisfiable(asset),
        Asked::Parts(parts) => match &*parts {
            [part] => one_part(asset, part),
            parts => several_parts(asset, parts),
        },
    };

    let version = format!("{:016x}", asset.version);
    let is_versioned = query.and_then(|query| query.strip_prefix("v=")) == Some(&version);
    let caching =
        if is_versioned { "public, max-age=31536000, immutable" } else { "public, no-cache" };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::try_from(form.etag) {
        headers.insert(ETAG, etag);
    }
    if asset.gzip.is_some() || asset.brotli.is_some() {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

/// A file in one of its codings. Each has different bytes and so an ETag of its own.
struct Form {
    asset: &'static Asset,
    coding: Coding,
    content: &'static [u8],
    etag: String,
}

impl Form {
    /// The file, not encoded.
    fn plain(asset: &'static Asset) -> Self {
        let etag = format!("\"{:016x}\"", asset.version);
        Form { asset, coding: Coding::Identity, content: asset.content, etag }
    }

    /// The coding the client prefers, if the file has it.
    fn wanted(asset: &'static Asset, headers: &HeaderMap) -> Self {
        let coding = Coding::wanted(headers);
        let (content, ending) = match coding {
            Coding::Brotli => (asset.brotli, "br"),
            Coding::Gzip => (asset.gzip, "gz"),
            Coding::Identity => (None, ""),
        };
        match content {
            Some(content) => {
                let etag = format!("\"{:016x}-{ending}\"", asset.version);
                Form { asset, coding, content, etag }
            }
            None => Form::plain(asset),
        }
    }

    fn whole(&self) -> Response {
        let content_type = self.asset.content_type();
        let mut response = ([(CONTENT_TYPE, content_type)], self.content).into_response();
        match self.coding.header() {
            Some(coding) => response.headers_mut().insert(CONTENT_ENCODING, coding),
            None => response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        };
        response
    }
}

/// Returns 206 with one part of the file.
fn one_part(asset: &'static Asset, part: &Range<u64>) -> Response {
    let headers = [
        (CONTENT_TYPE, asset.content_type().to_owned()),
        (CONTENT_RANGE, content_range(part, length_of(asset))),
    ];
    let content = bytes_of(asset, part);
    (StatusCode::PARTIAL_CONTENT, headers, content).into_response()
}

/// Returns 206 with several parts, each with headers of its own (RFC 9110 §14.6).
fn several_parts(asset: &'static Asset, parts: &[Range<u64>]) -> Response {
    // No file contains it: a file that did would have another hash.
    let boundary = format!("part-of-{:016x}", asset.version);
    let mut body = Vec::new();
    for part in parts {
        let head = format!(
            "--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
            asset.content_type(),
            content_range(part, length_of(asset))
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes_of(asset, part));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    let headers = [(CONTENT_TYPE, content_type)];
    (StatusCode::PARTIAL_CONTENT, headers, Body::from(Bytes::from(body))).into_response()
}

/// Returns 416 with the length of the file, for ranges that are all outside of it.
fn not_satisfiable(asset: &Asset) -> Response {
    let length = format!("bytes */{}", length_of(asset));
    let page = HttpError::new(StatusCode::RANGE_NOT_SATISFIABLE);
    ([(CONTENT_RANGE, length)], page).into_response()
}

fn length_of(asset: &Asset) -> u64 {
    asset.content.len() as u64
}

/// Returns a part of the file.
fn bytes_of(asset: &Asset, part: &Range<u64>) -> &'static [u8] {
    // The part is inside the file, whose length is a usize.
    let part = part.start as usize..part.end as usize;
    asset.content.get(part).unwrap_or_default()
}

/// Media types by file extension. Text states its charset.
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
    use crate::http::compress::decompressed;
    use crate::testing::{TestResponse, get, request, send};

    /// Requests `static/PATH` with these headers.
    fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> TestResponse {
        let request = request(method, &format!("/static/{path}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        send(&crate::router(&[]), request.body(Body::empty()).unwrap())
    }

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
    fn every_static_file_is_in_the_table_in_order() {
        let mut on_disk = Vec::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../static");
        files_below(&folder, "", &mut on_disk);
        on_disk.sort();
        let in_table: Vec<_> = FILES.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(in_table, on_disk, "what is compiled in (left) and static/ (right) differ");
        for asset in all() {
            assert_eq!(find(asset.path).map(|found| found.path), Some(asset.path));
        }
    }

    #[test]
    fn every_file_has_a_media_type() {
        for asset in all() {
            assert_ne!(asset.content_type(), "application/octet-stream", "{}", asset.path);
        }
    }

    #[test]
    fn versioned_urls_are_cached_and_others_revalidated() {
        let site = crate::router(&[]);
        let url = find("site.css").unwrap().url();
        let response = get(&site, &url);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(response.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.body, find("site.css").unwrap().content);
        for url in ["/static/site.css", "/static/site.css?v=0000000000000000"] {
            assert_eq!(get(&site, url).header("cache-control"), Some("public, no-cache"), "{url}");
        }
    }

    #[test]
    fn compressed_forms_are_smaller_and_decode_to_the_same() {
        assert!(all().iter().any(|asset| asset.brotli.is_some()));
        for asset in all() {
            for (coding, form) in [("gzip", asset.gzip), ("br", asset.brotli)] {
                let Some(form) = form else { continue };
                assert!(form.len() < asset.content.len(), "{} {coding}", asset.path);
                assert_eq!(decompressed(form, coding), asset.content, "{} {coding}", asset.path);
                let response = ask("GET", asset.path, &[("accept-encoding", coding)]);
                assert_eq!(response.body, form, "{} {coding}", asset.path);
                assert_eq!(response.header("content-encoding"), Some(coding), "{}", asset.path);
                assert_eq!(response.header("vary"), Some("accept-encoding"), "{}", asset.path);
                assert_eq!(response.header("content-type"), Some(asset.content_type()));
            }
        }
        let small = ask("GET", "favicon.svg", &[("accept-encoding", "br")]);
        assert_eq!(small.header("content-encoding"), None);
        assert_eq!(small.header("vary"), None);
    }

    #[test]
    fn each_form_has_its_own_etag_and_head_has_them_too() {
        let mut etags = Vec::new();
        for coding in ["br", "gzip", "identity"] {
            let accept = ("accept-encoding", coding);
            let response = ask("GET", "site.css", &[accept]);
            let etag = response.header("etag").unwrap().to_owned();
            let head = ask("HEAD", "site.css", &[accept]);
            assert_eq!(head.header("etag"), Some(&*etag));
            assert_eq!(head.header("content-encoding"), response.header("content-encoding"));
            let length = response.body.len().to_string();
            assert_eq!(head.header("content-length"), Some(&*length), "{coding}");
            let again = ask("GET", "site.css", &[accept, ("if-none-match", &etag)]);
            assert_eq!(again.status, 304);
            assert_eq!(again.header("vary"), Some("accept-encoding"));
            assert_eq!(again.header("content-encoding"), None);
            etags.push(etag);
        }
        etags.dedup();
        assert_eq!(etags.len(), 3, "{etags:?}");
    }

    #[test]
    fn a_file_the_client_has_is_not_sent_again() {
        let etag = ask("GET", "site.css", &[]).header("etag").unwrap().to_owned();
        let weak = format!("W/{etag}");
        let several = format!("\"other\", {etag}");
        let date = "Sat, 21 Nov 2026 09:00:00 GMT";
        for (name, value, status) in [
            ("if-none-match", &*etag, 304),
            ("if-none-match", &*weak, 304),
            ("if-none-match", &*several, 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"other\"", 200),
            ("if-none-match", "", 200),
            // Without a date a file cannot satisfy these (RFC 9110 §13.1.3, §13.1.4).
            ("if-modified-since", date, 200),
            ("if-unmodified-since", date, 200),
            ("if-match", &*etag, 200),
            ("if-match", &*several, 200),
            ("if-match", "*", 200),
            ("if-match", &*weak, 412),
            ("if-match", "\"other\"", 412),
        ] {
            let response = ask("GET", "site.css", &[(name, value)]);
            assert_eq!(response.status, status, "{name}: {value}");
            assert_eq!(response.header("etag"), Some(&*etag), "{name}: {value}");
            assert_eq!(response.body.is_empty(), status == 304, "{name}: {value}");
        }
    }

    #[test]
    fn one_part_of_a_file() {
        let css = find("site.css").unwrap().content;
        let length = css.len();
        for (range, first, last) in [
            ("bytes=0-9", 0, 9),
            ("bytes=10-", 10, length - 1),
            ("bytes=-10", length - 10, length - 1),
            ("bytes=0-99999999", 0, length - 1),
        ] {
            // Ranges are never taken from a compressed form.
            let headers = [("range", range), ("accept-encoding", "br, gzip")];
            let response = ask("GET", "site.css", &headers);
            assert_eq!(response.status, 206, "{range}");
            assert_eq!(response.body, css[first..=last], "{range}");
            let place = format!("bytes {first}-{last}/{length}");
            assert_eq!(response.header("content-range"), Some(&*place), "{range}");
            assert_eq!(response.header("content-type"), Some("text/css; charset=utf-8"));
            assert_eq!(response.header("content-encoding"), None, "{range}");
        }
    }

    #[test]
    fn several_parts_come_in_one_response() {
        let css = find("site.css").unwrap();
        let response = ask("GET", "site.css", &[("range", "bytes=0-3,-4")]);
        assert_eq!(response.status, 206);
        assert_eq!(response.header("content-range"), None);
        let content_type = response.header("content-type").unwrap();
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let length = css.content.len();
        let text = str::from_utf8(css.content).unwrap();
        let part = |first: usize, last: usize| {
            format!(
                "--{boundary}\r\nContent-Type: text/css; charset=utf-8\r\n\
                 Content-Range: bytes {first}-{last}/{length}\r\n\r\n{}\r\n",
                &text[first..=last]
            )
        };
        let expected = part(0, 3) + &part(length - 4, length - 1) + &format!("--{boundary}--\r\n");
        assert_eq!(response.text(), expected);
        for asset in all() {
            let boundary = format!("part-of-{:016x}", asset.version);
            let has_it =
                asset.content.windows(boundary.len()).any(|part| part == boundary.as_bytes());
            assert!(!has_it, "{}", asset.path);
        }
    }

    #[test]
    fn a_range_outside_the_file_is_416_and_an_invalid_header_is_ignored() {
        let length = find("site.css").unwrap().content.len();
        let response = ask("GET", "site.css", &[("range", &format!("bytes={length}-"))]);
        assert_eq!(response.status, 416);
        assert_eq!(response.header("content-range"), Some(&*format!("bytes */{length}")));
        for range in ["bytes=5-4", "lines=1-2", "nonsense", "bytes=0-,0-"] {
            let response = ask("GET", "site.css", &[("range", range)]);
            assert_eq!((response.status.as_u16(), response.body.len()), (200, length), "{range}");
        }
        // HEAD has no parts (RFC 9110 §14.2).
        assert_eq!(ask("HEAD", "site.css", &[("range", "bytes=0-9")]).status, 200);
    }

    #[test]
    fn if_range_sends_the_rest_only_of_the_same_content() {
        let whole = ask("GET", "site.css", &[("accept-encoding", "br")]);
        let (plain, brotli) = (ask("GET", "site.css", &[]), whole.header("etag").unwrap());
        let plain = plain.header("etag").unwrap();
        for (tag, status) in [
            (plain, 206),
            (brotli, 200),
            (&*format!("W/{plain}"), 200),
            ("\"other\"", 200),
            ("Sat, 21 Nov 2026 09:00:00 GMT", 200),
        ] {
            let response = ask("GET", "site.css", &[("range", "bytes=5-"), ("if-range", tag)]);
            assert_eq!(response.status, status, "{tag}");
        }
        let headers = [("range", "bytes=5-"), ("if-none-match", plain)];
        assert_eq!(ask("GET", "site.css", &headers).status, 304);
    }

    #[test]
    fn no_spelling_of_a_path_leaves_the_table() {
        for path in [
            "",
            ".",
            "..",
            "../Cargo.toml",
            "./site.css",
            "%2e%2e/Cargo.toml",
            "%2E%2E%2FCargo.toml",
            "..%2fCargo.toml",
            "..%5cCargo.toml",
            "..%252fCargo.toml",
            "%252e%252e/Cargo.toml",
            "..;/Cargo.toml",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "icons/../site.css",
            "icons/../../Cargo.toml",
            "icons//checksum.svg",
            "icons",
            "icons/",
            "site.css/",
            "site.css%00",
            "site.css%00.svg",
            "site.css%20",
            "site.css%0a",
            "SITE.CSS",
            "%c0%ae%c0%ae/Cargo.toml",
            "%ff",
            "%",
            "%zz",
        ] {
            let response = ask("GET", path, &[]);
            assert_eq!(response.status, 404, "{path}");
            assert!(response.text().contains("<!DOCTYPE html>"), "{path}: {}", response.text());
        }
        // Different spellings of a path are the same file.
        assert_eq!(ask("GET", "icons%2fchecksum.svg", &[]).status, 200);
        assert_eq!(ask("GET", "%73ite.css", &[]).status, 200);
        assert_eq!(get(&crate::router(&[]), "/static").status, 404);
    }
}
