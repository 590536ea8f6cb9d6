//! System calls: this file and the folder `sys/` hold the only unsafe code of what ships.
//!
//! Here is what reading, sockets, the poll set and signals need; `sys/fork.rs` makes child processes,
//! `sys/exec.rs` becomes another program, `sys/start.rs` takes what a process is started with.
//! Safe functions go out; each checks the return value once and turns errno into an [`io::Error`]. No
//! policy lives here: who registers, retries or waits is decided by `source.rs`, `net/`, `pipe.rs`,
//! `signals.rs`, `process.rs` and `descriptors.rs`. Everything works on Linux 3.10.
#![allow(unsafe_code)]

pub(crate) mod exec;
pub(crate) mod fatal;
mod fork;
pub(crate) mod interval;
mod mapping;
pub(crate) mod memory;
pub(crate) mod start;
pub(crate) mod unblocked;

use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use bytes::BytesMut;

pub(crate) use fork::*;

// ---------------------------------------------------------------------------------------------------
// Reading and writing.

/// Reads into the spare capacity and lengthens `buffer` by what was read, which is returned.
pub(crate) fn read_into_bytes(fd: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let read = read_uninit(fd, buffer.spare_capacity_mut())?;
    // SAFETY: read_uninit has initialised `read` bytes right behind the present length, within capacity.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// Reads into the unfilled part and advances the buffer by what was read, which is returned.
pub(crate) fn read_into_read_buf(
    fd: BorrowedFd<'_>,
    buffer: &mut tokio::io::ReadBuf<'_>,
) -> io::Result<usize> {
    // SAFETY: read_uninit never de-initialises a byte: it only has the kernel write some.
    let read = read_uninit(fd, unsafe { buffer.unfilled_mut() })?;
    // SAFETY: the first `read` bytes of the unfilled part have just been written by the kernel.
    unsafe { buffer.assume_init(read) };
    buffer.advance(read);
    Ok(read)
}

/// Reads into the cursor and advances it by what was read, which is returned.
pub(crate) fn read_into_cursor(
    fd: BorrowedFd<'_>,
    cursor: &mut hyper::rt::ReadBufCursor<'_>,
) -> io::Result<usize> {
    // SAFETY: read_uninit never de-initialises a byte: it only has the kernel write some.
    let read = read_uninit(fd, unsafe { cursor.as_mut() })?;
    // SAFETY: the first `read` bytes of the cursor have just been written by the kernel.
    unsafe { cursor.advance(read) };
    Ok(read)
}

/// `read(2)`; on success so many bytes at the start of `buffer` are initialised.
fn read_uninit(fd: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one exclusively borrowed slice, and the kernel only writes.
    check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// `write(2)` for one slice, `writev(2)` for more; slices beyond the system's 1,024 wait for the next call.
pub(crate) fn write_slices(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    check_size(match slices {
        [] => 0,
        // SAFETY: pointer and length are those of one borrowed slice, and the kernel only reads.
        [one] => unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) },
        // SAFETY: std promises that IoSlice has the layout of iovec; the count is within the slice.
        many => unsafe {
            let count = many.len().min(libc::UIO_MAXIOV as usize);
            libc::writev(fd.as_raw_fd(), many.as_ptr().cast(), count as c_int)
        },
    })
}

/// `pipe2(2)`, both ends close-on-exec and non-blocking: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors that pipe2 writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: pipe2 succeeded: both are open descriptors that nobody else knows.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

// ---------------------------------------------------------------------------------------------------
// Descriptors.

/// Sets O_NONBLOCK on the open file that `fd` refers to (all its duplicates share the flag).
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: F_SETFL takes an integer and touches no memory.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// Sets FD_CLOEXEC on `fd`.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(())
}

/// Says whether `fd` is close-on-exec and whether it is non-blocking.
#[cfg(test)]
pub(crate) fn flags(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    // SAFETY: F_GETFD takes no argument and touches no memory.
    let descriptor = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) })?;
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let file = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok((descriptor & libc::FD_CLOEXEC != 0, file & libc::O_NONBLOCK != 0))
}

/// Duplicates `fd` to the lowest free close-on-exec descriptor that is at least `at_least`.
pub(crate) fn duplicate_high(fd: BorrowedFd<'_>, at_least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory.
    let high = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, at_least) })?;
    // SAFETY: fcntl succeeded: `high` is an open descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// Tries to get the exclusive `flock(2)` of an open file or folder; it is given back when all descriptors
/// of that open file are closed.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: flock takes integers alone.
    check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(())
}

/// One of the three descriptors that every process has and nobody owns.
#[derive(Clone, Copy)]
pub(crate) enum Standard {
    Input = 0,
    Output = 1,
    Error = 2,
}

