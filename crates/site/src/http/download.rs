//! Sends blobs to visitors.
//!
//! A blob may be anything that somebody has uploaded, so the response is a download that no browser shows as a page of
//! this site: an attachment, in a sandbox, of exactly the media type that was stored.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use blobs::{Blob, BlobError, Blobs, Details, Key};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RANGE,
    REFERRER_POLICY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::HttpError;
use super::file_request::{Asked, asked, content_range};
use super::multipart::into_http_error;

/// Sends a blob in response to a GET or HEAD; an extractor.
///
/// Ranges, `If-None-Match` and the like are answered; memory is bounded by one piece of the blob. Where blobs are in an
/// S3 store that visitors can reach, a visitor who follows a link is redirected there.
///
/// ```
/// use axum::Extension;
/// use axum::extract::Path;
/// use axum::response::Response;
/// use site::{Blobs, Download, HttpError};
///
/// async fn download(
///     Path(number): Path<u32>,
///     Extension(blobs): Extension<Blobs>,
///     download: Download,
/// ) -> Result<Response, HttpError> {
///     let key = format!("reports/{number}").parse().expect("digits are part of a key");
///     download.send(&blobs, &key, "Report.pdf").await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Download {
    method: Method,
    headers: HeaderMap,
}

impl<S: Sync> FromRequestParts<S> for Download {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Download { method: parts.method.clone(), headers: parts.headers.clone() })
    }
}

impl Download {
    /// Returns the response: the blob as a file of this name, which may be any text.
    ///
    /// # Errors
    ///
    /// 404 if there is no such blob; 503 if the store cannot be used.
    pub async fn send(
        &self,
        blobs: &Blobs,
        key: &Key,
        file_name: &str,
    ) -> Result<Response, HttpError> {
        let file = File { blobs, key, disposition: disposition(file_name) };
        let conditions = [RANGE, IF_MATCH, IF_NONE_MATCH];
        if self.method == Method::GET
            && !conditions.iter().any(|name| self.headers.contains_key(name))
        {
            if self.can_be_redirected()
                && let Some(address) =
                    blobs.presigned_get(key, REDIRECT_LIFETIME, Some(&file.disposition)).await?
            {
                return redirect(&address);
            }
            return file.whole().await;
        }
        let details = blobs.head(key).await?.ok_or_else(not_found)?;
        let etag = etag_of(&details);
        match asked(&self.method, &self.headers, etag.as_deref(), details.length) {
            Asked::Whole if self.method == Method::HEAD => {
                let mut response = file.respond(&details, Body::empty());
                response.headers_mut().insert(CONTENT_LENGTH, details.length.into());
                Ok(response)
            }
            Asked::Whole => file.whole().await,
            // An S3 store returns one part at a time; a client that asks for several has to expect the whole.
            Asked::Parts(parts) => match <[_; 1]>::try_from(parts) {
                Ok([part]) => {
                    let blob = blobs.get(key, part).await?.ok_or_else(not_found)?;
                    // It was replaced just now, so the part may be one that the client does not want.
                    if blob.details != details { file.whole().await } else { Ok(file.part(blob)) }
                }
                Err(_) => file.whole().await,
            },
            Asked::Outside => {
                let page = HttpError::new(StatusCode::RANGE_NOT_SATISFIABLE);
                let length = format!("bytes */{}", details.length);
                Ok(([(CONTENT_RANGE, length)], page).into_response())
            }
            Asked::NotModified => {
                let mut response = StatusCode::NOT_MODIFIED.into_response();
                add_caching(response.headers_mut(), etag.as_deref());
                Ok(response)
            }
            Asked::Failed => Err(HttpError::new(StatusCode::PRECONDITION_FAILED)),
        }
    }

    /// Returns whether a visitor follows a link. The pages' Content-Security-Policy lets no image or script come from
    /// another host.
    fn can_be_redirected(&self) -> bool {
        let mode = self.headers.get(SEC_FETCH_MODE);
        mode.is_none_or(|mode| mode == "navigate")
    }
}

/// Browsers say in it what a request is for.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// For how long the address of a redirect can be used. A download that has started by then goes on.
const REDIRECT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Whoever has the address can fetch the blob, so no cache keeps it and no other site learns it.
fn redirect(address: &str) -> Result<Response, HttpError> {
    let unusable = |error| HttpError::new(StatusCode::SERVICE_UNAVAILABLE).cause(error);
    let address = HeaderValue::try_from(address).map_err(unusable)?;
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, address);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// A blob as it is sent.
struct File<'a> {
    blobs: &'a Blobs,
    key: &'a Key,
    disposition: String,
}

impl File<'_> {
    async fn whole(&self) -> Result<Response, HttpError> {
        let blob = self.blobs.get(self.key, ..).await?.ok_or_else(not_found)?;
        Ok(self.respond(&blob.details, Body::new(blob.body)))
    }

    fn part(&self, blob: Blob) -> Response {
        let range = content_range(&blob.range, blob.details.length);
        let mut response = self.respond(&blob.details, Body::new(blob.body));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(response.headers_mut(), CONTENT_RANGE, &range);
        response
    }

    fn respond(&self, details: &Details, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        insert(headers, CONTENT_TYPE, &details.content_type);
        insert(headers, CONTENT_DISPOSITION, &self.disposition);
        headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        add_caching(headers, etag_of(details).as_deref());
        response
    }
}

