//! The poll set: which descriptors the kernel watches, and what waits for each.
//!
//! A row of the source table is either an *edge* (streams, pipes: the kernel reports a change once, and the row
//! keeps it until a read or write would block) or a *level* (listeners: the kernel reports in each wait, as long as
//! connections are pending). The rules when to read, write and register are in `source.rs`, those of accepting in
//! `net/listener.rs`; this file keeps the readiness and wakes.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::Waker;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use sys::{epoll, turn};

use crate::counters::count;
use crate::table::{Key, Table};

/// How many events one wait can return; the next wait returns the others. 256 of them take 3 KiB, and a process on a
/// shared host rarely has more active connections at once.
const EVENTS: usize = 256;

/// The loop waker, used by other threads.
const REMOTE_WAKE: Key = Key::reserved(1);
/// The self-pipe, written by the signal handler.
const SIGNALS: Key = Key::reserved(2);

/// What one event means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occurrence {
    /// Another thread has woken a task.
    RemoteWake,
    /// The signal handler has written to the self-pipe.
    Signals,
    /// A source's readiness has changed.
    Source(Key, Readiness),
}

impl From<&Event> for Occurrence {
    fn from(event: &Event) -> Self {
        match Key::from_token(event.token()) {
            REMOTE_WAKE => Occurrence::RemoteWake,
            SIGNALS => Occurrence::Signals,
            key => Occurrence::Source(key, Readiness::from(event)),
        }
    }
}

/// What an event reports about a source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    /// The peer has stopped writing: reads continue to the end of the stream without a further event.
    pub(crate) read_closed: bool,
    pub(crate) writable: bool,
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        // The next read or write returns the error itself.
        let failed = event.is_error();
        Readiness {
            readable: event.is_readable() || event.is_read_closed() || failed,
            read_closed: event.is_read_closed() || failed,
            writable: event.is_writable() || event.is_write_closed() || failed,
        }
    }
}

/// What a waker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The poll set of one loop.
pub(crate) struct Reactor {
    /// Created when there is something to watch or wait for, so that a program that answers one request from files
    /// (CGI) needs no system call for it.
    poll: RefCell<Option<mio::Poll>>,
    /// Created with the poll set, so that no descriptor is missing later; `None` once it has been taken.
    loop_waker: Cell<Option<mio::Waker>>,
    /// `None` while a turn iterates over them.
    events: Cell<Option<mio::Events>>,
    sources: RefCell<Table<Source>>,
    /// Whether nothing was ready to run when the last wait started.
    was_idle: Cell<bool>,
}

/// A descriptor that is or was watched. Its owner removes the row before it closes `fd`.
struct Source {
    fd: RawFd,
    kind: Kind,
}

enum Kind {
    Edge(Edge),
    Level(Level),
}

/// A stream or a pipe.
struct Edge {
    /// Whether a read is worth trying.
    readable: bool,
    read_closed: bool,
    /// Whether a write would block.
    write_blocked: bool,
    /// Whether it is registered for write readiness.
    asks_writable: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What an event reports about a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Connections are pending.
    Connections,
    /// The socket was shut down, here or by another process: pending connections can still be accepted, and no
    /// further ones arrive. The kernel keeps reporting this.
    Last,
}

/// A listener.
struct Level {
    /// What the last event reported, until [`Reactor::take_waiting`] takes it.
    waiting: Option<Waiting>,
    /// Whether it is in the poll set.
    watched: bool,
    acceptor: Option<Waker>,
}

impl Reactor {
    pub(crate) fn new() -> Self {
        Reactor {
            poll: RefCell::new(None),
            loop_waker: Cell::new(None),
            events: Cell::new(None),
            sources: RefCell::new(Table::new()),
            was_idle: Cell::new(false),
        }
    }

    /// Returns the waker with which other threads wake the loop, once. There is none before the poll set is created;
    /// `now` creates both.
    pub(crate) fn take_loop_waker(&self, now: bool) -> io::Result<Option<mio::Waker>> {
        if now {
            self.with_registry(|_| Ok(()))?;
        }
        Ok(self.loop_waker.take())
    }

    /// Watches the read end of the self-pipe, which the signal handler writes to.
    pub(crate) fn watch_signals(&self, read_end: BorrowedFd<'_>) -> io::Result<()> {
        let mut read_end = SourceFd(&read_end.as_raw_fd());
        self.with_registry(|registry| {
            registry.register(&mut read_end, SIGNALS.to_token(), Interest::READABLE)
        })
    }