/// Makes a standard descriptor a duplicate of `from`; it is inherited by children, as it should be.
pub(crate) fn replace_standard(which: Standard, from: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        // SAFETY: 0, 1 and 2 belong to the process, not to an OwnedFd; std treats them as replaceable.
        match check(unsafe { libc::dup2(from.as_raw_fd(), which as c_int) }) {
            Ok(_) => return Ok(()),
            // EBUSY: another thread is just opening a file at that number (Linux).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Sockets.

/// Where a socket is bound, or who is at its other end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SocketName {
    /// The path; empty for a socket without a name; starting with a zero byte for an abstract one.
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// Some other address family.
    Other,
}

/// The longest path that fits into `sockaddr_un`, with its zero byte left over.
pub(crate) const UNIX_PATH_MAX: usize = 107;

/// An address as the kernel wants it.
struct RawName {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl RawName {
    fn empty() -> Self {
        RawName {
            // SAFETY: sockaddr_storage is plain integers, for which all-zero is a value.
            storage: unsafe { mem::zeroed() },
            length: size::<libc::sockaddr_storage>(),
        }
    }

    fn unix(path: &Path) -> io::Result<Self> {
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
        let mut name = RawName::empty();
        // SAFETY: sockaddr_storage is large enough and aligned for every sockaddr type.
        let unix = unsafe { &mut *(&raw mut name.storage).cast::<libc::sockaddr_un>() };
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in unix.sun_path.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        name.length =
            (mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1) as libc::socklen_t;
        Ok(name)
    }

    fn tcp(address: &SocketAddr) -> Self {
        let mut name = RawName::empty();
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: sockaddr_storage is large enough and aligned for every sockaddr type.
                let v4 = unsafe { &mut *(&raw mut name.storage).cast::<libc::sockaddr_in>() };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = address.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                name.length = size::<libc::sockaddr_in>();
            }
            SocketAddr::V6(address) => {
                // SAFETY: sockaddr_storage is large enough and aligned for every sockaddr type.
                let v6 = unsafe { &mut *(&raw mut name.storage).cast::<libc::sockaddr_in6>() };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = address.port().to_be();
                v6.sin6_addr.s6_addr = address.ip().octets();
                v6.sin6_flowinfo = address.flowinfo();
                v6.sin6_scope_id = address.scope_id();
                name.length = size::<libc::sockaddr_in6>();
            }
        }
        name
    }

    fn of(address: &crate::net::Address) -> io::Result<Self> {
        match address {
            crate::net::Address::Unix(path) => RawName::unix(path),
            crate::net::Address::Tcp(address) => Ok(RawName::tcp(address)),
        }
    }

    fn decode(&self) -> SocketName {
        match c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the kernel says that this is an IPv4 address; the storage is initialised.
                let v4 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                SocketName::Tcp(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the kernel says that this is an IPv6 address; the storage is initialised.
                let v6 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                SocketName::Tcp(
                    SocketAddrV6::new(
                        Ipv6Addr::from(v6.sin6_addr.s6_addr),
                        u16::from_be(v6.sin6_port),
                        v6.sin6_flowinfo,
                        v6.sin6_scope_id,
                    )
                    .into(),
                )
            }
            libc::AF_UNIX => {
                // SAFETY: the kernel says that this is a unix address; the storage is initialised.
                let unix = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_un>() };
                let length = (self.length as usize)
                    .saturating_sub(mem::offset_of!(libc::sockaddr_un, sun_path))
                    .min(unix.sun_path.len());
                let mut bytes: Vec<u8> =
                    unix.sun_path[..length].iter().map(|byte| *byte as u8).collect();
                // A path ends at its zero byte; the name of an abstract socket begins with one.
                if bytes.first() != Some(&0) {
                    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(length));
                }
                SocketName::Unix(std::ffi::OsString::from_vec(bytes).into())
            }
            _ => SocketName::Other,
        }
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    fn pointer_mut(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }
}

/// Opens a stream socket for the address's family, non-blocking and close-on-exec.
pub(crate) fn stream_socket(address: &crate::net::Address) -> io::Result<OwnedFd> {
    let family = match address {
        crate::net::Address::Unix(_) => libc::AF_UNIX,
        crate::net::Address::Tcp(SocketAddr::V4(_)) => libc::AF_INET,
        crate::net::Address::Tcp(SocketAddr::V6(_)) => libc::AF_INET6,
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes integers alone.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: socket succeeded: `fd` is an open descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens two connected unix stream sockets, non-blocking and close-on-exec.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `ends` has room for the two descriptors that socketpair writes.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: socketpair succeeded: both are open descriptors that nobody else knows.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// `bind(2)`.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &crate::net::Address) -> io::Result<()> {
    let name = RawName::of(address)?;
    // SAFETY: pointer and length describe the initialised `name`.
    check(unsafe { libc::bind(fd.as_raw_fd(), name.pointer(), name.length) })?;
    Ok(())
}

/// `listen(2)`.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: c_int) -> io::Result<()> {
    // SAFETY: listen takes integers alone.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(())
}