/// Even if a browser shows the blob, it runs no script, loads nothing, and has no part in this site.
const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

/// A browser may keep the blob, but asks each time whether it may still be used: the tool decides who may see it.
fn add_caching(headers: &mut HeaderMap, etag: Option<&str>) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(etag) = etag {
        insert(headers, ETAG, etag);
    }
}

fn etag_of(details: &Details) -> Option<String> {
    details.tag.as_ref().map(|tag| format!("\"{tag}\""))
}

/// Sets a header that consists of visible ASCII: the blobs' own values and ours do.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Returns the header `Content-Disposition` for a file of this name (RFC 6266): in ASCII for old clients, and in UTF-8.
pub(crate) fn disposition(file_name: &str) -> String {
    let safe = |letter: char| match letter {
        '/' | '\\' | '"' => '_',
        letter if letter.is_control() => '_',
        letter => letter,
    };
    let name: String = file_name.chars().take(MAX_NAME_LETTERS).map(safe).collect();
    if name.trim().is_empty() {
        return "attachment".to_owned();
    }
    let plain: String =
        name.chars().map(|letter| if letter.is_ascii() { letter } else { '_' }).collect();
    let encoded = utf8_percent_encode(&name, ENCODED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// What file systems allow for a name, if each letter takes two bytes.
const MAX_NAME_LETTERS: usize = 127;

/// All but the letters that may be in such a parameter as they are (RFC 8187 §3.2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn not_found() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND)
}

impl From<BlobError> for HttpError {
    fn from(error: BlobError) -> Self {
        let error = match error {
            BlobError::Source(source) => match source.downcast() {
                Ok(error) => return into_http_error(*error),
                Err(source) => BlobError::Source(source),
            },
            other => other,
        };
        let (status, message) = match &error {
            BlobError::Source(_) => {
                (StatusCode::BAD_REQUEST, "The upload broke off. Please try again.")
            }
            BlobError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "The file is too large."),
            BlobError::NoUpload(_) => (
                StatusCode::NOT_FOUND,
                "There is no such upload, or it has been given up. Please begin again.",
            ),
            BlobError::Incomplete { .. } => {
                (StatusCode::CONFLICT, "The upload is not complete: a part of it is missing.")
            }
            BlobError::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "The site is busy. Please try again.")
            }
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The site's files are unavailable. Its owner can find the cause in the log.",
            ),
        };
        HttpError::new(status).message(message).cause(error)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Extension, Router};
    use blobs::{BlobSettings, PutOptions};
    use tempfile::TempDir;

    use super::*;
    use crate::http::multipart::Multipart;
    use crate::settings::SiteSettings;
    use crate::testing::{SAMPLE, TestResponse, block_on, post, request, send};
    use crate::tool::Tool;

    const TOOLS: &[Tool] = &[
        Tool { name: "one", router: routes, ..SAMPLE },
        Tool { name: "two", router: routes, ..SAMPLE },
    ];

    /// Keeps a file, and sends it.
    fn routes() -> Router {
        Router::new().route("/", get(fetch).post(keep))
    }

    async fn fetch(
        Extension(blobs): Extension<Blobs>,
        download: Download,
    ) -> Result<Response, HttpError> {
        download.send(&blobs, &key(), "Käse \"1\"\r\n.txt").await
    }

    async fn keep(
        Extension(blobs): Extension<Blobs>,
        mut form: Multipart,
    ) -> Result<&'static str, HttpError> {
        while let Some(field) = form.next_field().await? {
            let content_type = Some("text/html".to_owned());
            let options = PutOptions { content_type, expires: None };
            blobs.put(&key(), field, options).await?;
        }
        Ok("kept")
    }

    fn key() -> Key {
        "a".parse().unwrap()
    }

    fn site() -> (TempDir, Router) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Some(BlobSettings::Folder(folder.path().join("blobs")));
        let settings = SiteSettings { blobs, ..SiteSettings::default() };
        (folder, crate::router_with(TOOLS, &settings))
    }

    fn upload(site: &Router, tool: &str, content: &str) -> TestResponse {
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n{content}\r\n--b--\r\n"
        );
        post(site, &format!("/tools/{tool}"), "multipart/form-data; boundary=b", form)
    }

    fn ask(site: &Router, method: &str, headers: &[(&str, &str)]) -> TestResponse {
        let request = headers
            .iter()
            .fold(request(method, "/tools/one"), |it, (name, value)| it.header(*name, *value));
        send(site, request.body(Body::empty()).unwrap())
    }

    #[test]
    fn a_file_that_was_uploaded_can_be_downloaded_and_does_nothing_in_a_browser() {
        let (folder, site) = site();
        assert_eq!(ask(&site, "GET", &[]).status, 404);
        let broken = post(&site, "/tools/one", "multipart/form-data; boundary=b", "--b\r\n\r\nx");
        assert_eq!(broken.status, 400);
        assert!(broken.text().contains("Upload incomplete"), "{}", broken.text());
        let incoming = std::fs::read_dir(folder.path().join("blobs/incoming")).unwrap();
        assert_eq!((incoming.count(), ask(&site, "GET", &[]).status.as_u16()), (0, 404));
        assert_eq!(upload(&site, "one", "0123456789").text(), "kept");
        let response = ask(&site, "GET", &[]);
        assert_eq!((response.status.as_u16(), response.text()), (200, "0123456789"));
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "private, no-cache"),
            ("accept-ranges", "bytes"),
            (
                "content-disposition",
                "attachment; filename=\"K_se _1___.txt\"; filename*=UTF-8''K%C3%A4se%20_1___.txt",
            ),
        ] {
            assert_eq!(response.header(name), Some(value), "{name}");
        }
        let head = ask(&site, "HEAD", &[]);
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some("10"));
        assert_eq!(head.header("etag"), response.header("etag"));
    }

    #[test]
    fn a_tool_does_not_see_the_blobs_of_another() {
        let (_folder, site) = site();
        upload(&site, "two", "of two");
        assert_eq!(ask(&site, "GET", &[]).status, 404);
        upload(&site, "one", "of one");
        assert_eq!(ask(&site, "GET", &[]).text(), "of one");
    }

    #[test]
    fn parts_and_conditions() {
        let (_folder, site) = site();
        upload(&site, "one", "0123456789");
        let etag = ask(&site, "GET", &[]).header("etag").unwrap().to_owned();
        for (headers, status, body) in [
            (&[("range", "bytes=2-4")] as &[_], 206, "234"),
            (&[("range", "bytes=-2")], 206, "89"),
            (&[("range", "bytes=0-0,5-6")], 200, "0123456789"),
            (&[("range", "bytes=2-4"), ("if-range", &etag)], 206, "234"),
            (&[("range", "bytes=2-4"), ("if-range", "\"x\"")], 200, "0123456789"),
            (&[("if-none-match", &etag)], 304, ""),
            (&[("if-none-match", "\"x\"")], 200, "0123456789"),
            (&[("if-match", &etag), ("range", "bytes=9-")], 206, "9"),
        ] {
            let response = ask(&site, "GET", headers);
            assert_eq!((response.status.as_u16(), response.text()), (status, body), "{headers:?}");
            assert_eq!(response.header("etag"), Some(&*etag), "{headers:?}");
        }
        let part = ask(&site, "GET", &[("range", "bytes=2-4")]);
        assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
        let outside = ask(&site, "GET", &[("range", "bytes=10-")]);
        assert_eq!(outside.status, 416);
        assert_eq!(outside.header("content-range"), Some("bytes */10"));
        assert_eq!(ask(&site, "GET", &[("if-match", "\"x\"")]).status, 412);
        upload(&site, "one", "other");
        assert_eq!(ask(&site, "GET", &[("if-none-match", &etag)]).text(), "other");
    }

    #[test]
    fn names_of_files_stay_one_parameter() {
        for (name, expected) in [
            ("a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"),
            ("../a\\b", "attachment; filename=\".._a_b\"; filename*=UTF-8''.._a_b"),
            ("a;b=%'c", "attachment; filename=\"a;b=%'c\"; filename*=UTF-8''a%3Bb%3D%25%27c"),
            ("  ", "attachment"),
        ] {
            assert_eq!(disposition(name), expected);
        }
        assert!(disposition(&"ä".repeat(1000)).len() < 1000);
    }

    /// Where visitors can reach the S3 store. To make the address, the store is asked whether it has the blob.
    #[test]
    fn only_who_follows_a_link_is_redirected() {
        let mode = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (SEC_FETCH_MODE, value.parse().unwrap())));
            Download { method: Method::GET, headers }.can_be_redirected()
        };
        assert!(mode(None) && mode(Some("navigate")));
        assert!(!mode(Some("no-cors")) && !mode(Some("cors")));
        let response = redirect("https://s3.example/site/blobs/one/a?X-Amz-Signature=1").unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    }

    #[test]
    fn a_store_that_cannot_be_used_is_a_503_whose_cause_is_in_the_log() {
        let (folder, site) = site();
        std::fs::write(folder.path().join("blobs"), "a file").unwrap();
        let response = ask(&site, "GET", &[]);
        assert_eq!(response.status, 503);
        assert!(response.text().contains("files are unavailable"), "{}", response.text());
        assert!(!response.text().contains("blobs"), "{}", response.text());
        // Tried again by the next request.
        std::fs::remove_file(folder.path().join("blobs")).unwrap();
        assert_eq!(ask(&site, "GET", &[]).status, 404);
        let settings = BlobSettings::Folder(folder.path().join("blobs"));
        assert!(block_on(Blobs::new(settings).head(&key())).unwrap().is_none());
    }
}
