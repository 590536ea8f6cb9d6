//! Where one server is, and a stream to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use event_loop::net::{Address, Stream};
use rustix::net::sockopt;

use crate::wire::Wire;

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Socket(PathBuf),
    Tcp { name: String, address: SocketAddr },
}

impl Endpoint {
    /// Connects. `patience`: how long the server may be silent after something was written.
    pub(crate) async fn open_stream(&self, patience: Option<Duration>) -> io::Result<Wire> {
        let stream = match self {
            Endpoint::Socket(path) => Stream::connect(&Address::Unix(path.clone())).await?,
            Endpoint::Tcp { address, .. } => {
                let stream = Stream::connect(&Address::Tcp(*address)).await?;
                notice_a_dead_peer(&stream)?;
                stream
            }
        };
        Ok(Wire::new(stream, patience))
    }
}

/// Lets the kernel give up on a server whose machine has vanished: nothing else would while a response is awaited.
fn notice_a_dead_peer(stream: &Stream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    // The same for a request that is never acknowledged, in milliseconds.
    Ok(sockopt::set_tcp_user_timeout(stream, 30_000)?)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(path) => write!(formatter, "{}", path.display()),
            Endpoint::Tcp { name, address } if *name == address.ip().to_string() => {
                write!(formatter, "{address}")
            }
            Endpoint::Tcp { name, address } => {
                write!(formatter, "{name}:{} ({})", address.port(), address.ip())
            }
        }
    }
}
