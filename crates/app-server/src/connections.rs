//! All open connections: counts them, closes dispensable ones when descriptors or connections run out
//! (`fairness.rs` decides which), limits what incomplete heads may hold, notifies every connection when
//! the process drains, and collects the idle ones for a re-exec.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use event_loop::net::Stream;
use event_loop::time;
use slab::Slab;

use crate::phase::{Phase, Wanted};
use crate::recovery::{ConnectionGuard, ReplyFormat};
use crate::request::fairness::{self, ClientNet, Connected, Loss};
use crate::upgrade::upgrader::RequestActivity;

/// How long a new connection may take to send its first request before it counts as idle. A client that
/// connects is about to send a request, and closing earlier would lose it. Web servers write within a
/// millisecond.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The list of open connections.
#[derive(Default)]
pub(crate) struct Connections {
    entries: RefCell<Slab<Entry>>,
    /// The sum of all `held`, except for connections that were asked to close.
    held: Cell<usize>,
    /// When the warning about exceeding the limit was last logged.
    warned_at: Cell<Option<Instant>>,
    phase: Cell<Phase>,
    /// Connections handed over so far.
    collected: RefCell<Vec<IdleConnection>>,
    /// Woken when a connection ends.
    waiting: RefCell<Option<Waker>>,
    /// Whether a request has started since this was last checked.
    active: Cell<bool>,
    /// Woken by the first request after an idle period.
    watcher: RefCell<Option<Waker>>,
}

/// A connection between two requests; nothing of the next request has been read.
pub(crate) struct IdleConnection {
    /// Registered so that a crash in the meantime hands it over too. Released before the socket is
    /// closed.
    pub(crate) guard: ConnectionGuard,
    pub(crate) stream: Stream,
    /// The peer's address, over TCP.
    pub(crate) peer: Option<SocketAddr>,
}

