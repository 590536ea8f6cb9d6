//! The S3 engine: an object for each blob.
//!
//! ```text
//! PREFIX blobs/KEY               the blobs, with their media type, and as metadata
//!                                  expires  when it expires, in seconds since 1970
//!                                  md5      of a blob that was put by one request: its checksum
//!                                  upload   of one that was put in parts: a random number
//! PREFIX expiring/SECONDS/KEY    an empty object for each blob that expires (expiring.rs)
//! ```
//!
//! A put reads up to 8 MiB; what is larger is uploaded in parts of that size, one after the other. Each request carries
//! the checksum of what it uploads (Content-MD5), and is signed by rusty-s3, which does no I/O. It is sent over a small
//! pool of connections with deadlines, and again if the server is overloaded or a connection breaks.
//!
//! | file | subject |
//! | --- | --- |
//! | `upload.rs`, `part.rs` | what is put |
//! | `parts.rs` | uploads that several processes continue |
//! | `body.rs` | what is read |
//! | `expiring.rs` | what has expired, and what killed puts have left |
//! | `client.rs`, `failure.rs` | requests, attempts, errors |
//! | `pool.rs`, `wire.rs` | connections |

mod body;
mod client;
mod expiring;
mod failure;
mod part;
mod parts;
mod pool;
mod upload;
mod wire;

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Empty};
use jiff::fmt::rfc2822::DateTimeParser;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::actions::list_objects_v2::ListObjectsContent;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tls_client::Roots;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::rustls::ClientConfig;
use url::Url;

use crate::blob::{
    Blob, BlobBody, DEFAULT_CONTENT_TYPE, Details, Listed, PutOptions, Swept, cut, time_at,
};
use crate::error::BlobError;
use crate::key::Key;
use crate::settings::{AddressStyle, S3Settings};
use crate::source::{Content, Source};
use body::ReplyBody;
use client::{Call, Client, Reply};
use failure::Failure;
use pool::Origin;
use upload::Metadata;

const CONTENT_MD5: &str = "content-md5";
const CONTENT_TYPE: &str = "content-type";
const META_EXPIRES: &str = "x-amz-meta-expires";
const META_MD5: &str = "x-amz-meta-md5";
const META_UPLOAD: &str = "x-amz-meta-upload";

/// The longest lifetime of an address that S3 accepts.
const MAX_PRESIGNED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest prefix, in bytes: with the longest key, that of a handle, and the name of a time it makes a name of
/// 1,024 bytes at most.
const MAX_PREFIX_BYTES: usize = 256;

/// A bucket with blobs. Clones share its connections.
#[derive(Clone)]
pub(crate) struct S3 {
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Bucket,
    credentials: Credentials,
    client: Client,
    /// Whether there are addresses for visitors.
    has_addresses: bool,
    /// What the names of blobs start with.
    blobs: String,
    /// What the names of the objects in `expiring.rs` start with.
    expiring: String,
}

impl S3 {
    /// Prepares connections. Sends nothing.
    pub(crate) fn open(settings: &S3Settings) -> Result<S3, BlobError> {
        let (bucket, authority) = S3::check(settings)?;
        let origin = origin(bucket.base_url(), settings)?;
        let client = Client::new(origin, authority, settings);
        let credentials = Credentials::new(&settings.access_key, &settings.secret_key);
        let prefix = &settings.prefix;
        let (blobs, expiring) = (format!("{prefix}blobs/"), format!("{prefix}expiring/"));
        let has_addresses = settings.has_addresses;
        let shared = Shared { bucket, credentials, client, has_addresses, blobs, expiring };
        Ok(S3 { shared: Arc::new(shared) })
    }

