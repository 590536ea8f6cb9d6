//! The system calls on sockets. All sockets are created non-blocking and close-on-exec. `net/listener.rs` and
//! `net/stream.rs` decide when to use which.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::Address;

/// The longest path that fits into `sockaddr_un` with a terminating zero byte.
const UNIX_PATH_MAX: usize = 107;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Opens a stream socket for the address's family.
pub(super) fn stream_socket(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Unix(_) => AddressFamily::UNIX,
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
    };
    Ok(rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None)?)
}

/// Opens two connected unix stream sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?)
}

/// `bind(2)`.
pub(super) fn bind(fd: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    Ok(rustix::net::bind(fd, &raw_address(address)?)?)
}

/// `listen(2)`.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(fd, backlog)?)
}

/// `connect(2)`.
pub(super) fn connect(fd: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    Ok(rustix::net::connect(fd, &raw_address(address)?)?)
}

/// Converts an address to the kernel's form.
fn raw_address(address: &Address) -> io::Result<SocketAddrAny> {
    Ok(match address {
        Address::Tcp(address) => (*address).into(),
        Address::Unix(path) => unix_address(path)?.into(),
    })
}

fn unix_address(path: &Path) -> io::Result<SocketAddrUnix> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > UNIX_PATH_MAX || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} cannot be a socket's path: it must have 1 to {UNIX_PATH_MAX} bytes and no zero byte, and has {} bytes",
                path.display(),
                bytes.len(),
            ),
        ));
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// `accept4(2)` without the peer's address.
#[inline]
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(fd, FLAGS)?)
}

/// `accept4(2)` with the peer's address if it is TCP.
pub(super) fn accept_with_peer(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (accepted, peer) = rustix::net::acceptfrom_with(fd, FLAGS)?;
    Ok((accepted, peer.and_then(|peer| peer.try_into().ok())))
}

/// Returns the socket's address family.
pub(super) fn family(fd: BorrowedFd<'_>) -> io::Result<AddressFamily> {
    Ok(rustix::net::getsockname(fd)?.address_family())
}

/// Returns the address that the socket is bound to.
pub(super) fn local_address(fd: BorrowedFd<'_>) -> io::Result<Address> {
    decode(rustix::net::getsockname(fd)?)
}

/// Returns the peer's address.
pub(super) fn peer_address(fd: BorrowedFd<'_>) -> io::Result<Address> {
    match rustix::net::getpeername(fd)? {
        Some(name) => decode(name),
        None => Ok(Address::Unix(Path::new("").into())),
    }
}

fn decode(name: SocketAddrAny) -> io::Result<Address> {
    match name.address_family() {
        AddressFamily::UNIX => {
            let unix = SocketAddrUnix::try_from(name)?;
            let bytes = match (unix.path_bytes(), unix.abstract_name()) {
                (Some(path), _) => path.to_vec(),
                (None, Some(name)) => [b"\0", name].concat(),
                (None, None) => Vec::new(),
            };
            Ok(Address::Unix(OsString::from_vec(bytes).into()))
        }
        AddressFamily::INET | AddressFamily::INET6 => Ok(Address::Tcp(name.try_into()?)),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the socket is neither a unix nor a TCP one",
        )),
    }
}

/// Returns whether the socket listens (`SO_ACCEPTCONN`).
pub(super) fn accepts_connections(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(fd)?)
}

/// Takes the socket's pending error (`SO_ERROR`): the result of a connect.
pub(super) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// Sets TCP_NODELAY; connections accepted from a listener inherit it.
pub(super) fn set_no_delay(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(fd, true)?)
}

/// Returns whether TCP_NODELAY is set.
#[cfg(test)]
pub(super) fn no_delay(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sockopt::tcp_nodelay(fd)?)
}

/// Sets SO_REUSEADDR: a server may bind again while old connections are in TIME_WAIT.
pub(super) fn set_reuse_address(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(fd, true)?)
}

/// `shutdown(2)` for writing: the peer reads end-of-file.
pub(super) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, Shutdown::Write)?)
}

/// `shutdown(2)` for reading: a listening unix socket refuses connects from now on.
pub(super) fn shutdown_read(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, Shutdown::Read)?)
}

/// `poll(2)` without waiting: returns whether a read, or an accept, would find something.
pub(super) fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut entries = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    poll(&mut entries, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(entries[0].revents().contains(PollFlags::IN))
}
