//! The poll set: which descriptors the kernel watches for us, and who waits for each.
//!
//! A row of the source table is either an *edge* (streams, pipes: the kernel tells a change once, and the
//! row remembers it until a read or write says "would block") or a *level* (listeners: the kernel tells
//! again in each look, as long as connections wait). The rules when to read, to write and to register are
//! in `source.rs`, those of accepting in `net/listener.rs`; this file keeps the readiness and wakes.

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

/// How many events one look can bring. More are brought by the next look; 256 of them are 3 KiB, and
/// more connections than that at once is beyond what one process of a shared host is given.
const EVENTS: usize = 256;

/// Rung by other threads.
const INLET: Key = Key::reserved(1);
/// Rung by the signal handler.
const SIGNALS: Key = Key::reserved(2);

/// What one event says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occurrence {
    /// Another thread has put something into the inlet.
    Inlet,
    /// The signal handler has rung.
    Signals,
    /// A source's readiness has changed.
    Source(Key, Readiness),
}

impl From<&Event> for Occurrence {
    fn from(event: &Event) -> Self {
        match Key::from_token(event.token()) {
            INLET => Occurrence::Inlet,
            SIGNALS => Occurrence::Signals,
            key => Occurrence::Source(key, Readiness::from(event)),
        }
    }
}

/// What an event says about a source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    /// The other end writes no more: reads go on to the end of the stream and need no further event.
    pub(crate) read_closed: bool,
    pub(crate) writable: bool,
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        // What the error is, is found out by trying.
        let failed = event.is_error();
        Readiness {
            readable: event.is_readable() || event.is_read_closed() || failed,
            read_closed: event.is_read_closed() || failed,
            writable: event.is_writable() || event.is_write_closed() || failed,
        }
    }
}

/// Which end of a source somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The poll set of one loop.
pub(crate) struct Reactor {
    /// Made when there is something to watch or to wait for: a program that answers one exchange from
    /// files that are ready (CGI) pays no system call for it.
    poll: RefCell<Option<mio::Poll>>,
    /// Made with the poll set, so that no wait can lack a descriptor later; until it is taken.
    bell: Cell<Option<mio::Waker>>,
    /// Taken out while a turn walks over them.
    events: Cell<Option<mio::Events>>,
    sources: RefCell<Table<Source>>,
    /// Nothing was ready to run when the last look began.
    was_idle: Cell<bool>,
}

/// One descriptor that the kernel watches, or did. Its owner removes the row before it closes `fd`.
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
    /// A read may be tried.
    readable: bool,
    read_closed: bool,
    /// A write would block.
    write_blocked: bool,
    /// The kernel has been asked to tell when a write would not block any more.
    asks_writable: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a look says about a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Connections wait.
    Connections,
    /// The socket was shut down, by whoever shares it: what waits still can be had, and no more will come.
    /// The kernel goes on telling.
    TheLast,
}

/// A listener.
struct Level {
    /// What the last look said, if nobody has taken that as a leave to accept yet.
    waiting: Option<Waiting>,
    /// It is in the poll set.
    watched: bool,
    acceptor: Option<Waker>,
}

impl Reactor {
    pub(crate) fn new() -> Self {
        Reactor {
            poll: RefCell::new(None),
            bell: Cell::new(None),
            events: Cell::new(None),
            sources: RefCell::new(Table::new()),
            was_idle: Cell::new(false),
        }
    }

    /// Returns the bell that other threads ring, once. Before there is a poll set there is none;
    /// `now` makes both.
    pub(crate) fn take_bell(&self, now: bool) -> io::Result<Option<mio::Waker>> {
        if now {
            self.with_registry(|_| Ok(()))?;
        }
        Ok(self.bell.take())
    }

    /// Watches the read end of the self-pipe, which the signal handler writes to.
    pub(crate) fn watch_signals(&self, door: BorrowedFd<'_>) -> io::Result<()> {
        let mut door = SourceFd(&door.as_raw_fd());
        self.with_registry(|registry| {
            registry.register(&mut door, SIGNALS.to_token(), Interest::READABLE)
        })
    }

    /// Looks at the sockets, for at most `patience`, and returns what was seen, to be given back to
    /// [`put_back`](Self::put_back). A signal cuts the wait short; that is no error.
    pub(crate) fn look(&self, patience: Option<Duration>, idle: bool) -> io::Result<mio::Events> {
        let mut events = self.events.take().unwrap_or_else(|| mio::Events::with_capacity(EVENTS));
        self.was_idle.set(idle);
        let mut poll = self.poll.borrow_mut();
        if patience != Some(Duration::ZERO) {
            count(|counters| &counters.idle_waits);
        } else if poll.is_none() {
            // Nothing is watched, and there is nothing to wait for.
            turn::waits();
            turn::works();
            events.clear();
            return Ok(events);
        }
        count(|counters| &counters.waits);
        let made = self.made(&mut poll)?;
        turn::waits();
        let looked = made.poll(&mut events, patience);
        turn::works();
        match looked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        Ok(events)
    }

