//! What a web server did, as the application hears it, and when to close.
//!
//! Made in `connection.rs`; consumed by whoever runs the application.

use bytes::Bytes;

use crate::bodies::Role;
use crate::error::ConnectionError;
use crate::params::Params;
use crate::record::RequestId;

/// What happened on a connection, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request with the whole of its parameters. It stays active until
    /// [`end_request`](crate::Connection::end_request).
    Request(Request),
    /// A request that cannot be handed over. It is active all the same: the application should
    /// answer it and end it. Its body is not reported.
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
    /// A part of the file a filter works on: a slice of the input, not copied, never empty.
    Data {
        /// The request.
        id: RequestId,
        /// The next bytes.
        data: Bytes,
    },
    /// The file a filter works on is complete.
    DataEnd {
        /// The request.
        id: RequestId,
    },
    /// The web server no longer wants the answer (FastCGI 1.0 §5.4). The request stays active
    /// until it is ended, which should be soon; nothing more is reported of it.
    Abort {
        /// The request.
        id: RequestId,
    },
    /// The connection cannot go on. No request is active any more, no event follows; write the
    /// reason to the log, send what is unsent, close.
    Failed(ConnectionError),
}

/// A request as it begins: all of its parameters, nothing of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to call it on this connection.
    pub id: RequestId,
    /// What the web server wants the application to be.
    pub role: Role,
    /// Whether the web server wants to use the connection again (`FCGI_KEEP_CONN`, §5.1);
    /// [`close_when`](crate::Connection::close_when) minds it.
    pub keep_connection: bool,
    /// The parameters, by and large CGI's variables.
    pub params: Params,
}

/// Why a request is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its parameters have more bytes than [`Limits::params_bytes`](crate::Limits). They were
    /// thrown away; HTTP calls this 431.
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
    /// When the rest of the input has been read and thrown away. The requests are over and
    /// their answers queued, but the web server is still sending; to close on it would take back
    /// answers that it has not read yet. Bound this by time and bytes.
    AfterInput,
    /// As soon as everything unsent is sent.
    Now,
}
