//! Listening sockets: making them, and taking connections from them.
//!
//! A listener is watched level-triggered: the kernel tells in each look whether connections wait, so that
//! no `accept4(2)` is spent on hearing that none does. How many are taken after each look is the
//! [`Budget`]'s affair. What is done with a connection is up to the caller; it continues in `stream.rs`.

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
use rustix::net::AddressFamily;

use super::{Address, Stream, socket};
use crate::counters::count;
use crate::descriptor_flags::{set_close_on_exec, set_nonblocking};
use crate::loop_id::LoopId;
use crate::loop_state::{no_loop, with_current, with_loop};
use crate::reactor::Waiting;
use crate::table::Key;

/// How many connections may wait to be accepted. The kernel lowers it to its own limit,
/// `net.core.somaxconn`: 128 on old kernels, 4,096 since Linux 5.4. nginx asks for 511, Apache too.
const BACKLOG: i32 = 1024;

/// A listening unix or TCP socket. `Send`; of use on the thread whose loop it waits in.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    family: Family,
    /// Its row in a loop's source table.
    place: Option<(LoopId, Key)>,
    budget: Budget,
    /// It was shut down, by us or by another process that shares it. Atomic only to be changed by
    /// [`stop_connects`](Self::stop_connects) through a shared reference that may cross an await.
    stopped: AtomicBool,
    /// The socket's file, if it is ours to remove.
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
    /// A unix socket's file can be used by this account alone (mode 0600), from the first moment in which
    /// anybody can connect, and is removed when the listener is dropped, if it is still the same file and
    /// the process is still the same. A stale file (a socket that nobody listens on) is replaced. A TCP
    /// listener may take a port whose old connections linger (SO_REUSEADDR); its connections send small
    /// answers at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// * `AddrInUse`: another process listens there, or the path is some other file; the message says
    ///   which.
    /// * `InvalidInput`: the path is longer than 107 bytes.
    /// * What `bind(2)` answers, with the address in the message.
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
        // Between bind and listen our file looks stale to another server that starts just now.
        let _lock = lock_folder(path);
        match socket::bind(socket.as_fd(), address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale_file(address, path)?;
                socket::bind(socket.as_fd(), address)?;
            }
            other => other?,
        }
        let file = SocketFile::of(path)?;
        // Nobody can connect before listen: the file is private from the first moment. (umask would do it
        // in one step, but holds for the whole process.)
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket::listen(socket.as_fd(), BACKLOG)?;
        Self::new(socket, Family::Unix, Some(file))
    }

    /// Takes a socket that listens already: inherited, say. Makes it non-blocking and close-on-exec.
    ///
    /// Its file, if it has one, is left alone when the listener is dropped. A socket of another family than
    /// unix and TCP can be accepted from, but has no [`local_address`](Self::local_address).
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the descriptor is no listening socket; it is closed then.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        if !socket::accepts_connections(socket.as_fd()).unwrap_or(false) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no listening socket",
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

    /// As [`from_fd`](Self::from_fd), for a socket that this process has bound before it became this program: its file is removed when the listener is dropped.
    ///
    /// # Errors
    ///
    /// As [`from_fd`](Self::from_fd).
    pub fn from_fd_with_file(socket: OwnedFd) -> io::Result<Self> {
        let mut listener = Self::from_fd(socket)?;
        if let Ok(Address::Unix(path)) = listener.local_address() {
            // Another server may have taken the place of a file that somebody removed: nobody connects to
            // us then, and there is nothing to remove.
            listener.file = SocketFile::of(&path).ok();
        }
        Ok(listener)
    }

    /// Inside a loop it has its place there at once: what the loop needs for it, it has before the first
    /// connection, which may take the last descriptor.
    fn new(socket: OwnedFd, family: Family, file: Option<SocketFile>) -> io::Result<Self> {
        let fd = socket.as_raw_fd();
        let place = with_current(|state| state.reactor.add_level(fd).map(|key| (state.id, key)));
        let budget = Budget::default();
        let stopped = AtomicBool::new(false);
        Ok(Listener { socket, family, place: place.transpose()?, budget, stopped, file })
    }

    /// Returns where it listens; with port 0 bound, the port that the system chose.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a family other than unix and TCP.
    pub fn local_address(&self) -> io::Result<Address> {
        socket::local_address(self.socket.as_fd())
    }

    /// Waits for a connection. A TCP one comes with the address of its other end.
    ///
    /// Connections that ended while they waited are passed over.
    ///
    /// # Errors
    ///
    /// * `EMFILE`, `ENFILE`, `ENOMEM`, …: the connection still waits, and the next accept would fail again
    ///   at once. Call [`pause`](Self::pause), make room or sleep, then accept again.
    /// * `NotConnected` when the listener was stopped ([`stop_connects`](Self::stop_connects), here or in a
    ///   process that shares the socket) and the last waiting connection has been taken.
    pub async fn accept(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Waits until an accept is worth trying: connections wait, as far as the kernel has told. For whoever
    /// has to look at something between that and the accept.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched (no memory).
    pub fn poll_acceptable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.enter()?;
        if self.budget.is_used_up() {
            ready!(self.poll_waiting(cx))?;
            self.budget.grant();
        }
        Poll::Ready(Ok(()))
    }

    /// As [`accept`](Self::accept), for hand-written futures.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        loop {
            ready!(self.poll_acceptable(cx))?;
            match self.accept_once() {
                Ok(Some(connection)) => {
                    self.budget.accepted();
                    return Poll::Ready(Ok(connection));
                }
                Ok(None) => self.budget.found_nobody(),
                Err(error) => {
                    self.budget.failed();
                    if !concerns_one_connection(&error) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// Takes a connection that waits already, or returns `None`. Never waits itself: to empty the backlog
    /// before closing.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), except that a stopped listener with an empty backlog is `None`.
    pub fn accept_waiting(&mut self) -> io::Result<Option<(Stream, Option<SocketAddr>)>> {
        loop {
            match self.accept_once() {
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                other => return other,
            }
        }
    }

    /// Takes the listener out of the poll set until the next accept: connections wait in the kernel and
    /// do not wake the loop. For when descriptors are short.
    pub fn pause(&mut self) {
        self.budget.used_up();
        if let Some((owner, key)) = self.place {
            with_loop(owner, |state| state.reactor.pause_level(key));
        }
    }

    /// Says whether a connection waits to be accepted now, without accepting it.
    ///
    /// # Errors
    ///
    /// What `poll(2)` answers.
    pub fn has_waiting(&self) -> io::Result<bool> {
        socket::is_readable(self.socket.as_fd())
    }

    /// Lets the kernel refuse new connects to a unix socket; those that wait can still be accepted.
    ///
    /// This holds for the socket itself, in all processes that share it.
    ///
    /// # Errors
    ///
    /// `Unsupported` for TCP, where it would throw away the connections that wait.
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
                count(|counters| &counters.accepts_in_vain);
                if self.is_stopped() { Err(last_was_taken()) } else { Ok(None) }
            }
            // What some kernels say of a socket that was shut down.
            Err(error) if self.is_stopped() && error.raw_os_error() == Some(libc::EINVAL) => {
                Err(last_was_taken())
            }
            Err(error) => Err(error),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The listener's place in this thread's loop.
    fn enter(&mut self) -> io::Result<(LoopId, Key)> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let fd = self.socket.as_raw_fd();
        let entered = with_current(|state| Ok((state.id, state.reactor.add_level(fd)?)));
        let place = entered.unwrap_or_else(|| Err(no_loop()))?;
        self.place = Some(place);
        Ok(place)
    }

    /// Waits until the kernel says that connections wait.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (owner, key) = self.enter()?;
            let asked = with_loop(owner, |state| match state.reactor.take_waiting(key)? {
                None => Some(state.reactor.wait_level(key, cx.waker()).map(|()| None)),
                waiting => Some(Ok(waiting)),
            });
            match asked.flatten() {
                Some(Ok(Some(waiting))) => {
                    if waiting == Waiting::TheLast {
                        self.stopped.store(true, Ordering::Relaxed);
                    }
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(None)) => return Poll::Pending,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                // The loop it waited in is not this thread's.
                None => self.place = None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((owner, key)) = self.place {
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

/// How many connections are taken after one look at the sockets.
///
/// It begins with one: under light load exactly one waits, and asking for a second would be a system call
/// in vain. It doubles, up to 32, while the whole budget is used: then more wait. When nobody is found it
/// falls back to one and grows more slowly next time, so that a steady trickle of single connections costs
/// a vain accept in 64 connections, not in two.
#[derive(Debug)]
struct Budget {
    /// What the next look grants.
    size: u32,
    /// What is left of the last grant.
    left: u32,
    /// How many grants in a row were used whole at this size.
    whole: u32,
    /// How many of those it takes to double.
    patience: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { size: 1, left: 0, whole: 0, patience: 1 }
    }
}

impl Budget {
    /// The web servers' values are of this order; 32 connections are some 3 ms of serving.
    const MOST: u32 = 32;
    const MOST_PATIENCE: u32 = 64;

    fn is_used_up(&self) -> bool {
        self.left == 0
    }

    fn grant(&mut self) {
        self.left = self.size;
    }

    fn used_up(&mut self) {
        self.left = 0;
    }

    fn accepted(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        if self.size > 1 {
            // It was right to ask for more than one.
            self.patience = 1;
        }
        self.whole += 1;
        if self.whole >= self.patience {
            self.whole = 0;
            self.size = (self.size * 2).min(Self::MOST);
        }
    }

    fn found_nobody(&mut self) {
        self.left = 0;
        self.whole = 0;
        self.size = 1;
        self.patience = (self.patience * 2).min(Self::MOST_PATIENCE);
    }

    fn failed(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

fn last_was_taken() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the listener was stopped, and its last connection has been taken",
    )
}

/// Says whether an error of accept(2) is that of the connection that was to be taken: it is gone, and the
/// next may be well. Linux reports errors of the network here too (accept(2), "Error handling").
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

/// Keeps other servers that start at the same moment from binding in the same folder, until the drop.
///
/// Not every file system can lock a folder (NFS cannot), and somebody may hold the lock for reasons of
/// their own: after a while it goes without.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).ok()?;
    for _ in 0..100 {
        match try_lock(&folder) {
            // The others hold it for some 100 µs. A server that starts may sleep; no loop runs yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return None,
            Ok(()) => break,
        }
    }
    Some(folder)
}