    /// Checks the settings; returns the bucket and the server's name in requests.
    pub(crate) fn check(settings: &S3Settings) -> Result<(Bucket, HeaderValue), BlobError> {
        let S3Settings { endpoint, region, access_key, secret_key, prefix, .. } = settings;
        let url: Url = endpoint.parse().map_err(|error| {
            wrong("endpoint", format!("the endpoint is not a URL ({error}); write https://HOST"))
        })?;
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            let problem = "the endpoint has more than scheme, host and port; write https://HOST";
            return Err(wrong("endpoint", problem));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("endpoint", "the endpoint is neither http nor https"));
        }
        let name = &settings.bucket;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.len() < 3 || !name.bytes().all(is_allowed) {
            return Err(wrong("bucket", format!("{name:?} is not the name of a bucket")));
        }
        for (name, key) in [("access_key", access_key), ("secret_key", secret_key)] {
            if key.is_empty() {
                return Err(wrong(name, "access key or secret key is missing"));
            }
        }
        check_prefix(prefix)?;
        let style = match settings.style {
            AddressStyle::Path => UrlStyle::Path,
            AddressStyle::VirtualHost => UrlStyle::VirtualHost,
        };
        let bucket = Bucket::new(url, style, settings.bucket.clone(), region.clone())
            .map_err(|error| wrong("endpoint", format!("the endpoint cannot be used: {error}")))?;
        let authority = authority(bucket.base_url())?;
        Ok((bucket, authority))
    }

    pub(crate) async fn put<B: Content>(
        &self,
        key: &Key,
        mut source: Source<'_, B>,
        options: &PutOptions,
    ) -> Result<(), BlobError> {
        let content_type = options.checked_content_type()?;
        let expires = options.expires_seconds();
        if let Some(seconds) = expires {
            let noted = expiring::note(self, key.as_str(), seconds).await;
            noted.map_err(|failure| self.error(failure))?;
        }
        let metadata = Metadata { content_type, expires };
        upload::put(self, &self.object(key.as_str()), &mut source, &metadata).await
    }

    pub(crate) async fn head(&self, key: &Key) -> Result<Option<Details>, BlobError> {
        let head = self.head_object(&self.object(key.as_str())).await;
        let Some(head) = head.map_err(|failure| self.error(failure))? else { return Ok(None) };
        let length = text_of(&head, "content-length").and_then(|length| length.parse().ok());
        let details = details(&head, length.unwrap_or_default());
        Ok((!details.is_expired()).then_some(details))
    }

    pub(crate) async fn get(
        &self,
        key: &Key,
        range: &impl RangeBounds<u64>,
    ) -> Result<Option<Blob>, BlobError> {
        let wanted = Wanted::from(range);
        let object = self.object(key.as_str());
        let call = Call::new(self.bucket().get_object(Some(self.credentials()), &object));
        let call = match &wanted {
            Wanted::All => call,
            Wanted::Part(range) => call.header("range", range),
            Wanted::Nothing => return self.get_nothing(key, range).await,
        };
        let reply = match self.send(&call).await {
            Ok(reply) => reply,
            Err(Failure::Refused(refusal)) if refusal.is_missing_object() => return Ok(None),
            // It ends before the range starts.
            Err(Failure::Refused(refusal))
                if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE =>
            {
                return self.get_nothing(key, range).await;
            }
            Err(failure) => return Err(self.error(failure)),
        };
        let Some((range, length)) = what_came(&reply.head.headers, &wanted, range) else {
            let problem = "its response is not the part that was asked for, or has no length";
            return Err(self.error(Failure::Broken(problem.to_owned())));
        };
        let details = details(&reply.head.headers, length);
        if details.is_expired() {
            return Ok(None);
        }
        let is_whole = range == (0..length);
        let checksum = text_of(&reply.head.headers, META_MD5).filter(|_| is_whole);
        let checksum =
            checksum.and_then(|md5| HEXLOWER.decode(md5.as_bytes()).ok()?.try_into().ok());
        let body = ReplyBody::new(reply, key, range.end - range.start, checksum);
        Ok(Some(Blob { details, range, body: BlobBody::new(body) }))
    }

    /// For a range that has no bytes, which S3 cannot express.
    async fn get_nothing(
        &self,
        key: &Key,
        range: &impl RangeBounds<u64>,
    ) -> Result<Option<Blob>, BlobError> {
        let details = self.head(key).await?;
        Ok(details.map(|details| {
            let start = cut(range, details.length).start;
            Blob { details, range: start..start, body: empty() }
        }))
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<(), BlobError> {
        let deleted = self.delete_object(&self.object(key.as_str()), None).await;
        deleted.map_err(|failure| self.error(failure))
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, BlobError> {
        let mut listed = Vec::new();
        let prefix = self.object(prefix);
        // All that starts with the prefix comes after what is less than it; Garage then finds nothing.
        let after = after.map(|key| self.object(key.as_str()));
        let mut after = after.filter(|after| *after >= prefix);
        while listed.len() < limit {
            let wanted = limit - listed.len();
            let page = self.list_objects(&prefix, after.as_deref(), wanted).await;
            let (objects, has_more) = page.map_err(|failure| self.error(failure))?;
            let last = objects.last().map(|object| object.key.clone());
            if last.is_some() && last <= after {
                let problem = "its list does not go on after a name".to_owned();
                return Err(self.error(Failure::Broken(problem)));
            }
            after = last;
            // Others may have put objects there whose names are no keys.
            listed.extend(objects.into_iter().filter_map(|object| {
                let key = Key::of_stored(object.key.strip_prefix(&self.shared.blobs)?)?;
                Some(Listed { key, length: object.size })
            }));
            if !has_more || after.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    pub(crate) async fn remove_expired(&self) -> Result<Swept, BlobError> {
        expiring::sweep(self).await.map_err(|failure| self.error(failure))
    }

    pub(crate) async fn presigned_get(
        &self,
        key: &Key,
        lifetime: Duration,
        content_disposition: Option<&str>,
    ) -> Result<Option<String>, BlobError> {
        if !self.shared.has_addresses {
            return Ok(None);
        }
        let Some(details) = self.head(key).await? else { return Ok(None) };
        let left = details.expires.map(|expires| expires.duration_since(SystemTime::now()));
        let left = left.map_or(MAX_PRESIGNED, Result::unwrap_or_default).min(MAX_PRESIGNED);
        let object = self.object(key.as_str());
        let mut action = self.bucket().get_object(Some(self.credentials()), &object);
        if let Some(disposition) = content_disposition {
            action.query_mut().insert("response-content-disposition", disposition.to_owned());
        }
        let seconds = Duration::from_secs(lifetime.min(left).as_secs().max(1));
        Ok(Some(action.sign(seconds).into()))
    }

    fn bucket(&self) -> &Bucket {
        &self.shared.bucket
    }

    fn credentials(&self) -> &Credentials {
        &self.shared.credentials
    }

    /// Returns the name of a blob's object, or what the names for a prefix of keys start with.
    fn object(&self, key: &str) -> String {
        self.shared.blobs.clone() + key
    }

    fn expiring(&self) -> &str {
        &self.shared.expiring
    }

    async fn send<'a, A: S3Action<'a>>(&self, call: &Call<A>) -> Result<Reply, Failure> {
        self.shared.client.send(call).await
    }

    /// Returns the right to hold a part in memory.
    async fn upload_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.shared.client.upload_permit().await
    }

    fn refusal(&self, head: &Parts, body: &str) -> Failure {
        self.shared.client.refusal(head, body)
    }

    fn error(&self, failure: Failure) -> BlobError {
        self.shared.client.error(failure)
    }

    /// Returns the headers of an object.
    async fn head_object(&self, object: &str) -> Result<Option<HeaderMap>, Failure> {
        let action = self.bucket().head_object(Some(self.credentials()), object);
        match self.send(&Call::new(action)).await {
            Ok(reply) => {
                reply.lease.give_back();
                Ok(Some(reply.head.headers))
            }
            Err(Failure::Refused(refusal)) if refusal.is_missing_object() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes an object, if one is there, and with an ETag only that one.
    async fn delete_object(&self, object: &str, etag: Option<&str>) -> Result<(), Failure> {
        let mut call = Call::new(self.bucket().delete_object(Some(self.credentials()), object));
        if let Some(etag) = etag {
            call = call.header("if-match", etag);
        }
        match self.send(&call).await {
            Ok(reply) => reply.text().await.map(drop),
            Err(Failure::Refused(refusal)) if refusal.is_missing_object() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Returns objects in the order of their names, and whether there are more.
    async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ListObjectsContent>, bool), Failure> {
        let mut action = self.bucket().list_objects_v2(Some(self.credentials()));
        action.with_prefix(prefix);
        action.with_max_keys(limit);
        if let Some(after) = after {
            action.with_start_after(after);
        }
        let text = self.send(&Call::new(action)).await?.text().await?;
        let page = ListObjectsV2::parse_response(&text)
            .map_err(|error| Failure::Broken(format!("its list cannot be read: {error}")))?;
        Ok((page.contents, page.next_continuation_token.is_some()))
    }
}

fn wrong(setting: &'static str, problem: impl Into<String>) -> BlobError {
    BlobError::Settings { setting, problem: problem.into() }
}

/// Refuses a prefix that is not made of segments of keys.
fn check_prefix(prefix: &str) -> Result<(), BlobError> {
    let Some(segments) = prefix.strip_suffix('/') else {
        return match prefix {
            "" => Ok(()),
            _ => Err(wrong("prefix", format!("the prefix {prefix:?} has no / at its end"))),
        };
    };
    match segments.parse::<Key>() {
        Ok(_) if prefix.len() <= MAX_PREFIX_BYTES => Ok(()),
        Ok(_) => Err(wrong("prefix", format!("the prefix {prefix:?} is too long"))),
        Err(error) => Err(wrong("prefix", format!("the prefix cannot be used: {error}"))),
    }
}

/// Returns the server's name in requests.
fn authority(base: &Url) -> Result<HeaderValue, BlobError> {
    let host = host_of(base)?;
    let authority = match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    authority.parse().map_err(|_| wrong("endpoint", "the endpoint's host cannot be used"))
}

fn host_of(base: &Url) -> Result<&str, BlobError> {
    base.host_str().ok_or_else(|| wrong("endpoint", "the endpoint has no host"))
}

/// Returns where the server is.
fn origin(base: &Url, settings: &S3Settings) -> Result<Origin, BlobError> {
    let host = host_of(base)?;
    // HTTP and HTTPS have one.
    let port = base.port_or_known_default().unwrap_or(443);
    let tls = match base.scheme() {
        "https" => Some(trust(settings.certificates.as_deref())?),
        _ => None,
    };
    // An IPv6 address has brackets in a URL only.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Origin { host, port, tls })
}

/// Trusts the authorities in a file, or the system's.
fn trust(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, BlobError> {
    let roots = authorities.map_or(Roots::System, |file| Roots::File(file.to_owned()));
    let roots = roots.read().map_err(|problem| {
        let problem = format!("the certificates of trusted authorities cannot be read ({problem})");
        wrong("certificates", problem)
    })?;
    let builder = tls_client::builder(tls_client::provider()).with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// What to ask for.
enum Wanted {
    All,
    /// By this value of the header `Range`.
    Part(String),
    Nothing,
}

impl<R: RangeBounds<u64>> From<&R> for Wanted {
    fn from(range: &R) -> Self {
        let first = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before.saturating_add(1),
        };
        let last = match range.end_bound() {
            Bound::Unbounded if first == 0 => return Wanted::All,
            Bound::Unbounded => return Wanted::Part(format!("bytes={first}-")),
            Bound::Included(&last) => last,
            Bound::Excluded(0) => return Wanted::Nothing,
            Bound::Excluded(&end) => end - 1,
        };
        match first <= last {
            true => Wanted::Part(format!("bytes={first}-{last}")),
            false => Wanted::Nothing,
        }
    }
}

/// Returns which part of the object is in the response, and the length of the whole; `None` if it is not the part that
/// was asked for.
fn what_came(
    head: &HeaderMap,
    wanted: &Wanted,
    range: &impl RangeBounds<u64>,
) -> Option<(Range<u64>, u64)> {
    let body: u64 = text_of(head, "content-length")?.parse().ok()?;
    let length = match wanted {
        Wanted::Part(_) => text_of(head, "content-range")?.rsplit_once('/')?.1.parse().ok()?,
        _ => body,
    };
    let range = cut(range, length);
    (range.end - range.start == body).then_some((range, length))
}

/// Returns the value of a header if it is ASCII.
fn text_of<'a>(head: &'a HeaderMap, name: &str) -> Option<&'a str> {
    head.get(name)?.to_str().ok()
}

fn details(head: &HeaderMap, length: u64) -> Details {
    let expires = text_of(head, META_EXPIRES).and_then(|seconds| seconds.parse().ok());
    Details {
        length,
        content_type: text_of(head, CONTENT_TYPE).unwrap_or(DEFAULT_CONTENT_TYPE).to_owned(),
        expires: expires.and_then(time_at),
        modified: text_of(head, "last-modified").and_then(date).unwrap_or(UNIX_EPOCH),
        tag: text_of(head, "etag").and_then(strong_tag).map(str::to_owned),
    }
}

/// Reads a date as HTTP writes it.
fn date(text: &str) -> Option<SystemTime> {
    DateTimeParser::new().parse_timestamp(text).ok().map(SystemTime::from)
}

/// Returns the text in an ETag, unless it is a weak one.
fn strong_tag(etag: &str) -> Option<&str> {
    let tag = etag.strip_prefix('"')?.strip_suffix('"')?;
    tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"').then_some(tag)
}

fn empty() -> BlobBody {
    BlobBody::new(Empty::new().map_err(|never| match never {}))
}

impl fmt::Debug for S3 {
    /// Shows no credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = &self.shared.bucket;
        formatter
            .debug_struct("S3")
            .field("bucket", &bucket.base_url().as_str())
            .field("blobs", &self.shared.blobs)
            .finish_non_exhaustive()
    }
}
