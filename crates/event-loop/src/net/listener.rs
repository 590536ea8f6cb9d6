//! Listening sockets: creating them, and accepting connections.
//!
//! A listener is watched level-triggered: each wait reports whether connections are pending, so that no
//! `accept4(2)` is needed to find out that none is. [`Budget`] decides how many are accepted after each wait.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fs, process, thread};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::AddressFamily;

use super::{Address, Stream, socket};
use crate::counters::count;
use crate::descriptor_flags::{set_close_on_exec, set_nonblocking};
use crate::loop_id::LoopId;
use crate::loop_state::{no_loop, with_current, with_loop};
use crate::reactor::Waiting;
use crate::table::Key;

/// How many connections may be pending. The kernel lowers it to its own limit, `net.core.somaxconn`: 128 on old
/// kernels, 4,096 since Linux 5.4. nginx and Apache use 511.
const BACKLOG: i32 = 1024;

/// A listening unix or TCP socket. `Send`; registers with the loop of the thread that polls it.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    family: Family,
    /// Its row in a loop's source table.
    registration: Option<(LoopId, Key)>,
    budget: Budget,
    /// Whether it was shut down, by us or by another process that shares it. Atomic only so that
    /// [`stop_connects`](Self::stop_connects) can change it through a shared reference that is `Send`.
    stopped: AtomicBool,
    /// The socket's file, if the drop has to remove it.
    file: Option<SocketFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Unix,
    Tcp,
    Other,
}

