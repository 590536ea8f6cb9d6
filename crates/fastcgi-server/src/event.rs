//! What a web server did, as reported to the application, and when to close.
//!
//! Produced by `connection.rs`; consumed by the caller that runs the application.

use bytes::Bytes;

use crate::bodies::Role;
use crate::error::ConnectionError;
use crate::params::Params;
use crate::record::RequestId;

/// What happened on a connection, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request with all of its parameters. It stays active until
    /// [`end_request`](crate::Connection::end_request).
    Request(Request),
    /// A request that cannot be passed on. It is active all the same: the application should respond to
    /// it and end it. Its body is not reported.
    Refused {
        /// The request.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// A part of a request's body: a slice of the input, not copied, never empty.
    Stdin {
        /// The request.
        id: RequestId,
        /// The next bytes.
        data: Bytes,
    },
    /// A request's body is complete. Not reported for authorizers, which have none.
    StdinEnd {
        /// The request.
        id: RequestId,
    },
    /// A part of the file that a filter processes: a slice of the input, not copied, never empty.
    Data {
        /// The request.
        id: RequestId,
        /// The next bytes.
        data: Bytes,
    },
    /// The file that a filter processes is complete.
    DataEnd {
        /// The request.
        id: RequestId,
    },
    /// The web server no longer wants the response (FastCGI 1.0 §5.4). The request stays active until it
    /// is ended, which should be soon; nothing more of it is reported.
    Abort {
        /// The request.
        id: RequestId,
    },
    /// The connection cannot continue. No request is active any more and no event follows; log the
    /// reason, send what is unsent, and close.
    Failed(ConnectionError),
}

/// A new request: all of its parameters, nothing of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its id on this connection.
    pub id: RequestId,
    /// The role the web server wants the application to play.
    pub role: Role,
    /// Whether the web server wants to reuse the connection (`FCGI_KEEP_CONN`, §5.1);
    /// [`close_when`](crate::Connection::close_when) takes it into account.
    pub keep_connection: bool,
    /// The parameters: CGI's variables, for the most part.
    pub params: Params,
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its parameters exceed [`Limits::params_bytes`](crate::Limits) and were discarded. In HTTP this is
    /// status 431.
    ParamsTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Whether and when the application has to close a connection (FastCGI 1.0 §3.5, §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseWhen {
    /// Not now: a request is active, or the web server wants to keep the connection.
    KeepOpen,
    /// When the rest of the input has been read and discarded. The requests have ended and their
    /// responses are queued, but the web server is still sending; closing now would reset the connection
    /// and lose responses it has not read yet. Bound this by time and bytes.
    AfterInput,
    /// As soon as everything is sent.
    Now,
}