    /// Waits for events for at most `timeout` and returns them; pass them to [`put_back`](Self::put_back)
    /// afterwards. A signal ends the wait early, which is not an error.
    pub(crate) fn wait(&self, timeout: Option<Duration>, idle: bool) -> io::Result<mio::Events> {
        let mut events = self.events.take().unwrap_or_else(|| mio::Events::with_capacity(EVENTS));
        self.was_idle.set(idle);
        let mut poll = self.poll.borrow_mut();
        if timeout != Some(Duration::ZERO) {
            count(|counters| &counters.idle_waits);
        } else if poll.is_none() {
            // Nothing is watched, and there is no need to sleep.
            turn::begin_wait();
            turn::end_wait();
            events.clear();
            return Ok(events);
        }
        count(|counters| &counters.waits);
        let poll = self.get_or_create(&mut poll)?;
        turn::begin_wait();
        let result = poll.poll(&mut events, timeout);
        turn::end_wait();
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        Ok(events)
    }

    /// Keeps the list of events for the next wait.
    pub(crate) fn put_back(&self, events: mio::Events) {
        self.events.set(Some(events));
    }

    /// Records what an event reported and wakes what waits for it.
    ///
    /// The source may have been dropped since the event was returned, and its index may even have been reused: the
    /// generation in the key tells them apart.
    pub(crate) fn set_ready(&self, key: Key, readiness: Readiness) {
        count(|counters| &counters.events);
        let mut sources = self.sources.borrow_mut();
        let Some(source) = sources.get_mut(key) else { return };
        let fd = source.fd;
        let wakers = match &mut source.kind {
            Kind::Edge(edge) => {
                let wakers = edge.set_ready(readiness);
                if readiness.writable && edge.asks_writable && wakers[1].is_none() {
                    // Nothing waits to write. On unix sockets each read by the peer is a write-readiness edge, which
                    // would wake the loop once per request.
                    edge.asks_writable = false;
                    self.modify(fd, key, Interest::READABLE);
                }
                wakers
            }
            Kind::Level(level) => {
                level.waiting = Some(match readiness.read_closed {
                    true => Waiting::Last,
                    false => Waiting::Connections,
                });
                let acceptor = level.acceptor.take();
                if acceptor.is_none() && level.watched && self.was_idle.get() {
                    // No task was ready to run and none waits for connections: nothing is about to accept, and each
                    // wait would return at once.
                    level.watched = false;
                    self.unwatch_level(fd);
                }
                [acceptor, None]
            }
        };
        drop(sources);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    // Edges.

    /// Adds a stream or pipe to the poll set. If it is ready, the next wait reports that.
    ///
    /// # Errors
    ///
    /// `EPERM` for files that cannot be watched, because they are always ready.
    pub(crate) fn add_edge(
        &self,
        fd: RawFd,
        readable: bool,
        write_blocked: bool,
    ) -> io::Result<Key> {
        let mut sources = self.sources.borrow_mut();
        let key = sources.next_key();
        let interest = if write_blocked {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.with_registry(|registry| {
            registry.register(&mut SourceFd(&fd), key.to_token(), interest)
        })?;
        count(|counters| &counters.registrations);
        Ok(sources.insert(Source {
            fd,
            kind: Kind::Edge(Edge {
                readable,
                read_closed: false,
                write_blocked,
                asks_writable: write_blocked,
                reader: None,
                writer: None,
            }),
        }))
    }

    /// Returns whether a read or write is worth trying; `None` if there is no such source.
    pub(crate) fn may_try(&self, key: Key, direction: Direction) -> Option<bool> {
        self.with_edge(key, |edge, _| match direction {
            Direction::Read => edge.readable,
            Direction::Write => !edge.write_blocked,
        })
    }

    /// Returns whether an event has reported that the peer has stopped writing; `None` if there is no such source.
    pub(crate) fn read_is_closed(&self, key: Key) -> Option<bool> {
        self.with_edge(key, |edge, _| edge.read_closed)
    }

    /// Records that a read would block: nothing is readable before the next event.
    pub(crate) fn read_would_block(&self, key: Key) {
        self.with_edge(key, |edge, _| {
            edge.readable = false;
            edge.read_closed = false;
        });
    }

    /// Records that a read did not fill its buffer: the next would block, unless the peer has stopped writing and
    /// there may be no further event.
    pub(crate) fn read_was_short(&self, key: Key) {
        self.with_edge(key, |edge, _| edge.readable = edge.read_closed);
    }

    /// Records that a write would block or was partial.
    pub(crate) fn write_would_block(&self, key: Key) {
        self.with_edge(key, |edge, _| edge.write_blocked = true);
    }

    /// Registers a waker. The caller has checked that the source is not ready.
    pub(crate) fn wait_edge(&self, key: Key, direction: Direction, waker: &Waker) {
        let known = self.with_edge(key, |edge, fd| {
            if direction == Direction::Write && !edge.asks_writable {
                edge.asks_writable = true;
                self.modify(fd, key, Interest::READABLE | Interest::WRITABLE);
            }
            edge.waiter(direction).as_ref().is_some_and(|known| known.will_wake(waker))
        });
        if known == Some(false) {
            // Cloning and dropping a waker runs foreign code, so it happens outside any borrow.
            let waker = waker.clone();
            let old = self.with_edge(key, |edge, _| edge.waiter(direction).replace(waker));
            drop(old);
        }
    }

    // Levels.

    /// Adds a row for a listener, which is watched from the first [`wait_level`](Self::wait_level) on. Creates the
    /// poll set now, because connections may take all descriptors later.
    ///
    /// # Errors
    ///
    /// If there is no poll set yet and no descriptor is left for it.
    pub(crate) fn add_level(&self, fd: RawFd) -> io::Result<Key> {
        self.with_registry(|_| Ok(()))?;
        let level = Level { waiting: None, watched: false, acceptor: None };
        Ok(self.sources.borrow_mut().insert(Source { fd, kind: Kind::Level(level) }))
    }

    /// Takes what the last event reported about connections; the outer `None` if there is no such listener.
    pub(crate) fn take_waiting(&self, key: Key) -> Option<Option<Waiting>> {
        self.with_level(key, |level, _| level.waiting.take())
    }

    /// Registers a waker for connections, and watches for them.
    pub(crate) fn wait_level(&self, key: Key, waker: &Waker) -> io::Result<()> {
        let known = self.with_level(key, |level, fd| {
            if !level.watched {
                self.with_registry(|registry| epoll::add_level(registry, fd, key.to_u64()))?;
                level.watched = true;
                count(|counters| &counters.registrations);
            }
            io::Result::Ok(level.acceptor.as_ref().is_some_and(|known| known.will_wake(waker)))
        });
        if let Some(false) = known.transpose()? {
            let waker = waker.clone();
            let old = self.with_level(key, |level, _| level.acceptor.replace(waker));
            drop(old);
        }
        Ok(())
    }

    /// Stops watching for connections until the next [`wait_level`](Self::wait_level).
    pub(crate) fn pause_level(&self, key: Key) {
        self.with_level(key, |level, fd| {
            level.waiting = None;
            if std::mem::take(&mut level.watched) {
                self.unwatch_level(fd);
            }
        });
    }

    // Both.

    /// Moves everything to a new poll set: a forked child shares the old one with its parent, where a removal by one
    /// would affect both.
    pub(crate) fn recreate(&self) -> io::Result<()> {
        let poll = mio::Poll::new()?;
        let sources = self.sources.borrow();
        for index in 0..sources.capacity() {
            let Some(key) = sources.key_at(index) else { continue };
            match sources.get(key) {
                Some(Source { fd, kind: Kind::Edge(edge) }) => {
                    let interest = match edge.asks_writable {
                        true => Interest::READABLE | Interest::WRITABLE,
                        false => Interest::READABLE,
                    };
                    // If it is ready already, the next wait reports that.
                    poll.registry().register(&mut SourceFd(fd), key.to_token(), interest)?;
                }
                Some(Source { fd, kind: Kind::Level(level) }) if level.watched => {
                    epoll::add_level(poll.registry(), *fd, key.to_u64())?;
                }
                _ => {}
            }
        }
        self.loop_waker.set(Some(mio::Waker::new(poll.registry(), REMOTE_WAKE.to_token())?));
        *self.poll.borrow_mut() = Some(poll);
        Ok(())
    }

    /// Removes a source from the poll set and the table. Call it before closing the descriptor: a forked child may
    /// still hold the open file, and then closing ours would not remove it from the poll set.
    pub(crate) fn remove(&self, key: Key) {
        let source = self.sources.borrow_mut().remove(key);
        match &source {
            Some(Source { fd, kind: Kind::Edge(_) }) => {
                let gone = self.with_registry(|registry| registry.deregister(&mut SourceFd(fd)));
                debug_assert!(gone.is_ok(), "a descriptor was closed behind its owner: {gone:?}");
                count(|counters| &counters.deregistrations);
            }
            Some(Source { fd, kind: Kind::Level(level) }) if level.watched => {
                self.unwatch_level(*fd);
            }
            _ => {}
        }
        // The source may hold wakers, so it is dropped outside the borrow.
        drop(source);
    }

    fn with_edge<R>(&self, key: Key, action: impl FnOnce(&mut Edge, RawFd) -> R) -> Option<R> {
        match self.sources.borrow_mut().get_mut(key) {
            Some(Source { fd, kind: Kind::Edge(edge) }) => Some(action(edge, *fd)),
            _ => None,
        }
    }

    fn with_level<R>(&self, key: Key, action: impl FnOnce(&mut Level, RawFd) -> R) -> Option<R> {
        match self.sources.borrow_mut().get_mut(key) {
            Some(Source { fd, kind: Kind::Level(level) }) => Some(action(level, *fd)),
            _ => None,
        }
    }

    /// Calls `action` with the registry of the poll set, which is created if there is none.
    fn with_registry<R>(&self, action: impl FnOnce(&Registry) -> io::Result<R>) -> io::Result<R> {
        action(self.get_or_create(&mut self.poll.borrow_mut())?.registry())
    }

    /// Returns the poll set, which is created if there is none.
    fn get_or_create<'a>(&self, poll: &'a mut Option<mio::Poll>) -> io::Result<&'a mut mio::Poll> {
        if poll.is_none() {
            let new = mio::Poll::new()?;
            self.loop_waker.set(Some(mio::Waker::new(new.registry(), REMOTE_WAKE.to_token())?));
            return Ok(poll.insert(new));
        }
        poll.as_mut().ok_or_else(|| unreachable!("it was there a line above"))
    }