impl Listener {
    /// Binds and listens, non-blocking and close-on-exec.
    ///
    /// A unix socket's file has mode 0600 before the first connect is possible. Dropping the listener removes it,
    /// if it is still the same file and this is still the same process. A stale file (a socket without a listener)
    /// is replaced. A TCP listener can bind a port with connections in TIME_WAIT (SO_REUSEADDR); its connections
    /// send small writes at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// * `AddrInUse`: another process listens there, or the path is another kind of file; the message says which.
    /// * `InvalidInput`: the path is longer than 107 bytes.
    /// * Any from `bind(2)`, with the address in the message.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let about = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        };
        match address {
            Address::Unix(path) => Self::bind_unix(address, path).map_err(about),
            Address::Tcp(_) => Self::bind_tcp(address).map_err(about),
        }
    }

    fn bind_tcp(address: &Address) -> io::Result<Self> {
        let socket = socket::stream_socket(address)?;
        socket::set_reuse_address(socket.as_fd())?;
        socket::set_no_delay(socket.as_fd())?;
        socket::bind(socket.as_fd(), address)?;
        socket::listen(socket.as_fd(), BACKLOG)?;
        Self::new(socket, Family::Tcp, None)
    }

    fn bind_unix(address: &Address, path: &Path) -> io::Result<Self> {
        let socket = socket::stream_socket(address)?;
        // Between bind and listen our file looks stale to another server that starts at the same time.
        let _lock = lock_folder(path);
        match socket::bind(socket.as_fd(), address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale_file(address, path)?;
                socket::bind(socket.as_fd(), address)?;
            }
            other => other?,
        }
        let file = SocketFile::of(path)?;
        // Nothing can connect before listen, so the mode is set in time. (umask affects the whole process.)
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket::listen(socket.as_fd(), BACKLOG)?;
        Self::new(socket, Family::Unix, Some(file))
    }

    /// Takes a socket that already listens, such as an inherited one. Makes it non-blocking and close-on-exec.
    ///
    /// Dropping the listener does not remove the socket's file. A socket of a family other than unix and TCP can be
    /// accepted from, but has no [`local_address`](Self::local_address).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the descriptor is not a listening socket; it is closed then.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        if !socket::accepts_connections(socket.as_fd()).unwrap_or(false) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a listening socket",
            ));
        }
        set_nonblocking(socket.as_fd())?;
        set_close_on_exec(socket.as_fd())?;
        let family = match socket::family(socket.as_fd())? {
            AddressFamily::UNIX => Family::Unix,
            AddressFamily::INET | AddressFamily::INET6 => Family::Tcp,
            _ => Family::Other,
        };
        if family == Family::Tcp {
            socket::set_no_delay(socket.as_fd())?;
        }
        Self::new(socket, family, None)
    }

    /// Same as [`from_fd`](Self::from_fd), for a socket that this process bound before it executed this program:
    /// dropping the listener removes its file.
    ///
    /// # Errors
    ///
    /// Same as [`from_fd`](Self::from_fd).
    pub fn from_fd_with_file(socket: OwnedFd) -> io::Result<Self> {
        let mut listener = Self::from_fd(socket)?;
        if let Ok(Address::Unix(path)) = listener.local_address() {
            // The file may have been removed: then nothing can connect to us, and there is nothing to remove.
            listener.file = SocketFile::of(&path).ok();
        }
        Ok(listener)
    }

    /// Registers at once if a loop runs: the loop then has its descriptors before connections can take the last ones.
    fn new(socket: OwnedFd, family: Family, file: Option<SocketFile>) -> io::Result<Self> {
        let fd = socket.as_raw_fd();
        let registration =
            with_current(|state| state.reactor.add_level(fd).map(|key| (state.id, key)));
        let budget = Budget::default();
        let stopped = AtomicBool::new(false);
        Ok(Listener {
            socket,
            family,
            registration: registration.transpose()?,
            budget,
            stopped,
            file,
        })
    }

    /// Returns the address it listens on; if port 0 was bound, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a family other than unix and TCP.
    pub fn local_address(&self) -> io::Result<Address> {
        socket::local_address(self.socket.as_fd())
    }

    /// Waits for a connection. A TCP connection comes with the peer's address.
    ///
    /// Connections that were closed while they were pending are skipped.
    ///
    /// # Errors
    ///
    /// * `EMFILE`, `ENFILE`, `ENOMEM`, …: the connection is still pending, and the next accept would fail at once.
    ///   Call [`pause`](Self::pause), make room or sleep, then accept again.
    /// * `NotConnected` if the listener was stopped ([`stop_connects`](Self::stop_connects), here or in a process
    ///   that shares the socket) and the last pending connection has been accepted.
    pub async fn accept(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// Waits until an accept is worth trying: connections are pending, according to the last event. For callers
    /// that have to check something between that and the accept.
    ///
    /// # Errors
    ///
    /// If the socket cannot be watched (no memory).
    pub fn poll_acceptable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.register()?;
        if self.budget.is_used_up() {
            ready!(self.poll_waiting(context))?;
            self.budget.grant();
        }
        Poll::Ready(Ok(()))
    }

    /// Same as [`accept`](Self::accept), for hand-written futures.
    ///
    /// # Errors
    ///
    /// Same as [`accept`](Self::accept).
    pub fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        loop {
            ready!(self.poll_acceptable(context))?;
            match self.accept_once() {
                Ok(Some(connection)) => {
                    self.budget.accepted();
                    return Poll::Ready(Ok(connection));
                }
                Ok(None) => self.budget.found_none(),
                Err(error) => {
                    self.budget.failed();
                    if !concerns_one_connection(&error) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Accepts a pending connection, or returns `None`. Never waits: for emptying the backlog before closing.
    ///
    /// # Errors
    ///
    /// Same as [`accept`](Self::accept), except that a stopped listener with an empty backlog returns `None`.
    pub fn accept_waiting(&mut self) -> io::Result<Option<(Stream, Option<SocketAddr>)>> {
        loop {
            match self.accept_once() {
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                other => return other,
            }
        }
    }

    /// Removes the listener from the poll set until the next accept, so that pending connections do not wake the
    /// loop. For when descriptors are short.
    pub fn pause(&mut self) {
        self.budget.use_up();
        if let Some((owner, key)) = self.registration {
            with_loop(owner, |state| state.reactor.pause_level(key));
        }
    }

    /// Returns whether a connection is pending, without accepting it.
    ///
    /// # Errors
    ///
    /// Any from `poll(2)`.
    pub fn has_waiting(&self) -> io::Result<bool> {
        socket::is_readable(self.socket.as_fd())
    }

    /// Makes the kernel refuse new connections to a unix socket; pending ones can still be accepted.
    ///
    /// Affects the socket itself, in all processes that share it.
    ///
    /// # Errors
    ///
    /// `Unsupported` for TCP, where it would drop the pending connections.
    pub fn stop_connects(&self) -> io::Result<()> {
        if self.family != Family::Unix {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only a unix socket can refuse connects and keep its backlog",
            ));
        }
        socket::shutdown_read(self.socket.as_fd())?;
        self.stopped.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn accept_once(&self) -> io::Result<Option<(Stream, Option<SocketAddr>)>> {
        count(|counters| &counters.accepts);
        let accepted = match self.family {
            Family::Tcp => socket::accept_with_peer(self.socket.as_fd())
                .map(|(socket, peer)| (Stream::accepted(socket), peer)),
            Family::Unix | Family::Other => {
                socket::accept(self.socket.as_fd()).map(|socket| (Stream::accepted(socket), None))
            }
        };
        match accepted {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                count(|counters| &counters.empty_accepts);
                if self.is_stopped() { Err(stopped_and_empty()) } else { Ok(None) }
            }
            // Some kernels return this for a socket that was shut down.
            Err(error) if self.is_stopped() && error.raw_os_error() == Some(libc::EINVAL) => {
                Err(stopped_and_empty())
            }
            Err(error) => Err(error),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Registers with this thread's loop unless that has been done.
    fn register(&mut self) -> io::Result<(LoopId, Key)> {
        if let Some(registration) = self.registration {
            return Ok(registration);
        }
        let fd = self.socket.as_raw_fd();
        let registered = with_current(|state| Ok((state.id, state.reactor.add_level(fd)?)));
        let registration = registered.unwrap_or_else(|| Err(no_loop()))?;
        self.registration = Some(registration);
        Ok(registration)
    }

    /// Waits for an event of pending connections.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (owner, key) = self.register()?;
            let polled = with_loop(owner, |state| match state.reactor.take_waiting(key)? {
                None => Some(state.reactor.wait_level(key, context.waker()).map(|()| None)),
                waiting => Some(Ok(waiting)),
            });
            match polled.flatten() {
                Some(Ok(Some(waiting))) => {
                    if waiting == Waiting::Last {
                        self.stopped.store(true, Ordering::Relaxed);
                    }
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(None)) => return Poll::Pending,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // The loop it was registered with is not this thread's.
                None => self.registration = None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((owner, key)) = self.registration {
            with_loop(owner, |state| state.reactor.remove(key));
        }
        if let Some(file) = &self.file {
            file.remove_if_ours();
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many connections are accepted after one event.
///
/// Starts with one: under light load exactly one is pending, and trying a second accept would waste a system call.
/// Doubles, up to 32, while the whole budget is used, because then more are pending. Falls back to one when an accept
/// finds none, and grows more slowly next time, so that a steady trickle of single connections wastes one accept in
/// 64, not one in two.
#[derive(Debug)]
struct Budget {
    /// What the next event grants.
    size: u32,
    /// What is left of the last grant.
    left: u32,
    /// How many grants in a row were used up at this size.
    used_up: u32,
    /// How many of those it takes to double the size.
    needed: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { size: 1, left: 0, used_up: 0, needed: 1 }
    }
}

impl Budget {
    /// Web servers use values of this order; serving 32 connections takes about 3 ms.
    const MAX_SIZE: u32 = 32;
    const MAX_NEEDED: u32 = 64;

    fn is_used_up(&self) -> bool {
        self.left == 0
    }

    fn grant(&mut self) {
        self.left = self.size;
    }

    fn use_up(&mut self) {
        self.left = 0;
    }

    fn accepted(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        if self.size > 1 {
            // Trying more than one was worthwhile.
            self.needed = 1;
        }
        self.used_up += 1;
        if self.used_up >= self.needed {
            self.used_up = 0;
            self.size = (self.size * 2).min(Self::MAX_SIZE);
        }
    }

    fn found_none(&mut self) {
        self.left = 0;
        self.used_up = 0;
        self.size = 1;
        self.needed = (self.needed * 2).min(Self::MAX_NEEDED);
    }

    fn failed(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

fn stopped_and_empty() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the listener was stopped, and its last connection has been accepted",
    )
}

/// Returns whether an error of `accept(2)` only concerns the connection that was to be accepted, so that the next
/// accept may succeed. Linux also returns network errors of the new connection here (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

/// Locks the folder until the drop, so that other servers that start at the same time do not bind in it.
///
/// Not every file system can lock a folder (NFS cannot), and another program may hold the lock for long, so this
/// continues without the lock after a while.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).ok()?;
    for _ in 0..100 {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            // Other servers hold it for about 100 µs. Sleeping is fine on startup: no loop runs yet.
            Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
            Ok(()) => break,
        }
    }
    Some(folder)
}

/// Removes a socket's file if no process listens on it.
fn remove_stale_file(address: &Address, path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Gone already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(in_use("there is a file at that path that is not a socket"));
    }
    // Does not wait: if the backlog is full, this returns EAGAIN, which means that there is a listener.
    let probe = socket::stream_socket(address)?;
    match socket::connect(probe.as_fd(), address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        _ => return Err(in_use("another process listens there")),
    }
    // Only the file that was checked: another server may have replaced it in the meantime.
    let stale =
        SocketFile { path: path.to_owned(), identity: identity(&found), creator: process::id() };
    stale.remove_if_ours();
    Ok(())
}

fn in_use(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, problem.to_owned())
}

