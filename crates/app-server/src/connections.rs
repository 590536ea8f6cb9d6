//! All open connections: to count them, to end the idle ones when descriptors or places are
//! wanted, to tell all when the process drains.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

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
    /// Waits for a connection to end.
    waiting: RefCell<Option<Waker>>,
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
        let wakers: Vec<Waker> = self
            .entries
            .borrow_mut()
            .iter_mut()
            .filter_map(|(_, entry)| entry.waker.take())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
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
    /// Whether the connection should end when it is between requests; if not yet, the context is
    /// woken when it should.
    pub(crate) fn poll_asked_to_close(&self, context: &mut Context<'_>) -> bool {
        if self.connections.draining.get() {
            return true;
        }
        let mut entries = self.connections.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.asked_to_close {
            return true;
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            entry.waker = Some(context.waker().clone());
        }
        false
    }

    /// Notes whether the connection carries a request, and since when it does not.
    pub(crate) fn set_idle_since(&self, since: Option<Instant>) {
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
        assert!(old.poll_asked_to_close(&mut context));
        assert!(!young.poll_asked_to_close(&mut context));
        assert!(connections.close_longest_idle());
        assert!(young.poll_asked_to_close(&mut context));
        assert!(!connections.close_longest_idle());
        assert!(!busy.poll_asked_to_close(&mut context));
        assert!(!new.poll_asked_to_close(&mut context));
        drop((old, young, new));
        assert!(connections.poll_fewer_than(2, &mut context).is_ready());
        connections.drain();
        assert!(busy.poll_asked_to_close(&mut context));
    }
}