    fn modify(&self, fd: RawFd, key: Key, interest: Interest) {
        let done = self.with_registry(|registry| {
            registry.reregister(&mut SourceFd(&fd), key.to_token(), interest)
        });
        // The descriptor is in the set, so this fails only if the kernel has no memory.
        debug_assert!(done.is_ok(), "the poll set could not be changed: {done:?}");
        count(|counters| &counters.modifications);
    }

    fn unwatch_level(&self, fd: RawFd) {
        let gone = self.with_registry(|registry| epoll::remove(registry, fd));
        debug_assert!(gone.is_ok(), "a listener was closed behind its owner: {gone:?}");
        count(|counters| &counters.deregistrations);
    }

    /// Returns a duplicate descriptor of the poll set, for the runtime that hosts the loop.
    #[cfg(feature = "tokio")]
    pub(crate) fn duplicate(&self) -> io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.with_registry(|registry| registry.as_fd().try_clone_to_owned())
    }
}

impl Edge {
    /// Records what an event reported; returns the wakers to wake: reader, writer.
    fn set_ready(&mut self, readiness: Readiness) -> [Option<Waker>; 2] {
        let mut wakers = [None, None];
        if readiness.readable {
            self.readable = true;
            self.read_closed |= readiness.read_closed;
            wakers[0] = self.reader.take();
        }
        if readiness.writable {
            self.write_blocked = false;
            wakers[1] = self.writer.take();
        }
        wakers
    }