/// `connect(2)`.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &crate::net::Address) -> io::Result<()> {
    let name = RawName::of(address)?;
    // SAFETY: pointer and length describe the initialised `name`.
    check(unsafe { libc::connect(fd.as_raw_fd(), name.pointer(), name.length) })?;
    Ok(())
}

/// `accept4(2)`: a non-blocking, close-on-exec connection, without asking who is at the other end.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (name, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: accept4 allows null pointers for an address that nobody wants.
    let fd = check(unsafe { libc::accept4(fd.as_raw_fd(), name, length, flags) })?;
    // SAFETY: accept4 succeeded: `fd` is an open descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `accept4(2)`: a non-blocking, close-on-exec connection and who is at its other end.
pub(crate) fn accept_with_name(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketName)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut name = RawName::empty();
    let length = &raw mut name.length;
    // SAFETY: pointer and length describe `name`, which outlives the call.
    let fd = check(unsafe { libc::accept4(fd.as_raw_fd(), name.pointer_mut(), length, flags) })?;
    // SAFETY: accept4 succeeded: `fd` is an open descriptor that nobody else knows.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, name.decode()))
}

/// Returns where the socket is bound.
pub(crate) fn local_name(fd: BorrowedFd<'_>) -> io::Result<SocketName> {
    let mut name = RawName::empty();
    let length = &raw mut name.length;
    // SAFETY: pointer and length describe `name`, which outlives the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), name.pointer_mut(), length) })?;
    Ok(name.decode())
}

/// Returns who is at the socket's other end.
pub(crate) fn peer_name(fd: BorrowedFd<'_>) -> io::Result<SocketName> {
    let mut name = RawName::empty();
    let length = &raw mut name.length;
    // SAFETY: pointer and length describe `name`, which outlives the call.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), name.pointer_mut(), length) })?;
    Ok(name.decode())
}

/// Says whether the socket listens (`SO_ACCEPTCONN`).
pub(crate) fn accepts_connections(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(socket_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// Takes the socket's pending error (`SO_ERROR`), which tells how a connect ended.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    match socket_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Sets TCP_NODELAY; connections accepted from a listener inherit it.
pub(crate) fn set_no_delay(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_socket_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)
}

/// Says whether TCP_NODELAY is set.
#[cfg(test)]
pub(crate) fn no_delay(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(socket_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)? != 0)
}

/// Sets SO_REUSEADDR: a server may bind again while old connections linger.
pub(crate) fn set_reuse_address(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_socket_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)
}

/// `shutdown(2)` for writing: the other end reads an end of stream.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: shutdown takes integers alone.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) })?;
    Ok(())
}

/// `shutdown(2)` for reading: a listening unix socket refuses connects from now on.
pub(crate) fn shutdown_read(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: shutdown takes integers alone.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RD) })?;
    Ok(())
}

/// `poll(2)` without waiting: whether reading, or accepting, would find something.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    let count = check(unsafe { libc::poll(&raw mut entry, 1, 0) })?;
    Ok(count > 0 && entry.revents & libc::POLLIN != 0)
}

fn socket_option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size::<c_int>();
    let pointer = (&raw mut value).cast();
    // SAFETY: the option is an int; pointer and length describe `value`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, pointer, &raw mut length) })?;
    Ok(value)
}

fn set_socket_option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<()> {
    let value: c_int = 1;
    let pointer = (&raw const value).cast();
    // SAFETY: the option is an int; pointer and length describe `value`.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, size::<c_int>()) })?;
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// Epoll: mio registers edge-triggered alone, and a listener wants to be asked again and again.

/// Adds `fd` to the poll set, level-triggered, for reading and for the news that it was shut down.
pub(crate) fn epoll_add_level(epoll: RawFd, fd: RawFd, token: mio::Token) -> io::Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
    let mut event = libc::epoll_event { events, u64: token.0 as u64 };
    // SAFETY: `event` is initialised and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

/// Takes `fd` out of the poll set.
pub(crate) fn epoll_remove(epoll: RawFd, fd: RawFd) -> io::Result<()> {
    // Kernels before 2.6.9 wanted a pointer here; giving one costs nothing.
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is initialised and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, &raw mut event) })?;
    Ok(())
}

