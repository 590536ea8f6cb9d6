//! How bytes become requests and responses become bytes, one file per transport. No transport knows
//! another.

pub(crate) mod cgi;
pub(crate) mod fastcgi;
pub(crate) mod http;
pub(crate) mod respond;
pub(crate) mod shell;
mod single;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use event_loop::net::Address;
use process::descriptors;

use crate::recovery::ReplyFormat;

/// How requests reach the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// FastCGI on the listen socket that the web server left at descriptor 0 (FastCGI 1.0 §2.2):
    /// mod_fcgid, lighttpd, spawn-fcgi, systemd.
    Spawned,
    /// FastCGI on a socket of our own: nginx, mod_proxy_fcgi, caddy, haproxy.
    FastCgi(Address),
    /// HTTP/1.1 on a socket of our own.
    Http(Address),
    /// CGI (RFC 3875): one request from environment and standard input, its response on standard output,
    /// then exit. The fallback for hosts without FastCGI.
    Cgi,
}

impl Transport {
    /// Returns how the web server that started this process means to reach it, if one did:
    /// [`Transport::Spawned`] if descriptor 0 is a listening socket, otherwise [`Transport::Cgi`] if
    /// `GATEWAY_INTERFACE` is set (RFC 3875 §4.1.4). A socket that systemd passed at descriptor 3
    /// (`LISTEN_FDS`) is moved to descriptor 0, so call this first, before anything is opened.
    ///
    /// If it returns a transport, ignore the command line: the words on a CGI program's command line are
    /// the client's (RFC 3875 §4.4), as in `/?serve`.
    ///
    /// FastCGI 1.0 §2.2 suggests `getpeername` and ENOTCONN. SO_ACCEPTCONN is more precise: an
    /// unconnected socket that does not listen reports ENOTCONN too.
    pub fn inherited() -> Option<Transport> {
        if let Err(error) = descriptors::take_from_systemd() {
            tracing::error!("Cannot take the socket passed by systemd: {error}.");
        }
        if descriptors::is_listening_socket(io::stdin().as_fd()) {
            return Some(Transport::Spawned);
        }
        std::env::var_os("GATEWAY_INTERFACE").map(|_| Transport::Cgi)
    }
}

/// What a server listens on: every transport except CGI, which has no listen socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// FastCGI on descriptor 0.
    Spawned,
    FastCgi(Address),
    Http(Address),
}

impl Transport {
    /// The format of the replies that recovery prepares.
    pub(crate) fn reply_format(&self) -> ReplyFormat {
        match self {
            Transport::Spawned | Transport::FastCgi(_) => ReplyFormat::FastCgi,
            Transport::Http(_) => ReplyFormat::Http,
            Transport::Cgi => ReplyFormat::Cgi,
        }
    }

    /// What to listen on; `None` for CGI.
    pub(crate) fn listen(self) -> Option<Listen> {
        match self {
            Transport::Spawned => Some(Listen::Spawned),
            Transport::FastCgi(address) => Some(Listen::FastCgi(address)),
            Transport::Http(address) => Some(Listen::Http(address)),
            Transport::Cgi => None,
        }
    }
}

impl From<Listen> for Transport {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Spawned => Transport::Spawned,
            Listen::FastCgi(address) => Transport::FastCgi(address),
            Listen::Http(address) => Transport::Http(address),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Transport::from(self.clone()).fmt(formatter)
    }
}

impl FromStr for Transport {
    type Err = String;

    /// Parses `fastcgi:unix:PATH`, `fastcgi:tcp:HOST:PORT` or `http:HOST:PORT`.
    fn from_str(text: &str) -> Result<Transport, String> {
        let address = |text: &str| text.parse().map_err(|error| format!("{error}"));
        if let Some(rest) = text.strip_prefix("fastcgi:") {
            address(rest).map(Transport::FastCgi)
        } else if let Some(rest) = text.strip_prefix("http:unix:") {
            address(&format!("unix:{rest}")).map(Transport::Http)
        } else if let Some(rest) = text.strip_prefix("http:") {
            address(&format!("tcp:{rest}")).map(Transport::Http)
        } else {
            Err(format!(
                "{text:?} is not a transport; write fastcgi:unix:PATH, fastcgi:tcp:HOST:PORT or \
                 http:HOST:PORT"
            ))
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Spawned => formatter.write_str("FastCGI on descriptor 0"),
            Transport::FastCgi(address) => write!(formatter, "FastCGI on {address}"),
            Transport::Http(Address::Tcp(address)) => write!(formatter, "http://{address}"),
            Transport::Http(address) => write!(formatter, "HTTP on {address}"),
            Transport::Cgi => formatter.write_str("CGI"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_parsed_and_displayed() {
        for (text, shown) in [
            ("fastcgi:unix:/run/a.sock", "FastCGI on unix:/run/a.sock"),
            ("fastcgi:tcp:127.0.0.1:9000", "FastCGI on tcp:127.0.0.1:9000"),
            ("http:127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(text.parse::<Transport>().unwrap().to_string(), shown);
        }
        assert!("ftp:x".parse::<Transport>().unwrap_err().contains("write fastcgi:unix:PATH"));
    }
}
