//! One failed request, as reported to the client (status, reference) and to the log (cause).
//!
//! The server responds by itself only where the application cannot: a crash of the application, an
//! overload, a request that is not HTTP. What the page looks like is up to [`Host::error_page`].
//!
//! [`Host::error_page`]: crate::Host::error_page

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::cause::Cause;
use crate::cgi_vars::base_path::BasePath;
use crate::node::process_number;

/// Stands in prepared pages where a reference goes, and has as many bytes as the reference of a crash.
pub(crate) const PLACEHOLDER: &str = "0000000-0000-crash";

/// A failure that the server has to respond to in the application's place.
#[derive(Clone, Debug)]
pub struct ErrorReport {
    /// The status to respond with.
    pub status: StatusCode,
    /// Identifies this failure on the page and in the log; empty if it is not in the log, because the visitor caused it.
    pub reference: String,
    /// Where the site is mounted, for links.
    pub base: BasePath,
    /// The media types that the client accepts: the request's `Accept`.
    pub accept: Option<HeaderValue>,
    /// Why it failed. For the log and the owner, not for visitors.
    pub cause: Cause,
}

impl ErrorReport {
    /// Creates the report and logs it.
    pub(crate) fn new(cause: Cause, about: &About) -> Self {
        let status = cause.status();
        if matches!(cause, Cause::Failed(_)) && status.is_client_error() {
            return ErrorReport::of(cause, String::new(), about);
        }
        let reference = reference();
        let About { method, uri, .. } = about;
        let path = uri.path();
        // Log rate limits are per call site: a flood of one kind must not hide another.
        macro_rules! log {
            ($($level:ident { $($kind:pat_param,)+ })+) => {
                match &cause {
                    $($($kind => {
                        tracing::$level!(%reference, %status, %method, path, "Request failed: {cause}.");
                    })+)+
                }
            };
        }
        log! {
            error {
                Cause::Panic(_),
                Cause::Failed(_),
                Cause::Overload(_),
                Cause::Evicted(_),
                Cause::BadResponse(_),
                Cause::WebServerAddresses(_),
                Cause::Crashed,
                Cause::Interrupted,
                Cause::Stalled,
                Cause::Quarantined { .. },
                Cause::NoProcess(_),
                Cause::ChildTooSlow(_),
                Cause::ChildFailed(_),
            }
            warn {
                Cause::WebSocket,
                Cause::BadRequest(_),
                Cause::BodyTooSlow(_),
                Cause::VariablesTooLarge(_),
            }
        }
        ErrorReport::of(cause, reference, about)
    }

    fn of(cause: Cause, reference: String, about: &About) -> Self {
        ErrorReport {
            status: cause.status(),
            reference,
            base: about.base.clone(),
            accept: about.accept.clone(),
            cause,
        }
    }

    /// Returns what the application has to say to the visitor, if it does: sentences.
    pub fn message(&self) -> Option<&str> {
        match &self.cause {
            Cause::Failed(failed) => failed.message.as_deref(),
            _ => None,
        }
    }

    /// Creates a report in advance: its page is kept, with a placeholder for the reference.
    pub(crate) fn prepared(cause: Cause, base: BasePath) -> Self {
        let status = cause.status();
        let reference = PLACEHOLDER.to_owned();
        let accept = Some(HeaderValue::from_static("text/html"));
        ErrorReport { status, reference, base, accept, cause }
    }

    /// How many seconds to wait before retrying, if known.
    pub fn retry_after(&self) -> Option<u64> {
        match self.cause {
            Cause::Quarantined { seconds, .. } => Some(seconds),
            _ if self.status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }
}

/// What a report needs to know about its request, kept when the request itself has gone to the
/// application.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) method: Method,
    /// Relative to BASE. Its query may hold secrets, so only the path is logged.
    pub(crate) uri: Uri,
    pub(crate) base: BasePath,
    /// Read only when a report is made, which is rare.
    pub(crate) accept: Option<HeaderValue>,
}

impl About {
    /// Takes what is needed from a request to a site that is mounted at `base`.
    pub(crate) fn new<B>(request: &http::Request<B>, base: &BasePath) -> Self {
        About {
            method: request.method().clone(),
            uri: request.uri().clone(),
            base: base.clone(),
            accept: request.headers().get(ACCEPT).cloned(),
        }
    }

    /// Describes a request that could not be parsed.
    pub(crate) fn unknown() -> Self {
        About {
            method: Method::GET,
            uri: Uri::from_static("/"),
            base: BasePath::default(),
            accept: None,
        }
    }
}

/// Makes the default page: plain text with status, the application's words if there are some, and reference.
pub fn plain_text(report: &ErrorReport) -> http::Response<Bytes> {
    let mut text = format!("{}\n", report.status);
    if let Some(message) = report.message() {
        text += &format!("\n{message}\n");
    }
    if !report.reference.is_empty() {
        text += &format!("\nReference: {}\n", report.reference);
    }
    let mut response = http::Response::new(Bytes::from(text));
    *response.status_mut() = report.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = report.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Creates a short name for a failure, unique among the processes of a site, on all its machines
/// ([`set_node`](crate::set_node)): milliseconds since 1970, the process and a counter, in base 36. Applications can use
/// it too, so that all failures of a site are named alike.
pub fn reference() -> String {
    thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
    let count = COUNT.get().wrapping_add(1);
    COUNT.set(count);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut time, mut process, mut number) = ([0; 7], [0; 4], [0; 7]);
    base_36(since_1970.as_millis() as u64, &mut time);
    base_36(process_number(), &mut process);
    base_36(u64::from(count), &mut number);
    let text = |digits: &[u8]| String::from_utf8_lossy(digits).trim_start_matches('0').to_owned();
    format!("{}-{}-{}", text(&time), text(&process), text(&number))
}

/// Writes as many of a number's last digits as fit, in base 36. May be called in a signal handler.
pub(crate) fn base_36(mut number: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
}
