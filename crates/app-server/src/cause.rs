//! Why the server answers in the application's stead: causes, each with its sentence for the log and its status.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// Whose fault a failure is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The application panicked; its message.
    Panic(String),
    /// Too many requests at once; the limit.
    Overload(usize),
    /// The request's body was still arriving and others needed the permit; how many permits there are.
    MadeRoom(usize),
    /// The request's body did not arrive, or too slowly, for this long.
    BodyTooSlow(Duration),
    /// The web server sent something that makes no HTTP request; what and why.
    BadRequest(String),
    /// The request's variables passed the limit, in bytes.
    VariablesTooLarge(usize),
    /// The application's answer cannot be sent; why.
    BadResponse(String),
    /// `FCGI_WEB_SERVER_ADDRS` is no list of IP addresses (FastCGI 1.0 §3.2), so nobody can be served; its
    /// value.
    WebServerAddresses(String),
    /// The application's code ended by a fatal signal or had no memory left. Its page is prepared in advance.
    Crashed,
    /// The code of another request did, and the program restarted in place. Its page is prepared in advance.
    Interrupted,
    /// The application's code kept everybody waiting for too long. Its page is prepared in advance.
    Stalled,
    /// This part of the application crashed again and again and is quarantined for a while.
    Quarantined {
        /// The part, as [`Host::classify`](crate::Host::classify) names it.
        part: String,
        /// For how many seconds more.
        seconds: u64,
    },
    /// No process could be made for an isolated request in time; why.
    NoProcess(String),
    /// The process of an isolated request took too long; what it took.
    ChildTooSlow(String),
    /// The process of an isolated request broke: how.
    ChildBroke(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panic(message) => write!(formatter, "the application panicked: {message}"),
            Cause::Overload(limit) => {
                write!(formatter, "{limit} requests are in flight already (max_requests)")
            }
            Cause::MadeRoom(limit) => write!(
                formatter,
                "slow request body evicted in favor of other requests (max_requests = {limit})"
            ),
            Cause::BodyTooSlow(patience) => write!(
                formatter,
                "request body stalled or too slow for {} s (receive_timeout, min_rate)",
                patience.as_secs_f32()
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
            Cause::NoProcess(why) | Cause::ChildTooSlow(why) | Cause::ChildBroke(why) => {
                formatter.write_str(why)
            }
        }
    }
}

impl Cause {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Cause::Panic(_) | Cause::BadResponse(_) | Cause::Crashed | Cause::ChildBroke(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Cause::Overload(_)
            | Cause::MadeRoom(_)
            | Cause::NoProcess(_)
            | Cause::WebServerAddresses(_)
            | Cause::Interrupted
            | Cause::Quarantined { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Cause::Stalled | Cause::ChildTooSlow(_) => StatusCode::GATEWAY_TIMEOUT,
            Cause::BadRequest(_) => StatusCode::BAD_REQUEST,
            Cause::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Cause::VariablesTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}