/// Lets tokio tell when there is something to read from `fd`.
#[cfg(feature = "tokio")]
pub(crate) fn watch_in_tokio(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    let interest = tokio::io::Interest::READABLE;
    // SAFETY: the AsyncFd owns the descriptor, which stays open and the same until it is dropped.
    Ok(unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, interest) }?)
}

// ---------------------------------------------------------------------------------------------------
// Signals.

/// How many loops of one process can listen to signals at a time. The program has one loop; test programs
/// run one in each of their threads.
const MAILBOXES: usize = 64;

/// The classic signals are 1 to 31; real-time signals are not for us.
const SIGNAL_NUMBERS: usize = 32;

/// Where the signal handler leaves its news for one loop.
struct Mailbox {
    /// A loop uses this mailbox.
    taken: AtomicBool,
    /// The loop wants to be woken for these: bit number = signal number.
    interest: AtomicU32,
    /// Write end of the self-pipe; -1 before the mailbox was used for the first time. Never closed
    /// again: the handler must not write into a descriptor that has become somebody else's.
    doorbell: AtomicI32,
    /// Read end of the self-pipe.
    door: AtomicI32,
    /// How often each signal came and was not taken yet.
    letters: [AtomicU32; SIGNAL_NUMBERS],
}

static POST: [Mailbox; MAILBOXES] = [const {
    Mailbox {
        taken: AtomicBool::new(false),
        interest: AtomicU32::new(0),
        doorbell: AtomicI32::new(-1),
        door: AtomicI32::new(-1),
        letters: [const { AtomicU32::new(0) }; SIGNAL_NUMBERS],
    }
}; MAILBOXES];

/// The one signal handler. It adds to atomic numbers and writes a byte to each interested self-pipe: both
/// are async-signal-safe. A full pipe refuses the byte, which is well: the bell has rung already.
extern "C" fn on_signal(signal: c_int) {
    // SAFETY: errno's address is always valid for the running thread.
    let errno = unsafe { *libc::__errno_location() };
    for mailbox in &POST {
        let letter = mailbox.letters.get(signal as usize);
        if let Some(letter) = letter
            && mailbox.interest.load(Ordering::Relaxed) & (1 << signal) != 0
        {
            letter.fetch_add(1, Ordering::Release);
            let doorbell = mailbox.doorbell.load(Ordering::Acquire);
            // SAFETY: the pointer is to one static byte; write is async-signal-safe.
            unsafe { libc::write(doorbell, b"!".as_ptr().cast(), 1) };
        }
    }
    // SAFETY: as above; the interrupted code finds its errno as it left it.
    unsafe { *libc::__errno_location() = errno };
}

/// One loop's claim on a mailbox and its self-pipe.
pub(crate) struct SelfPipe {
    mailbox: &'static Mailbox,
}

impl SelfPipe {
    /// Claims a mailbox; its pipe is made at the first use of the mailbox.
    pub(crate) fn claim() -> io::Result<Self> {
        let free = |mailbox: &&Mailbox| !mailbox.taken.swap(true, Ordering::AcqRel);
        let Some(mailbox) = POST.iter().find(free) else {
            let message =
                format!("{MAILBOXES} event loops of this process listen to signals already");
            return Err(io::Error::other(message));
        };
        // From here on the drop gives the mailbox back.
        let claimed = SelfPipe { mailbox };
        if mailbox.doorbell.load(Ordering::Acquire) == -1 {
            let (door, doorbell) = pipe()?;
            mailbox.door.store(std::os::fd::IntoRawFd::into_raw_fd(door), Ordering::Release);
            mailbox
                .doorbell
                .store(std::os::fd::IntoRawFd::into_raw_fd(doorbell), Ordering::Release);
        }
        claimed.empty();
        for letter in &mailbox.letters {
            letter.store(0, Ordering::Relaxed);
        }
        Ok(claimed)
    }

    /// The read end, to be put into the poll set.
    pub(crate) fn door(&self) -> BorrowedFd<'static> {
        // SAFETY: claim has made the pipe, and it is never closed.
        unsafe { BorrowedFd::borrow_raw(self.mailbox.door.load(Ordering::Acquire)) }
    }

    /// Takes all bytes out of the pipe. To be called before the letters are taken.
    pub(crate) fn empty(&self) {
        let mut bytes = [MaybeUninit::uninit(); 256];
        while let Ok(256) = read_uninit(self.door(), &mut bytes) {}
    }

    /// Says which signals shall ring: bit number = signal number.
    pub(crate) fn set_interest(&self, mask: u32) {
        self.mailbox.interest.store(mask, Ordering::Release);
    }

    /// Returns how often the signal came since this was asked last.
    pub(crate) fn take(&self, signal: c_int) -> u32 {
        match self.mailbox.letters.get(signal as usize) {
            Some(letter) => letter.swap(0, Ordering::AcqRel),
            None => 0,
        }
    }
}

