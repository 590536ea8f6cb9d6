//! A TCP port of 127.0.0.1 for a server that a test starts, which nobody else gets before the server listens there.
//!
//! A port that was only found to be free may be another test's a moment later; then the test talks to a server that is not
//! its own. Nothing of this ships.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

/// A port that is reserved as long as this value lives.
///
/// A socket is bound to it that does not listen. The kernel then assigns the port to nobody, neither for `bind` to port 0
/// nor for an outgoing connection, while a program that asks for it by number may still bind it and listen, if it sets
/// `SO_REUSEADDR` as servers do (socket(7)).
#[derive(Debug)]
pub struct FreePort {
    _socket: OwnedFd,
    address: SocketAddr,
}

impl FreePort {
    /// Reserves a port.
    ///
    /// # Errors
    ///
    /// If the machine has none left, or the process no descriptor.
    pub fn reserve() -> io::Result<FreePort> {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(FreePort { _socket: socket, address })
    }

    /// Returns the port with 127.0.0.1 in front of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_who_asks_for_it_by_number_gets_it() {
        let port = FreePort::reserve().unwrap();
        assert!(TcpStream::connect(port.address()).is_err(), "nobody listens there yet");

        // Neither another reservation nor a listener on any port.
        let mut others = Vec::new();
        for _ in 0..500 {
            others.push(FreePort::reserve().unwrap());
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            assert_ne!(listener.local_addr().unwrap(), port.address());
        }
        assert!(others.iter().all(|other| other.number() != port.number()));

        let server = TcpListener::bind(port.address()).unwrap();
        TcpStream::connect(port.address()).unwrap();
        drop(server);
        // A server that is started again gets it again.
        TcpListener::bind(port.address()).unwrap();
    }
}
