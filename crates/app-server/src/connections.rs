//! All open connections: to count them, to end the idle ones when descriptors or places are
//! wanted, to tell all when the process drains, to collect the idle ones when it becomes another program.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use event_loop::fatal;
use event_loop::net::Stream;
use event_loop::time;
use slab::Slab;

/// How long a new connection may take to bring its first request before it counts as idle. Whoever
/// connects is about to ask: to close then would lose a request. Web servers write within a millisecond.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The list of open connections.
#[derive(Default)]
pub(crate) struct Connections {
    entries: RefCell<Slab<Entry>>,
    draining: Cell<bool>,
    /// Idle connections are wanted for the program that comes next.
    collecting: Cell<bool>,
    /// Those that were handed over.
    collected: RefCell<Vec<Kept>>,
    /// Waits for a connection to end.
    waiting: RefCell<Option<Waker>>,
    /// A request has begun since this was asked last.
    active: Cell<bool>,
    /// Waits for a request after a quiet time.
    watcher: RefCell<Option<Waker>>,
}

/// A connection between two requests, nothing of the next one read.
pub(crate) struct Kept {
    /// So that a crash meanwhile hands it over, too. Left before the socket is closed.
    pub(crate) noted: fatal::Connection,
    pub(crate) stream: Stream,
    /// Who is at its other end, over TCP.
    pub(crate) peer: Option<SocketAddr>,
}

impl Kept {
    pub(crate) fn new(stream: Stream, peer: Option<SocketAddr>) -> Kept {
        let noted = fatal::Connection::enter(stream.as_fd(), fatal::Way::FastCgi);
        Kept { noted, stream, peer }
    }
}

/// What is wanted of a connection when it is between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// That it ends.
    End,
    /// That it is handed over, by [`Place::hand_over`].
    HandOver,
}

#[derive(Default)]
struct Entry {
    waker: Option<Waker>,
    /// Since when the connection has been kept open without a request. May lie ahead: before that
    /// nobody takes it for idle.
    idle_since: Option<Instant>,
    asked_to_close: bool,
}

impl Connections {
    /// Enters a new connection; it is left when the place is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Place {
        let key = self.entries.borrow_mut().insert(Entry::default());
        Place { connections: self.clone(), key }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Asks the connection that has been idle longest to close. Returns whether there is one.
    pub(crate) fn close_longest_idle(&self) -> bool {
        let now = time::now();
        let waker = {
            let mut entries = self.entries.borrow_mut();
            let longest = entries
                .iter_mut()
                .filter(|(_, entry)| !entry.asked_to_close)
                .filter_map(|(_, entry)| Some((entry.idle_since?, entry)))
                .filter(|(since, _)| *since <= now)
                .min_by_key(|(since, _)| *since);
            let Some((_, entry)) = longest else { return false };
            entry.asked_to_close = true;
            entry.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Tells all connections to end after what they are doing.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        let wakers: Vec<Waker> = self
            .entries
            .borrow_mut()
            .iter_mut()
            .filter_map(|(_, entry)| entry.waker.take())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Asks all connections to be handed over as soon as they are idle.
    pub(crate) fn collect(&self) {
        self.collecting.set(true);
        self.wake_all();
    }

    /// Takes that back, and returns those that were handed over.
    pub(crate) fn stop_collecting(&self) -> Vec<Kept> {
        self.collecting.set(false);
        std::mem::take(&mut *self.collected.borrow_mut())
    }

    /// Looks at those that were handed over so far.
    pub(crate) fn collected(&self) -> std::cell::Ref<'_, Vec<Kept>> {
        self.collected.borrow()
    }

    /// How many connections carry a request.
    pub(crate) fn busy(&self) -> usize {
        self.entries.borrow().iter().filter(|(_, entry)| entry.idle_since.is_none()).count()
    }

    /// Whether a request has begun since this was asked last. After a no, the context is woken by the
    /// next one.
    pub(crate) fn was_active(&self, context: &Context<'_>) -> bool {
        let was = self.active.replace(false);
        let watcher = (!was).then(|| context.waker().clone());
        self.watcher.replace(watcher);
        was
    }

    /// Ready once fewer than `count` connections are open.
    pub(crate) fn poll_fewer_than(&self, count: usize, context: &mut Context<'_>) -> Poll<()> {
        if self.len() < count {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A connection's place in the list.
pub(crate) struct Place {
    connections: Rc<Connections>,
    key: usize,
}

impl Place {
    /// What is wanted of the connection when it is between requests; if nothing yet, the context is
    /// woken when something is.
    pub(crate) fn poll_wanted(&self, context: &mut Context<'_>) -> Option<Wanted> {
        if self.connections.draining.get() {
            return Some(Wanted::End);
        }
        let mut entries = self.connections.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.asked_to_close {
            return Some(Wanted::End);
        }
        if self.connections.collecting.get() {
            return Some(Wanted::HandOver);
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            entry.waker = Some(context.waker().clone());
        }
        None
    }

    /// Hands the connection over: nothing of a next request has been read from it.
    pub(crate) fn hand_over(self, stream: Stream, peer: Option<SocketAddr>) {
        self.connections.collected.borrow_mut().push(Kept::new(stream, peer));
    }

    /// Notes whether the connection carries a request, and since when it does not.
    pub(crate) fn set_idle_since(&self, since: Option<Instant>) {
        if since.is_none()
            && !self.connections.active.replace(true)
            && let Some(watcher) = self.connections.watcher.take()
        {
            watcher.wake();
        }
        self.connections.entries.borrow_mut()[self.key].idle_since = since;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.entries.borrow_mut().remove(self.key);
        if let Some(waker) = self.connections.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_is_asked_first_and_once() {
        let connections = Rc::new(Connections::default());
        let now = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        let (old, young, busy) = (connections.enter(), connections.enter(), connections.enter());
        let new = connections.enter();
        old.set_idle_since(Some(now - Duration::from_secs(1)));
        young.set_idle_since(Some(now));
        new.set_idle_since(Some(now + FIRST_REQUEST));
        assert!(connections.close_longest_idle());
        assert_eq!(old.poll_wanted(&mut context), Some(Wanted::End));
        assert_eq!(young.poll_wanted(&mut context), None);
        assert!(connections.close_longest_idle());
        assert_eq!(young.poll_wanted(&mut context), Some(Wanted::End));
        assert!(!connections.close_longest_idle());
        assert_eq!(busy.poll_wanted(&mut context), None);
        assert_eq!(new.poll_wanted(&mut context), None);
        drop((old, young, new));
        assert!(connections.poll_fewer_than(2, &mut context).is_ready());
        connections.drain();
        assert_eq!(busy.poll_wanted(&mut context), Some(Wanted::End));
    }
}
