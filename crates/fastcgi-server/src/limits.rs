//! The sizes a connection keeps to, each with its unit, its default and the reason for it.
//!
//! They bound what a web server, or whoever pretends to be one, can make a connection hold. What
//! the *application* has unsent is not limited here: it asks
//! [`Connection::unsent`](crate::Connection::unsent) and stops writing.

/// What one connection accepts. The defaults suit a site behind any web server we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one request's PARAMS stream, lengths included. Default: 128 KiB.
    ///
    /// A request over it is reported as [`Event::Refused`](crate::Event::Refused), for the
    /// application to answer. Memory for it is taken as the bytes come in, so a high limit costs
    /// nothing until it is used. Neighbours: mod_fcgid sends at most 65,535 bytes; nginx takes
    /// 4 × 8 KiB of request header, Apache about 100 fields of 8 KiB, lighttpd 8 KiB, haproxy
    /// 16 KiB; PHP has no limit. Twice what mod_fcgid can send leaves room for all of them.
    pub params_bytes: usize,

    /// The most requests active at once on one connection. Default: 64.
    ///
    /// One more is answered with OVERLOADED, or, when this is 1, with CANT_MPX_CONN (FastCGI 1.0
    /// §5.5); GET_VALUES tells the web server beforehand (§4.1). Neighbours: only haproxy
    /// multiplexes (`max-reqs`, default 1); HTTP/2 servers allow 100 to 128 streams. A request
    /// costs 48 bytes and its parameters.
    pub requests_per_connection: u16,

    /// The number of connections the application says it takes, in answers to GET_VALUES
    /// (`FCGI_MAX_CONNS`; times `requests_per_connection` it is `FCGI_MAX_REQS`). Default: 1,024.
    ///
    /// Only told, not kept: a connection knows nothing of the others.
    pub connections: u32,

    /// The most bytes of answers that the connection gives by itself (to GET_VALUES, to unknown
    /// types, to requests it refuses) and that the web server has not read. Default: 32 KiB.
    ///
    /// Beyond it the connection fails: a peer that asks a thousand times and never reads wants no
    /// answer. At most twice this is held. An ordinary web server asks once and gets 60 bytes.
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
