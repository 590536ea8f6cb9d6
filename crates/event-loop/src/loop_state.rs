//! The whole state of one thread's loop, and how the thread finds it.
//!
//! Handles (`Task`, `Stream`, `Sleep`, …) hold a [`LoopId`] and a table key, and use the state through [`with_loop`].
//! Two rules keep the state consistent although user code runs everywhere:
//!
//! 1. No `RefCell` of the state is borrowed while foreign code runs: no poll, no drop of a future or an output, no
//!    wake, clone or drop of a waker inside a borrow. Take the value out, end the borrow, then act.
//! 2. A handle of another thread or of an earlier loop gets `None`, never another handle's row.
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

/// The state of one thread's loop.
pub(crate) struct Loop {
    pub(crate) id: LoopId,
    pub(crate) clock: Clock,
    pub(crate) reactor: Reactor,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) ready: Rc<ReadyQueue>,
    pub(crate) executor: Executor,
    pub(crate) signals: Inbox,
    /// Whether it runs inside another executor, which has its own poll set.
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

    /// Prepares a wait of up to `timeout`: creates the waker for other threads before the first wait that can
    /// sleep, and takes the wakes that came before there was one. Returns the timeout to use.
    pub(crate) fn take_remote_wakes(
        &self,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Duration>> {
        if self.ready.has_loop_waker() {
            return Ok(timeout);
        }
        if let Some(waker) = self.reactor.take_loop_waker(timeout != Some(Duration::ZERO))? {
            self.ready.set_loop_waker(waker);
        }
        self.ready.take_remote_wakes();
        Ok(if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) })
    }

    /// Returns how long the loop may sleep; `None` for no limit.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.borrow().next_deadline()?;
        // With the turn's time, timers would fire late by the length of the turn.
        Some(deadline.saturating_duration_since(self.clock.read()))
    }

    /// Returns the turn's time if there is a timer; otherwise the clock need not be read.
    pub(crate) fn now_if_timers(&self) -> Option<Instant> {
        (!self.timers.borrow().is_empty()).then(|| self.clock.now())
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Loop>>> = const { RefCell::new(None) };
}

/// Keeps a loop as this thread's current one. The drop drops everything that the loop still holds.
pub(crate) struct Entered {
    state: Rc<Loop>,
}

impl Entered {
    /// Builds a loop and makes it this thread's current one.
    pub(crate) fn new() -> io::Result<Self> {
        CURRENT.with(|current| {
            // A failed borrow means that user code runs inside `with_loop`, so there is a loop.
            let Some(mut current) =
                current.try_borrow_mut().ok().filter(|current| current.is_none())
            else {
                return Err(io::Error::other("an event loop already runs on this thread"));
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
        // Futures are dropped while the loop can still be found, so that their sockets and timers deregister.
        self.state.executor.drop_all();
        ready_queue::leave();
        let state = CURRENT.with(|current| current.borrow_mut().take());
        drop(state);
    }
}

/// Forgets this thread's loop in a forked child without dropping any of its futures. The caller has to close its
/// descriptors.
pub(crate) fn forget() {
    ready_queue::forget();
    CURRENT.with(|current| std::mem::forget(current.borrow_mut().take()));
}

/// Calls `action` with this thread's loop; `None` if there is none.
///
/// `action` must not run foreign code that starts a loop; all callers are in this crate.
pub(crate) fn with_current<R>(action: impl FnOnce(&Loop) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_deref().map(action)).ok().flatten()
}

/// Calls `action` with this thread's loop if that is `id`.
pub(crate) fn with_loop<R>(id: LoopId, action: impl FnOnce(&Loop) -> R) -> Option<R> {
    with_current(|state| (state.id == id).then(|| action(state))).flatten()
}

/// Returns this thread's loop, for code that runs foreign code.
pub(crate) fn current() -> Option<Rc<Loop>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// The error if there is no loop.
pub(crate) fn no_loop() -> io::Error {
    io::Error::other("no event loop runs on this thread; call this inside event_loop::run")
}
