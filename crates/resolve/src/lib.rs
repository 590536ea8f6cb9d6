//! The addresses of a host name, without blocking the loop.
//!
//! The C library's resolver blocks, and reads configuration of the host that a resolver of ours would have to
//! understand. So a child calls it. It works in a static program, too, where glibc (since 2.34) has the sources `files`
//! and `dns` built in.
//!
//! *Absent on purpose*: a cache. What connects knows how long it may use an address.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use process::{Failure, Limits, compute};

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Returns the addresses of `name`, at least one and at most [`MAX_ADDRESSES`], in the order in which they should be
/// tried. An address in place of a name, `localhost` and the names below it (RFC 6761 §6.3) need no child.
///
/// # Errors
///
/// If there is no such name, no name server has answered in time, or no child can be created: in a process with several
/// threads, never.
pub async fn resolve(
    name: &str,
    port: u16,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]);
    }
    let limits = Limits { wall: timeout, ..LIMITS };
    let answer = compute(limits, || look_up(name, port).into_bytes()).await;
    let problem = match answer.map(String::from_utf8) {
        Ok(Ok(answer)) => match answer.lines().map(str::parse).collect::<Result<Vec<_>, _>>() {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            Ok(_) => "it has no address".to_owned(),
            Err(_) => answer,
        },
        Ok(Err(error)) => error.to_string(),
        Err(Failure::WallTime(limit)) => {
            format!("no name server answered within {} s", limit.as_secs_f64())
        }
        Err(failure) => failure.to_string(),
    };
    Err(ResolveError { name: name.to_owned(), problem })
}

/// The most addresses that are returned: each may take the whole time that connecting may take.
pub const MAX_ADDRESSES: usize = 4;

const LIMITS: Limits = Limits { cpu: Duration::from_secs(2), memory: 64 << 20, ..Limits::DEFAULT };

/// Returns the addresses, one a line, or what went wrong.
fn look_up(name: &str, port: u16) -> String {
    match (name, port).to_socket_addrs() {
        Ok(addresses) => addresses.take(MAX_ADDRESSES).fold(String::new(), |mut lines, address| {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{address}");
            lines
        }),
        Err(error) => {
            let text = error.to_string();
            let prefix = "failed to lookup address information: ";
            text.strip_prefix(prefix).unwrap_or(&text).to_owned()
        }
    }
}

/// Why a name has no address. As text: a sentence without a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    /// The name.
    pub name: String,
    /// What went wrong.
    pub problem: String,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the host name {} has no known address: {}", self.name, self.problem)
    }
}

impl std::error::Error for ResolveError {}
