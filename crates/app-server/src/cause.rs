//! Why the server responds in the application's place: causes, each with its log message and status.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::cure::cure_of;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The application panicked, with this message.
    Panic(String),
    /// The application says so itself.
    Failed(Failed),
    /// Too many requests at once; the limit.
    Overload(usize),
    /// The request's body was still arriving and others needed the permit; the number of permits.
    Evicted(usize),
    /// The request's body stalled or was too slow for this long.
    BodyTooSlow(Duration),
    /// A WebSocket was asked for.
    WebSocket,
    /// The web server sent something that is not an HTTP request, for this reason.
    BadRequest(String),
    /// The request's variables exceed the limit, in bytes.
    VariablesTooLarge(usize),
    /// The application's response cannot be sent, for this reason.
    BadResponse(String),
    /// `FCGI_WEB_SERVER_ADDRS` is not a list of IP addresses (FastCGI 1.0 §3.2), so every request is
    /// refused; its value.
    WebServerAddresses(String),
    /// The application's code died of a fatal signal or ran out of memory. Its page is prepared in
    /// advance.
    Crashed,
    /// Another request's code did, and the program restarted in place. Its page is prepared in advance.
    Interrupted,
    /// The application's code stalled the event loop. Its page is prepared in advance.
    Stalled,
    /// This part of the application crashed repeatedly and is quarantined for a while.
    Quarantined {
        /// The part, as [`Host::classify`](crate::Host::classify) names it.
        part: String,
        /// The remaining seconds.
        seconds: u64,
    },
    /// No process could be created for an isolated request in time, for this reason.
    NoProcess(String),
    /// The process of an isolated request took too long; what it took.
    ChildTooSlow(String),
    /// The process of an isolated request failed, for this reason.
    ChildFailed(String),
}

/// A failure that the application reports instead of making a page for it: an extension of its response. The server
/// logs it and makes the page ([`Host::error_page`](crate::Host::error_page)). The response's headers stay, but for those that the
/// page sets (`Retry-After` excepted). A body that is not empty is a page that some layer has made: it stays, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The status: of a client or server error. Any other becomes a 500.
    pub status: StatusCode,
    /// What the visitor may read: sentences.
    pub message: Option<String>,
    /// Why, for the log only, without a period. That of a client error (4xx) is not logged.
    pub why: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panic(message) => {
                write!(formatter, "the application panicked: {message}{}", cure_of(message))
            }
            Cause::Failed(failed) => formatter.write_str(&failed.why),
            Cause::Overload(limit) => {
                write!(formatter, "{limit} requests are already in flight (max_requests)")
            }
            Cause::Evicted(limit) => write!(
                formatter,
                "slow request body evicted in favor of other requests (max_requests = {limit})"
            ),
            Cause::BodyTooSlow(patience) => write!(
                formatter,
                "request body stalled or too slow for {} s (receive_timeout, min_rate)",
                patience.as_secs_f32()
            ),
            Cause::WebSocket => write!(
                formatter,
                "a page asked for a WebSocket, which web servers cannot pass on to a program like this; \
                 server-sent events (SSE) and ordinary requests work (docs/your-own-app.md)"
            ),
            Cause::BadRequest(why) => write!(formatter, "malformed request: {why}"),
            Cause::VariablesTooLarge(limit) => write!(
                formatter,
                "the request's headers and variables take more than {limit} bytes (params_bytes)"
            ),
            Cause::BadResponse(why) => {
                write!(formatter, "the application's response cannot be sent: {why}")
            }
            Cause::WebServerAddresses(value) => write!(
                formatter,
                "FCGI_WEB_SERVER_ADDRS is {value:?}, which is not a list of IP addresses separated by \
                 commas, such as 127.0.0.1,10.0.0.7; no request is served until it is"
            ),
            Cause::Crashed => write!(formatter, "the application crashed"),
            Cause::Interrupted => {
                write!(formatter, "another request crashed the program, which restarted in place")
            }
            Cause::Stalled => write!(formatter, "the application stalled the event loop"),
            Cause::Quarantined { part, seconds } => write!(
                formatter,
                "{part} is quarantined for {seconds} s more after repeated crashes"
            ),
            Cause::NoProcess(why) | Cause::ChildTooSlow(why) | Cause::ChildFailed(why) => {
                formatter.write_str(why)
            }
        }
    }
}

impl Cause {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Cause::Failed(Failed { status, .. })
                if status.is_client_error() || status.is_server_error() =>
            {
                *status
            }
            Cause::Failed(_)
            | Cause::Panic(_)
            | Cause::BadResponse(_)
            | Cause::Crashed
            | Cause::ChildFailed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Cause::Overload(_)
            | Cause::Evicted(_)
            | Cause::NoProcess(_)
            | Cause::WebServerAddresses(_)
            | Cause::Interrupted
            | Cause::Quarantined { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Cause::Stalled | Cause::ChildTooSlow(_) => StatusCode::GATEWAY_TIMEOUT,
            Cause::WebSocket => StatusCode::NOT_IMPLEMENTED,
            Cause::BadRequest(_) => StatusCode::BAD_REQUEST,
            Cause::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Cause::VariablesTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}
