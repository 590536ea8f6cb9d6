//! The addresses of listeners and streams. Names are not resolved, because that would block the loop.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a stream socket.
///
/// As text: `unix:PATH` or `tcp:HOST:PORT`, where HOST is an IP address (IPv6 in brackets) or `localhost`, which
/// means 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A unix socket by the path of its file: at most 107 bytes. Empty for an unnamed socket.
    Unix(PathBuf),
    /// An IPv4 or IPv6 address and port.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let failed = |problem| Err(AddressError { text: text.to_owned(), problem });
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return failed("the path is missing");
            }
            return Ok(Address::Unix(path.into()));
        }
        let Some(host_and_port) = text.strip_prefix("tcp:") else {
            return failed("it starts with neither unix: nor tcp:");
        };
        if let Some(port) = host_and_port.strip_prefix("localhost:") {
            return match port.parse() {
                Ok(port) => Ok(Address::Tcp((Ipv4Addr::LOCALHOST, port).into())),
                Err(_) => failed("the port is not a number from 0 to 65535"),
            };
        }
        match host_and_port.parse() {
            Ok(address) => Ok(Address::Tcp(address)),
            Err(_) => failed("HOST must be an IP address or localhost, PORT a number up to 65535"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Address::Tcp(address) => write!(formatter, "tcp:{address}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    text: String,
    problem: &'static str,
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} is not an address: {}. Write unix:PATH or tcp:HOST:PORT",
            self.text, self.problem
        )
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, written) in [
            ("unix:/run/toolshed.sock", "unix:/run/toolshed.sock"),
            ("unix:relative", "unix:relative"),
            ("tcp:127.0.0.1:9000", "tcp:127.0.0.1:9000"),
            ("tcp:localhost:80", "tcp:127.0.0.1:80"),
            ("tcp:[::1]:9000", "tcp:[::1]:9000"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written, "{text}");
            assert_eq!(address.to_string().parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn errors_name_the_problem_and_the_syntax() {
        for (text, problem) in [
            ("", "neither"),
            ("/run/toolshed.sock", "neither"),
            ("unix:", "path is missing"),
            ("tcp:9000", "IP address"),
            ("tcp:example.org:80", "IP address"),
            ("tcp:localhost:99999", "port"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains("unix:PATH or tcp:HOST:PORT"), "{text}: {error}");
        }
    }
}
