//! The whole state of one thread's loop, in one struct, and how this thread finds it.
//!
//! Handles (`Task`, `Stream`, `Sleep`, …) hold a [`LoopId`] and a table key; every use of them comes
//! through [`with_loop`]. Two rules keep the state sound although user code runs everywhere:
//!
//! 1. No `RefCell` of the state is borrowed while foreign code runs: no poll, no drop of a future or an
//!    output, no wake, clone or drop of a waker inside a borrow. Take it out, let go, then act.
//! 2. A handle of another thread or of an earlier loop meets `None`, never somebody else's row.
//!
//! What the loop *does* with the state is in `lib.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::counters;
use crate::executor::Executor;
use crate::loop_id::LoopId;
use crate::reactor::Reactor;
use crate::ready_queue::{self, ReadyQueue};
use crate::signal_inbox::Inbox;
use crate::timers::Timers;

/// One thread's world.
pub(crate) struct Loop {
    pub(crate) id: LoopId,
    pub(crate) clock: Clock,
    pub(crate) reactor: Reactor,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) ready: Rc<ReadyQueue>,
    pub(crate) executor: Executor,
    pub(crate) signals: Inbox,
    /// It lives inside another executor, which has a poll set of its own.
    pub(crate) hosted: Cell<bool>,
}

impl Loop {
    fn new() -> Self {
        let id = LoopId::next();
        Loop {
            id,
            clock: Clock::new(),
            reactor: Reactor::new(),
            timers: RefCell::new(Timers::new()),
            ready: ReadyQueue::enter(id),
            executor: Executor::new(),
            signals: Inbox::new(),
            hosted: Cell::new(false),
        }
    }

    /// To be asked before each look, which may take `patience`: the first that waits needs the bell, and
    /// who came before there was one could not ring. Returns the patience that is left.
    pub(crate) fn hear_threads(&self, patience: Option<Duration>) -> io::Result<Option<Duration>> {
        if self.ready.has_bell() {
            return Ok(patience);
        }
        if let Some(bell) = self.reactor.take_bell(patience != Some(Duration::ZERO))? {
            self.ready.hang_bell(bell);
        }
        self.ready.take_arrivals();
        Ok(if self.ready.is_empty() { patience } else { Some(Duration::ZERO) })
    }

    /// Returns how long the loop may sleep; `None` for as long as it takes.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.borrow().next_deadline()?;
        // The turn's own time would do, but after a long turn the timers would come late by its length.
        Some(deadline.saturating_duration_since(self.clock.read()))
    }

    /// Returns the turn's time, if there is a timer at all: else nobody needs the clock.
    pub(crate) fn now_if_timers(&self) -> Option<Instant> {
        (!self.timers.borrow().is_empty()).then(|| self.clock.now())
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Loop>>> = const { RefCell::new(None) };
}

/// The loop of this thread, from here to the drop, which ends all that the loop still holds.
pub(crate) struct Entered {
    state: Rc<Loop>,
}

impl Entered {
    /// Builds a loop and makes it this thread's.
    pub(crate) fn new() -> io::Result<Self> {
        CURRENT.with(|current| {
            // A borrow that fails is user code running inside `with_loop`: there is a loop.
            let Some(mut current) =
                current.try_borrow_mut().ok().filter(|current| current.is_none())
            else {
                return Err(io::Error::other("an event loop runs on this thread already"));
            };
            counters::reset();
            let state = Rc::new(Loop::new());
            *current = Some(Rc::clone(&state));
            Ok(Entered { state })
        })
    }
}

impl std::ops::Deref for Entered {
    type Target = Loop;

    fn deref(&self) -> &Loop {
        &self.state
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Futures are dropped while the loop can still be found: their sockets and timers sign off.
        self.state.executor.drop_all();
        ready_queue::leave();
        let state = CURRENT.with(|current| current.borrow_mut().take());
        drop(state);
    }
}

/// Forgets this thread's loop without ending it, in a child that has a copy of it: none of its futures is
/// dropped, and its descriptors are closed by whoever calls this.
pub(crate) fn forget() {
    ready_queue::forget();
    CURRENT.with(|current| std::mem::forget(current.borrow_mut().take()));
}

/// Gives `action` this thread's loop, or returns `None` when there is none.
///
/// `action` must not run foreign code that starts a loop; all of it is code of this crate.
pub(crate) fn with_current<R>(action: impl FnOnce(&Loop) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_deref().map(action)).ok().flatten()
}

/// Gives `action` this thread's loop if it is the one called `id`.
pub(crate) fn with_loop<R>(id: LoopId, action: impl FnOnce(&Loop) -> R) -> Option<R> {
    with_current(|state| (state.id == id).then(|| action(state))).flatten()
}

/// Returns this thread's loop, for work that runs foreign code.
pub(crate) fn current() -> Option<Rc<Loop>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// The error of everything that needs a loop where there is none.
pub(crate) fn no_loop() -> io::Error {
    io::Error::other("no event loop runs on this thread; call this inside event_loop::run")
}