/// A unix socket's file, with its identity, because another process may have replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// The pid of the process that created it: a forked child drops its copy too, and must not remove the file.
    creator: u32,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        // Absolute, because the working directory may change before the drop.
        let path = std::path::absolute(path)?;
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok(SocketFile { path, identity, creator: process::id() })
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    fn remove_if_ours(&self) {
        if self.creator == process::id() && self.is_still_there() {
            // If this fails, the next bind replaces the file as stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_nonblocking_close_on_exec_and_without_delay() {
        crate::run(async {
            let folder = tempfile::tempdir().unwrap();
            let unix = Address::Unix(folder.path().join("socket"));
            for address in [unix, "tcp:127.0.0.1:0".parse().unwrap()] {
                let mut listener = Listener::bind(&address).unwrap();
                let client = Stream::connect(&listener.local_address().unwrap()).await.unwrap();
                let (accepted, _) = listener.accept().await.unwrap();
                for fd in [listener.as_fd(), client.as_fd(), accepted.as_fd()] {
                    assert_eq!(
                        crate::descriptor_flags::flags(fd).unwrap(),
                        (true, true),
                        "{address}"
                    );
                }
                if matches!(address, Address::Tcp(_)) {
                    assert!(socket::no_delay(client.as_fd()).unwrap());
                    assert!(socket::no_delay(accepted.as_fd()).unwrap(), "inherited");
                }
            }
            let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut listener = Listener::from_fd(inherited.into()).unwrap();
            let _client = Stream::connect(&listener.local_address().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert!(socket::no_delay(accepted.as_fd()).unwrap());
        })
        .unwrap();
    }

    /// Handles one event with `waiting` pending connections; returns (accepts, empty accepts).
    fn handle_event(budget: &mut Budget, mut waiting: u32) -> (u32, u32) {
        let (mut accepts, mut empty) = (0, 0);
        budget.grant();
        while !budget.is_used_up() {
            if waiting > 0 {
                waiting -= 1;
                accepts += 1;
                budget.accepted();
            } else {
                empty += 1;
                budget.found_none();
            }
        }
        (accepts, empty)
    }

    #[test]
    fn many_connections_are_accepted_in_growing_batches() {
        let mut budget = Budget::default();
        let batches: Vec<u32> = (0..8).map(|_| handle_event(&mut budget, u32::MAX).0).collect();
        assert_eq!(batches, [1, 2, 4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn single_connections_cost_few_empty_accepts() {
        let mut budget = Budget::default();
        let empty: u32 = (0..10_000).map(|_| handle_event(&mut budget, 1).1).sum();
        assert!(empty <= 10_000 / 64 + 8, "{empty} empty accepts");
    }

    #[test]
    fn the_budget_grows_again_after_light_load() {
        let mut budget = Budget::default();
        for _ in 0..1_000 {
            handle_event(&mut budget, 1);
        }
        let max = (0..80).map(|_| handle_event(&mut budget, u32::MAX).0).max();
        assert_eq!(max, Some(Budget::MAX_SIZE));
    }
}