    /// Keeps the list of events for the next look.
    pub(crate) fn put_back(&self, events: mio::Events) {
        self.events.set(Some(events));
    }

    /// Notes what an event said and wakes who waits for it.
    ///
    /// The source may have been dropped after the event was fetched. Its place may even have a new
    /// tenant: the key tells them apart.
    pub(crate) fn note(&self, key: Key, readiness: Readiness) {
        count(|counters| &counters.events);
        let mut sources = self.sources.borrow_mut();
        let Some(source) = sources.get_mut(key) else { return };
        let fd = source.fd;
        let wakers = match &mut source.kind {
            Kind::Edge(edge) => {
                let wakers = edge.note(readiness);
                if readiness.writable && edge.asks_writable && wakers[1].is_none() {
                    // Nobody waits to write. On unix sockets each read of the other end is an edge of
                    // ours: we would be woken once a request.
                    edge.asks_writable = false;
                    self.modify(fd, key, Interest::READABLE);
                }
                wakers
            }
            Kind::Level(level) => {
                level.waiting = Some(match readiness.read_closed {
                    true => Waiting::TheLast,
                    false => Waiting::Connections,
                });
                let acceptor = level.acceptor.take();
                if acceptor.is_none() && level.watched && self.was_idle.get() {
                    // No task was ready to run and none waits for connections: nobody is about to
                    // accept, and the kernel would tell us again and again.
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

    /// Adds a stream or pipe to the poll set. If it is ready, the next look says so.
    ///
    /// # Errors
    ///
    /// `EPERM` for files that cannot be watched since they are always ready.
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

    /// Says whether a read or write may be tried; `None` when there is no such source.
    pub(crate) fn may_try(&self, key: Key, direction: Direction) -> Option<bool> {
        self.with_edge(key, |edge, _| match direction {
            Direction::Read => edge.readable,
            Direction::Write => !edge.write_blocked,
        })
    }

    /// Says whether the other end writes no more, as far as an event has told; `None` when there is no such
    /// source.
    pub(crate) fn read_is_closed(&self, key: Key) -> Option<bool> {
        self.with_edge(key, |edge, _| edge.read_closed)
    }

    /// Notes that a read would block: nothing is readable before the next event.
    pub(crate) fn read_would_block(&self, key: Key) {
        self.with_edge(key, |edge, _| {
            edge.readable = false;
            edge.read_closed = false;
        });
    }

    /// Notes that a read brought less than it could have: the next would block, unless the other end
    /// writes no more, for then there may be no further event.
    pub(crate) fn read_was_short(&self, key: Key) {
        self.with_edge(key, |edge, _| edge.readable = edge.read_closed);
    }

    /// Notes that a write would block or took less than it was given.
    pub(crate) fn write_would_block(&self, key: Key) {
        self.with_edge(key, |edge, _| edge.write_blocked = true);
    }

    /// Notes who waits. The caller has made sure that the source is not ready.
    pub(crate) fn wait(&self, key: Key, direction: Direction, waker: &Waker) {
        let known = self.with_edge(key, |edge, fd| {
            if direction == Direction::Write && !edge.asks_writable {
                edge.asks_writable = true;
                self.modify(fd, key, Interest::READABLE | Interest::WRITABLE);
            }
            edge.waiter(direction).as_ref().is_some_and(|known| known.will_wake(waker))
        });
        if known == Some(false) {
            // Clones and drops of foreign wakers are foreign code: outside of any borrow.
            let waker = waker.clone();
            let old = self.with_edge(key, |edge, _| edge.waiter(direction).replace(waker));
            drop(old);
        }
    }

    // Levels.

    /// Makes a row for a listener; it is watched from the first [`wait_level`](Self::wait_level) on.
    ///
    /// # Errors
    ///
    /// When there is no poll set yet and no descriptor is left for it: connections take them all.
    pub(crate) fn add_level(&self, fd: RawFd) -> io::Result<Key> {
        self.with_registry(|_| Ok(()))?;
        let level = Level { waiting: None, watched: false, acceptor: None };
        Ok(self.sources.borrow_mut().insert(Source { fd, kind: Kind::Level(level) }))
    }

    /// Says whether connections waited in the last look, and forgets it; the outer `None` when there is no
    /// such listener.
    pub(crate) fn take_waiting(&self, key: Key) -> Option<Option<Waiting>> {
        self.with_level(key, |level, _| level.waiting.take())
    }

    /// Notes who waits for connections, and watches for them.
    pub(crate) fn wait_level(&self, key: Key, waker: &Waker) -> io::Result<()> {
        let known = self.with_level(key, |level, fd| {
            if !level.watched {
                self.with_registry(|registry| {
                    epoll::add_level(registry.as_raw_fd(), fd, key.to_u64())
                })?;
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

    /// Watches everything in a new poll set: in the child of a fork, which shares the former one with its parent, so
    /// that what one takes out is gone for both.
    pub(crate) fn remake(&self) -> io::Result<()> {
        let poll = mio::Poll::new()?;
        let sources = self.sources.borrow();
        for place in 0..sources.places() {
            let Some(key) = sources.key_at(place) else { continue };
            match sources.get(key) {
                Some(Source { fd, kind: Kind::Edge(edge) }) => {
                    let interest = match edge.asks_writable {
                        true => Interest::READABLE | Interest::WRITABLE,
                        false => Interest::READABLE,
                    };
                    // What is ready already is told by the next look.
                    poll.registry().register(&mut SourceFd(fd), key.to_token(), interest)?;
                }
                Some(Source { fd, kind: Kind::Level(level) }) if level.watched => {
                    epoll::add_level(poll.as_raw_fd(), *fd, key.to_u64())?;
                }
                _ => {}
            }
        }
        self.bell.set(Some(mio::Waker::new(poll.registry(), INLET.to_token())?));
        *self.poll.borrow_mut() = Some(poll);
        Ok(())
    }

    /// Takes a source out of the poll set and forgets it. To be called before its descriptor is closed:
    /// a forked child may still hold the open file, and then closing ours would not take it out.
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
        // With its wakers, outside of the borrow.
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

    /// Uses the poll set, which is made if there is none.
    fn with_registry<R>(&self, action: impl FnOnce(&Registry) -> io::Result<R>) -> io::Result<R> {
        action(self.made(&mut self.poll.borrow_mut())?.registry())
    }

    /// The poll set, made now if there is none.
    fn made<'a>(&self, poll: &'a mut Option<mio::Poll>) -> io::Result<&'a mut mio::Poll> {
        if poll.is_none() {
            let new = mio::Poll::new()?;
            self.bell.set(Some(mio::Waker::new(new.registry(), INLET.to_token())?));
            return Ok(poll.insert(new));
        }
        poll.as_mut().ok_or_else(|| unreachable!("it was there a line above"))
    }

    fn modify(&self, fd: RawFd, key: Key, interest: Interest) {
        let done = self.with_registry(|registry| {
            registry.reregister(&mut SourceFd(&fd), key.to_token(), interest)
        });
        // The descriptor is in the set; only a lack of kernel memory could say no.
        debug_assert!(done.is_ok(), "the poll set could not be changed: {done:?}");
        count(|counters| &counters.modifications);
    }

    fn unwatch_level(&self, fd: RawFd) {
        let gone = self.with_registry(|registry| epoll::remove(registry.as_raw_fd(), fd));
        debug_assert!(gone.is_ok(), "a listener was closed behind its owner: {gone:?}");
        count(|counters| &counters.deregistrations);
    }

    /// Returns another descriptor of the poll set, for whoever hosts the loop.
    #[cfg(feature = "tokio")]
    pub(crate) fn duplicate(&self) -> io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.with_registry(|registry| registry.as_fd().try_clone_to_owned())
    }
}

impl Edge {
    /// Takes in what an event said; returns who waits for it: reader, writer.
    fn note(&mut self, readiness: Readiness) -> [Option<Waker>; 2] {
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

    fn look(reactor: &Reactor) -> Vec<(Key, Readiness)> {
        let events = reactor.look(Some(Duration::ZERO), true).unwrap();
        let seen = events.iter().filter_map(|event| match Occurrence::from(event) {
            Occurrence::Source(key, readiness) => Some((key, readiness)),
            _ => None,
        });
        let seen = seen.collect();
        reactor.put_back(events);
        seen
    }

    #[test]
    fn a_stale_event_meets_nobody() {
        let reactor = Reactor::new();
        let (reader, writer) = crate::pipe::ends().unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        let old = reactor.add_edge(reader.as_raw_fd(), false, false).unwrap();
        let seen = look(&reactor);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, old);
        // Dropped between the look and the note; the next one takes its place.
        reactor.remove(old);
        let (quiet, _other) = crate::pipe::ends().unwrap();
        let new = reactor.add_edge(quiet.as_raw_fd(), false, false).unwrap();
        let woken = Arc::new(Woken::default());
        reactor.wait(new, Direction::Read, &Waker::from(Arc::clone(&woken)));
        for (key, readiness) in seen {
            reactor.note(key, readiness);
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
        reactor.wait(key, Direction::Read, &Waker::from(Arc::clone(&reads)));
        reactor.wait(key, Direction::Write, &Waker::from(Arc::clone(&writes)));
        for (key, readiness) in look(&reactor) {
            reactor.note(key, readiness);
        }
        let counts = || (reads.0.load(Ordering::Relaxed), writes.0.load(Ordering::Relaxed));
        assert_eq!(counts(), (0, 1), "it is writable");
        rustix::io::write(&far, b"x").unwrap();
        for (key, readiness) in look(&reactor) {
            reactor.note(key, readiness);
        }
        assert_eq!(counts(), (1, 1));
        reactor.remove(key);
    }
}