impl IdleConnection {
    pub(crate) fn new(
        stream: Stream,
        peer: Option<SocketAddr>,
        format: ReplyFormat,
    ) -> IdleConnection {
        let guard = ConnectionGuard::register(stream.as_fd(), format);
        IdleConnection { guard, stream, peer }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A request is being answered.
    #[default]
    Answering,
    /// A keep-alive connection, without a request since then. The time may lie in the future; until then
    /// the connection does not count as idle.
    Idle(Instant),
    /// Part of a request has arrived since then, but not the rest; or the rest of a request that has
    /// already been answered is still arriving.
    Receiving(Instant),
}

struct Entry {
    waker: Option<Waker>,
    net: ClientNet,
    activity: Activity,
    /// Bytes of incomplete heads.
    held: usize,
    asked_to_close: bool,
}

impl Connections {
    /// Registers a new connection from an address, until the returned value is dropped.
    pub(crate) fn enter(self: &Rc<Self>, address: Option<IpAddr>) -> Registration {
        let net = ClientNet::of(address);
        let entry = Entry {
            waker: None,
            net,
            activity: Activity::default(),
            held: 0,
            asked_to_close: false,
        };
        let key = self.entries.borrow_mut().insert(entry);
        Registration { connections: self.clone(), key }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Asks a connection without a response in flight to close. Returns whether there is one.
    pub(crate) fn make_room(&self) -> bool {
        let key = {
            let entries = self.entries.borrow();
            let open = entries.iter().filter(|(_, entry)| !entry.asked_to_close);
            let open = open.map(|(key, entry)| {
                let would_lose = match entry.activity {
                    Activity::Answering => None,
                    Activity::Idle(since) => Some(Loss::Nothing(since)),
                    // The rest of a request that has just started to arrive may follow.
                    Activity::Receiving(since) => Some(Loss::PartOfRequest(since + FIRST_REQUEST)),
                };
                (key, Connected { net: entry.net, would_lose })
            });
            fairness::connection_to_close(open, time::now())
        };
        key.inspect(|key| self.ask_to_close(*key)).is_some()
    }

    fn ask_to_close(&self, key: usize) {
        let waker = {
            let entry = &mut self.entries.borrow_mut()[key];
            entry.asked_to_close = true;
            self.held.set(self.held.get() - entry.held);
            entry.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks one connection to close when incomplete heads hold more than `limit` bytes: the one that
    /// holds the most, unless `newest` holds at least half as much, because it is the one that is
    /// growing.
    fn bound_held(&self, newest: usize, limit: usize) {
        if self.held.get() <= limit {
            return;
        }
        let key = {
            let entries = self.entries.borrow();
            let open = entries.iter().filter(|(_, entry)| !entry.asked_to_close);
            let most = open.max_by_key(|(_, entry)| entry.held);
            most.filter(|(_, entry)| entry.held / 2 > entries[newest].held)
                .map_or(newest, |(key, _)| key)
        };
        if should_warn(&self.warned_at) {
            tracing::warn!(
                "Incomplete request heads exceed {limit} bytes (total_head_bytes); closing the connections \
                 that hold the most."
            );
        }
        self.ask_to_close(key);
    }

    /// Notifies all connections of the phase the process is in.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
        if phase.wanted().is_some() {
            self.wake_all();
        }
    }

    /// Returns the phase the process is in.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
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

    /// Takes the connections handed over so far.
    pub(crate) fn take_collected(&self) -> Vec<IdleConnection> {
        std::mem::take(&mut *self.collected.borrow_mut())
    }

    /// Borrows the connections handed over so far.
    pub(crate) fn collected(&self) -> std::cell::Ref<'_, Vec<IdleConnection>> {
        self.collected.borrow()
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

/// How often a persistent condition is logged: logging every occurrence would fill the log.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Whether to log a persistent condition again; records that it was.
pub(crate) fn should_warn(warned_at: &Cell<Option<Instant>>) -> bool {
    let now = time::now();
    let is_due =
        warned_at.get().is_none_or(|at| now.saturating_duration_since(at) >= WARN_INTERVAL);
    if is_due {
        warned_at.set(Some(now));
    }
    is_due
}

/// A connection's entry in the list.
pub(crate) struct Registration {
    connections: Rc<Connections>,
    key: usize,
}

impl RequestActivity for Connections {
    fn was_active(&self, context: &Context<'_>) -> bool {
        let was = self.active.replace(false);
        let watcher = (!was).then(|| context.waker().clone());
        self.watcher.replace(watcher);
        was
    }

    fn is_busy(&self) -> bool {
        self.entries.borrow().iter().any(|(_, entry)| !matches!(entry.activity, Activity::Idle(_)))
    }
}

impl Registration {
    /// Returns what is wanted of a connection that is between requests. If that is nothing yet, wakes the
    /// context when it changes.
    pub(crate) fn poll_wanted(&self, context: &mut Context<'_>) -> Option<Wanted> {
        let by_phase = self.connections.phase.get().wanted();
        if by_phase == Some(Wanted::Close) {
            return by_phase;
        }
        let mut entries = self.connections.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.asked_to_close {
            let is_receiving = matches!(entry.activity, Activity::Receiving(_)) || entry.held > 0;
            return Some(if is_receiving { Wanted::CloseNow } else { Wanted::Close });
        }
        // Registered even while it is to be handed over: that may be put off.
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            entry.waker = Some(context.waker().clone());
        }
        by_phase
    }

    /// Hands the connection over. Nothing of a next request may have been read from it.
    pub(crate) fn hand_over(self, idle: IdleConnection) {
        self.connections.collected.borrow_mut().push(idle);
    }

    /// Records what the connection is doing.
    pub(crate) fn set_activity(&self, activity: Activity) {
        if !matches!(activity, Activity::Idle(_))
            && !self.connections.active.replace(true)
            && let Some(watcher) = self.connections.watcher.take()
        {
            watcher.wake();
        }
        self.connections.entries.borrow_mut()[self.key].activity = activity;
    }

    /// Records how many bytes of incomplete heads the connection holds; `limit` bounds their sum over all
    /// connections.
    pub(crate) fn set_held(&self, bytes: usize, limit: usize) {
        {
            let entry = &mut self.connections.entries.borrow_mut()[self.key];
            let before = std::mem::replace(&mut entry.held, bytes);
            if entry.asked_to_close {
                return;
            }
            let held = &self.connections.held;
            held.set(held.get() - before + bytes);
            if bytes <= before {
                return;
            }
        }
        self.connections.bound_held(self.key, limit);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let entry = self.connections.entries.borrow_mut().remove(self.key);
        if !entry.asked_to_close {
            self.connections.held.set(self.connections.held.get() - entry.held);
        }
        if let Some(waker) = self.connections.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn the_longest_idle_connection_is_asked_first_and_once() {
        let connections = Rc::new(Connections::default());
        let now = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        let (old, young, busy) =
            (connections.enter(None), connections.enter(None), connections.enter(None));
        let new = connections.enter(None);
        old.set_activity(Activity::Idle(now - Duration::from_secs(1)));
        young.set_activity(Activity::Idle(now));
        new.set_activity(Activity::Idle(now + FIRST_REQUEST));
        assert!(connections.make_room());
        assert_eq!(old.poll_wanted(&mut context), Some(Wanted::Close));
        assert_eq!(young.poll_wanted(&mut context), None);
        assert!(connections.make_room());
        assert_eq!(young.poll_wanted(&mut context), Some(Wanted::Close));
        assert!(!connections.make_room());
        assert_eq!(busy.poll_wanted(&mut context), None);
        assert_eq!(new.poll_wanted(&mut context), None);
        drop((old, young, new));
        assert!(connections.poll_fewer_than(2, &mut context).is_ready());
        connections.set_phase(Phase::Draining);
        assert_eq!(busy.poll_wanted(&mut context), Some(Wanted::Close));
    }

    #[test]
    fn incomplete_requests_are_asked_to_close_and_responses_in_flight_are_not() {
        let connections = Rc::new(Connections::default());
        let long_ago = Instant::now() - Duration::from_secs(9);
        let mut context = Context::from_waker(Waker::noop());
        let (half, answering) = (connections.enter(None), connections.enter(None));
        half.set_activity(Activity::Receiving(long_ago));
        assert!(connections.make_room());
        assert!(!connections.make_room());
        assert_eq!(half.poll_wanted(&mut context), Some(Wanted::CloseNow));
        // The request has become complete in the meantime and is answered first.
        half.set_activity(Activity::Answering);
        assert_eq!(half.poll_wanted(&mut context), Some(Wanted::Close));
        assert_eq!(answering.poll_wanted(&mut context), None);
    }

    /// Part of a request has arrived on it when an upgrade is tried and put off.
    #[test]
    fn a_connection_is_woken_to_close_after_a_handover_was_put_off() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let connections = Rc::new(Connections::default());
        let half = connections.enter(None);
        half.set_activity(Activity::Receiving(Instant::now() - Duration::from_secs(9)));
        connections.set_phase(Phase::HandingOver);
        assert_eq!(half.poll_wanted(&mut context), Some(Wanted::HandOver));
        connections.set_phase(Phase::Serving);
        assert!(connections.make_room());
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(half.poll_wanted(&mut context), Some(Wanted::CloseNow));
    }

    #[test]
    fn incomplete_heads_share_one_limit() {
        let connections = Rc::new(Connections::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut asked = |place: &Registration| place.poll_wanted(&mut context).is_some();
        let (large, small, other) =
            (connections.enter(None), connections.enter(None), connections.enter(None));
        large.set_held(70, 100);
        small.set_held(20, 100);
        other.set_held(10, 100);
        assert!(!asked(&large) && !asked(&small) && !asked(&other));
        other.set_held(20, 100);
        assert!(asked(&large) && !asked(&small) && !asked(&other), "the largest is closed");
        assert_eq!(connections.held.get(), 40);
        small.set_held(60, 100);
        other.set_held(50, 100);
        assert!(asked(&other) && !asked(&small), "unless the growing one is nearly as large");
        drop((large, small, other));
        assert_eq!(connections.held.get(), 0);
    }
}
