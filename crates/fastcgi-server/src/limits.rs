//! The size limits of a connection, each with its unit, default and reason.
//!
//! They bound what a web server, or a client posing as one, can make a connection hold. What the
//! *application* has unsent is not limited here: it checks
//! [`Connection::unsent`](crate::Connection::unsent) and stops writing.

/// What one connection accepts. The defaults suit a site behind any known web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of bytes of one request's PARAMS stream, lengths included. Default: 128 KiB.
    ///
    /// A larger request is reported as [`Event::Refused`](crate::Event::Refused), for the
    /// application to respond to. Memory for it is allocated as the bytes arrive, so a high limit costs
    /// nothing until it is used. Others: mod_fcgid sends at most 65,535 bytes; nginx takes
    /// 4 × 8 KiB of request header, Apache about 100 fields of 8 KiB, lighttpd 8 KiB, haproxy
    /// 16 KiB; PHP has no limit. Twice what mod_fcgid can send leaves room for all of them.
    pub params_bytes: usize,

    /// The maximum number of requests active at once on one connection. Default: 64.
    ///
    /// One more is answered with OVERLOADED or, if this is 1, with CANT_MPX_CONN (FastCGI 1.0 §5.5);
    /// GET_VALUES tells the web server beforehand (§4.1). Others: only haproxy multiplexes (`max-reqs`,
    /// default 1); HTTP/2 servers allow 100 to 128 streams. A request costs 48 bytes plus its parameters.
    pub requests_per_connection: u16,

    /// The number of connections that the application claims to accept in replies to GET_VALUES
    /// (`FCGI_MAX_CONNS`; multiplied by `requests_per_connection` it is `FCGI_MAX_REQS`). Default: 1,024.
    ///
    /// Only announced, not enforced: a connection does not know about the others.
    pub connections: u32,

    /// The maximum number of bytes of unread replies that the connection makes by itself (to GET_VALUES, to unknown
    /// types, to requests it refuses). Default: 32 KiB.
    ///
    /// Beyond it the connection fails: a peer that sends a thousand queries and never reads does not want
    /// replies. At most twice this is held. An ordinary web server asks once and gets 60 bytes.
    pub reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            params_bytes: 128 * 1024,
            requests_per_connection: 64,
            connections: 1024,
            reply_bytes: 32 * 1024,
        }
    }
}
