//! How bytes become requests and responses become bytes: a file per transport, the larger ones with a folder.
//! No transport knows another. Where to add one: docs/architecture.md.

pub(crate) mod cgi;
pub(crate) mod fastcgi;
pub(crate) mod http;
pub(crate) mod linger;
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

/// What a server listens on and speaks there: every transport except CGI, which has no listen socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) protocol: Protocol,
    pub(crate) at: ListenAt,
}

/// What is spoken on a connection.
// A transport with a listen socket is added here, as a file beside `http.rs`, and wherever the compiler then asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// FastCGI 1.0.
    FastCgi,
    /// HTTP/1.1.
    Http,
}

/// Which socket is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt {
    /// The one that a web server left at descriptor 0.
    Stdin,
    /// One of our own.
    Address(Address),
}

impl Transport {
    /// What to listen on; `None` for CGI.
    pub(crate) fn listen(self) -> Option<Listen> {
        let (protocol, at) = match self {
            Transport::Spawned => (Protocol::FastCgi, ListenAt::Stdin),
            Transport::FastCgi(address) => (Protocol::FastCgi, ListenAt::Address(address)),
            Transport::Http(address) => (Protocol::Http, ListenAt::Address(address)),
            Transport::Cgi => return None,
        };
        Some(Listen { protocol, at })
    }

    /// The format of the replies that recovery prepares.
    pub(crate) fn reply_format(&self) -> ReplyFormat {
        match self {
            Transport::Spawned | Transport::FastCgi(_) => Protocol::FastCgi.reply_format(),
            Transport::Http(_) => Protocol::Http.reply_format(),
            Transport::Cgi => ReplyFormat::Cgi,
        }
    }
}

impl Protocol {
    /// The format of the replies that recovery prepares.
    pub(crate) fn reply_format(self) -> ReplyFormat {
        match self {
            Protocol::FastCgi => ReplyFormat::FastCgi,
            Protocol::Http => ReplyFormat::Http,
        }
    }
}

impl Listen {
    /// Whether the listen socket came at descriptor 0, from a web server that has spawned this process.
    pub(crate) fn is_on_stdin(&self) -> bool {
        self.at == ListenAt::Stdin
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::FastCgi => "FastCGI",
            Protocol::Http => "HTTP",
        };
        match (self.protocol, &self.at) {
            (Protocol::Http, ListenAt::Address(Address::Tcp(address))) => {
                write!(formatter, "http://{address}")
            }
            (_, ListenAt::Address(address)) => write!(formatter, "{protocol} on {address}"),
            (_, ListenAt::Stdin) => write!(formatter, "{protocol} on descriptor 0"),
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    /// Parses `fastcgi:unix:PATH`, `fastcgi:tcp:HOST:PORT`, `http:unix:PATH` or `http:HOST:PORT`.
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
                "{text:?} is not a transport; write fastcgi:unix:PATH, fastcgi:tcp:HOST:PORT, \
                 http:HOST:PORT or http:unix:PATH"
            ))
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clone().listen() {
            Some(listen) => listen.fmt(formatter),
            None => formatter.write_str("CGI"),
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
            ("http:unix:/run/a.sock", "HTTP on unix:/run/a.sock"),
        ] {
            assert_eq!(text.parse::<Transport>().unwrap().to_string(), shown);
        }
        assert!("ftp:x".parse::<Transport>().unwrap_err().contains("write fastcgi:unix:PATH"));
    }
}