fn try_lock(folder: &File) -> io::Result<()> {
    Ok(flock(folder, FlockOperation::NonBlockingLockExclusive)?)
}

/// Removes a socket's file if nobody listens on it.
fn remove_stale_file(address: &Address, path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Gone already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(in_use("there is a file at that path, and it is no socket"));
    }
    // Asks without waiting: a full backlog answers EAGAIN, and somebody listens then.
    let probe = socket::stream_socket(address)?;
    match socket::connect(probe.as_fd(), address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        _ => return Err(in_use("another process listens there")),
    }
    // Only the very file that was asked: another server may have replaced it in the meantime.
    let stale =
        SocketFile { path: path.to_owned(), identity: identity(&found), maker: process::id() };
    stale.remove_if_ours();
    Ok(())
}

fn in_use(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, problem.to_owned())
}

/// A unix socket's file, to be told from one that another process put in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// A forked child drops its copies too, and must not remove its parent's file.
    maker: u32,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        // Absolute, for the working directory may change before the drop.
        let path = std::path::absolute(path)?;
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok(SocketFile { path, identity, maker: process::id() })
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    fn remove_if_ours(&self) {
        if self.maker == process::id() && self.is_still_there() {
            // A file that cannot be removed is replaced as a stale one by the next bind.
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

    /// Lets looks happen in which `waiting` connections are there; returns (accepts, accepts in vain).
    fn look(budget: &mut Budget, mut waiting: u32) -> (u32, u32) {
        let (mut accepts, mut in_vain) = (0, 0);
        budget.grant();
        while !budget.is_used_up() {
            if waiting > 0 {
                waiting -= 1;
                accepts += 1;
                budget.accepted();
            } else {
                in_vain += 1;
                budget.found_nobody();
            }
        }
        (accepts, in_vain)
    }

    #[test]
    fn a_crowd_is_taken_in_growing_groups() {
        let mut budget = Budget::default();
        let groups: Vec<u32> = (0..8).map(|_| look(&mut budget, u32::MAX).0).collect();
        assert_eq!(groups, [1, 2, 4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn single_connections_cost_few_accepts_in_vain() {
        let mut budget = Budget::default();
        let in_vain: u32 = (0..10_000).map(|_| look(&mut budget, 1).1).sum();
        assert!(in_vain <= 10_000 / 64 + 8, "{in_vain} accepts in vain");
    }

    #[test]
    fn after_a_quiet_time_a_crowd_is_noticed() {
        let mut budget = Budget::default();
        for _ in 0..1_000 {
            look(&mut budget, 1);
        }
        let most = (0..80).map(|_| look(&mut budget, u32::MAX).0).max();
        assert_eq!(most, Some(Budget::MOST));
    }
}