    fn waiter(&mut self, direction: Direction) -> &mut Option<Waker> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait(reactor: &Reactor) -> Vec<(Key, Readiness)> {
        let events = reactor.wait(Some(Duration::ZERO), true).unwrap();
        let seen = events.iter().filter_map(|event| match Occurrence::from(event) {
            Occurrence::Source(key, readiness) => Some((key, readiness)),
            _ => None,
        });
        let seen = seen.collect();
        reactor.put_back(events);
        seen
    }

    #[test]
    fn a_stale_event_wakes_nothing() {
        let reactor = Reactor::new();
        let (reader, writer) = crate::pipe::ends().unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        let old = reactor.add_edge(reader.as_raw_fd(), false, false).unwrap();
        let seen = wait(&reactor);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, old);
        // Dropped between the wait and `set_ready`; the next source reuses its index.
        reactor.remove(old);
        let (quiet, _other) = crate::pipe::ends().unwrap();
        let new = reactor.add_edge(quiet.as_raw_fd(), false, false).unwrap();
        let woken = Arc::new(Woken::default());
        reactor.wait_edge(new, Direction::Read, &Waker::from(Arc::clone(&woken)));
        for (key, readiness) in seen {
            reactor.set_ready(key, readiness);
        }
        assert_eq!(reactor.may_try(new, Direction::Read), Some(false));
        assert_eq!(reactor.may_try(old, Direction::Read), None);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        reactor.remove(new);
        assert_eq!(reactor.sources.borrow().len(), 0);
    }

    #[test]
    fn each_direction_wakes_its_own() {
        let reactor = Reactor::new();
        let (near, far) = crate::net::socket::pair().unwrap();
        let key = reactor.add_edge(near.as_raw_fd(), false, true).unwrap();
        let (reads, writes) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        reactor.wait_edge(key, Direction::Read, &Waker::from(Arc::clone(&reads)));
        reactor.wait_edge(key, Direction::Write, &Waker::from(Arc::clone(&writes)));
        for (key, readiness) in wait(&reactor) {
            reactor.set_ready(key, readiness);
        }
        let counts = || (reads.0.load(Ordering::Relaxed), writes.0.load(Ordering::Relaxed));
        assert_eq!(counts(), (0, 1), "it is writable");
        rustix::io::write(&far, b"x").unwrap();
        for (key, readiness) in wait(&reactor) {
            reactor.set_ready(key, readiness);
        }
        assert_eq!(counts(), (1, 1));
        reactor.remove(key);
    }
}