impl Drop for SelfPipe {
    fn drop(&mut self) {
        self.mailbox.interest.store(0, Ordering::Release);
        self.mailbox.taken.store(false, Ordering::Release);
    }
}

/// What the process did with a signal before; see [`restore_action`].
#[derive(Debug)]
pub(crate) struct PreviousAction(libc::sigaction);

/// What the process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Default,
    Ignored,
    OurHandler,
    OtherHandler,
}

/// Lets our handler catch the signal; returns what was in force before.
pub(crate) fn catch(signal: c_int) -> io::Result<PreviousAction> {
    // SA_RESTART: a system call of a library that does not expect EINTR goes on; epoll_wait returns all
    // the same. SA_NOCLDSTOP: a child that is stopped has not ended. SA_ONSTACK: should the stack be
    // short, an alternate one is used when there is one.
    let flags = libc::SA_RESTART | libc::SA_NOCLDSTOP | libc::SA_ONSTACK;
    let handler: extern "C" fn(c_int) = on_signal;
    set_action(signal, handler as libc::sighandler_t, flags)
}

/// Lets the kernel drop the signal.
pub(crate) fn ignore(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN, 0)?;
    Ok(())
}

/// Puts back what [`catch`] replaced.
pub(crate) fn restore_action(signal: c_int, previous: &PreviousAction) -> io::Result<()> {
    // SAFETY: `previous` was filled by sigaction itself, and the handler in it was in force before.
    check(unsafe { libc::sigaction(signal, &raw const previous.0, std::ptr::null_mut()) })?;
    Ok(())
}

/// Asks what the process does with a signal.
pub(crate) fn action(signal: c_int) -> io::Result<Action> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer means: only ask; `present` has room for the answer.
    check(unsafe { libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    let present = unsafe { present.assume_init() };
    let ours: extern "C" fn(c_int) = on_signal;
    Ok(match present.sa_sigaction {
        libc::SIG_DFL => Action::Default,
        libc::SIG_IGN => Action::Ignored,
        handler if handler == ours as libc::sighandler_t => Action::OurHandler,
        _ => Action::OtherHandler,
    })
}

fn set_action(
    signal: c_int,
    handler: libc::sighandler_t,
    flags: c_int,
) -> io::Result<PreviousAction> {
    // SAFETY: sigaction is plain integers and an optional function pointer: all-zero is a value.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `new` is initialised (its mask is empty: all zero), its handler is SIG_IGN or on_signal,
    // which does async-signal-safe work alone; `previous` has room for the answer.
    check(unsafe { libc::sigaction(signal, &raw const new, previous.as_mut_ptr()) })?;
    // SAFETY: sigaction succeeded and has filled it.
    Ok(PreviousAction(unsafe { previous.assume_init() }))
}

/// Whom [`kill`] sends a signal to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Process(u32),
    /// All processes of a group, by its leader.
    Group(u32),
}

/// Sends a signal.
pub(crate) fn kill(recipient: Recipient, signal: c_int) -> io::Result<()> {
    let (Recipient::Process(number) | Recipient::Group(number)) = recipient;
    // 0 and 1 would be our own group and everybody.
    let number = match libc::pid_t::try_from(number) {
        Ok(number) if number > 1 => number,
        _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    let number = if matches!(recipient, Recipient::Group(_)) { -number } else { number };
    // SAFETY: kill takes integers alone.
    check(unsafe { libc::kill(number, signal) })?;
    Ok(())
}

/// SIGKILL, which is no signal to be listened to.
pub(crate) const KILL: c_int = libc::SIGKILL;

// ---------------------------------------------------------------------------------------------------

/// Turns the -1 of a system call into the error that errno tells.
fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that return a size.
fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The size of a type as socket calls want it.
const fn size<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Counts what the tests' threads allocate.
#[cfg(test)]
pub(crate) mod allocations {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    // SAFETY: all is left to the system's allocator; counting allocates nothing.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count();
            // SAFETY: the caller keeps the contract of alloc.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the pointer is from `alloc` above, and so from System.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            count();
            // SAFETY: the pointer is from `alloc` above, and so from System.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    fn count() {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }

    /// Returns how often this thread has allocated so far.
    pub(crate) fn so_far() -> u64 {
        COUNT.with(Cell::get)
    }
}
