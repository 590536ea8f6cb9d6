//! What the host refuses: what the visitor gets, and the line that tells the developer the rule and the cure.

use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::rules::Directive;

/// Why the host answers a request itself, or cuts its response off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request's body is too long. `length`: announced, or what has arrived so far.
    BodyTooLong { length: u64, limit: u64 },
    /// The variables do not fit into one record.
    VariablesTooLong { length: usize },
    /// `%2F` in a path.
    EncodedSlash,
    /// A name in a path that no file could have.
    LongName { length: usize },
    /// Nothing came from the process for too long.
    Silent { directive: Directive, seconds: u64 },
    /// The request took too long.
    Busy { seconds: u64 },
    /// All processes were busy for too long.
    NoProcess { max: u64, seconds: u64 },
    /// Too many requests are in flight.
    TooManyRequests { limit: u64 },
    /// The launcher or the program could not be started.
    NotStarted { why: String },
    /// The process ended, or closed the connection, before the response was complete.
    Ended { why: String },
    /// What it sent is not a response.
    Malformed { why: &'static str },
}

impl Refusal {
    /// Returns the status with which the host answers.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::EncodedSlash => StatusCode::NOT_FOUND,
            Refusal::LongName { .. } => StatusCode::FORBIDDEN,
            Refusal::Silent { directive: Directive::Timeout, .. } => StatusCode::GATEWAY_TIMEOUT,
            Refusal::NoProcess { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooManyRequests { .. } => StatusCode::LOOP_DETECTED,
            Refusal::BodyTooLong { .. }
            | Refusal::VariablesTooLong { .. }
            | Refusal::Silent { .. }
            | Refusal::Busy { .. }
            | Refusal::NotStarted { .. }
            | Refusal::Ended { .. }
            | Refusal::Malformed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the host's own page, which says nothing of the cause, as Apache's.
    pub(crate) fn page(&self) -> Response<Bytes> {
        let status = self.status();
        let page = format!(
            "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>{status}</title>\n\
             </head><body>\n<h1>{reason}</h1>\n<p>The web server answered this, not the application: the \
             terminal says why.</p>\n</body></html>\n",
            reason = status.canonical_reason().unwrap_or_default(),
        );
        let mut response = Response::new(Bytes::from(page));
        *response.status_mut() = status;
        let html = HeaderValue::from_static("text/html; charset=iso-8859-1");
        response.headers_mut().insert(CONTENT_TYPE, html);
        response
    }
}

/// What happened, the directive, and what to do.
impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::BodyTooLong { length, limit } => write!(
                formatter,
                "the body has {length} bytes, and FcgidMaxRequestLen is {limit}. Send it in pieces, or ask the \
                 host for more"
            ),
            Refusal::VariablesTooLong { length } => write!(
                formatter,
                "headers and variables have {length} bytes, and mod_fcgid sends 65535 at most. Keep less in cookies \
                 and addresses"
            ),
            Refusal::EncodedSlash => formatter.write_str(
                "the path contains %2F, and AllowEncodedSlashes is Off. Put such a value into the query string",
            ),
            Refusal::LongName { length } => write!(
                formatter,
                "a name in the path has {length} bytes, and Apache looks for a file of that name, which may have \
                 255. Put long values into the query string"
            ),
            Refusal::Silent { directive, seconds } => write!(
                formatter,
                "nothing came from the program for {seconds} s ({}), so its process is ended. Answer at once, do \
                 the work in the background, and let the page ask for the result",
                directive.name()
            ),
            Refusal::Busy { seconds } => write!(
                formatter,
                "the request took longer than {seconds} s (FcgidBusyTimeout), so the process is ended. Answer in \
                 less time, and let the page ask again"
            ),
            Refusal::NoProcess { max, seconds } => write!(
                formatter,
                "all {max} processes were busy for {seconds} s (FcgidMaxProcessesPerClass), and each serves one \
                 request at a time. Answer sooner; a response that waits for events holds a process"
            ),
            Refusal::TooManyRequests { limit } => write!(
                formatter,
                "{limit} requests of this account are in flight (EP), and CloudLinux refuses more. Answer sooner, and \
                 let pages ask less often"
            ),
            Refusal::NotStarted { why } => write!(
                formatter,
                "the program could not be started: {why}. `check` says what is wrong"
            ),
            Refusal::Ended { why } => write!(
                formatter,
                "the process ended the response before it was complete ({why}). Its log says why"
            ),
            Refusal::Malformed { why } => {
                write!(formatter, "the program did not send a response: {why}. Its log says why")
            }
        }
    }
}
