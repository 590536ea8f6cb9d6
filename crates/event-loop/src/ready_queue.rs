//! Which tasks are to be polled next, and how wakers put them there.
//!
//! On the loop's own thread a wake is a push on a queue, once per task until it is polled: a flag in the
//! waker says that the task is queued already. A wake from any other thread goes through the [`Inlet`],
//! the only door of the loop that other threads can use. The tasks themselves are in `executor.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::counters::{count, count_many};
use crate::loop_id::LoopId;
use crate::operations::grant_operations;
use crate::table::Key;

/// What stands for the future given to `run`, which is no row of the task table.
pub(crate) const ROOT: Key = Key::reserved(0);

thread_local! {
    /// The queue of the loop that runs on this thread.
    static HERE: RefCell<Option<Rc<ReadyQueue>>> = const { RefCell::new(None) };
}

/// Wakers find no queue on this thread any more.
pub(crate) fn leave() {
    let queue = HERE.with(|here| here.borrow_mut().take());
    drop(queue);
}

/// As [`leave`], without dropping anything, in a child that has a copy of the loop.
pub(crate) fn forget() {
    HERE.with(|here| std::mem::forget(here.borrow_mut().take()));
}

/// Puts a task into the queue of its loop; says whether that runs on this thread.
fn push_here(owner: LoopId, key: Key) -> bool {
    let push = |here: &RefCell<Option<Rc<ReadyQueue>>>| match here.borrow().as_deref() {
        Some(queue) if queue.owner == owner => {
            queue.push(key);
            true
        }
        _ => false,
    };
    HERE.try_with(push).unwrap_or(false)
}

/// The queue of one loop.
pub(crate) struct ReadyQueue {
    owner: LoopId,
    queue: RefCell<VecDeque<Key>>,
    inlet: Arc<Inlet>,
    /// Other threads can ring.
    has_bell: Cell<bool>,
    /// Empties the inlet without allocating; always empty itself between two uses.
    exchange: RefCell<Vec<Key>>,
    /// Who has to be woken so that the loop takes its next turn: set while the loop is a future that
    /// waits inside another executor, and nothing otherwise.
    host: RefCell<Option<Waker>>,
}

impl ReadyQueue {
    /// Makes the queue of a loop, which wakers on this thread find until [`leave`] or [`forget`].
    pub(crate) fn enter(owner: LoopId) -> Rc<Self> {
        let queue = Rc::new(ReadyQueue::new(owner));
        HERE.with(|here| *here.borrow_mut() = Some(Rc::clone(&queue)));
        queue
    }

    fn new(owner: LoopId) -> Self {
        ReadyQueue {
            owner,
            queue: RefCell::new(VecDeque::new()),
            inlet: Arc::default(),
            has_bell: Cell::new(false),
            exchange: RefCell::new(Vec::new()),
            host: RefCell::new(None),
        }
    }

    /// Makes the waker of the task `key`: one allocation, shared by all its clones.
    pub(crate) fn waker(&self, key: Key) -> Arc<TaskWaker> {
        Arc::new(TaskWaker {
            owner: self.owner,
            key,
            queued: AtomicBool::new(false),
            inlet: Arc::clone(&self.inlet),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Takes out the task that waits longest. It may have ended since: its key then finds nobody.
    pub(crate) fn pop(&self) -> Option<Key> {
        self.queue.borrow_mut().pop_front()
    }

    fn push(&self, key: Key) {
        self.queue.borrow_mut().push_back(key);
        self.wake_host();
    }

    /// Gives other threads a bell to ring. Who came before could not: look after them once.
    pub(crate) fn hang_bell(&self, bell: mio::Waker) {
        self.inlet.lock().bell = Some(bell);
        self.has_bell.set(true);
    }

    pub(crate) fn has_bell(&self) -> bool {
        self.has_bell.get()
    }

    /// Moves what other threads woke into the queue.
    pub(crate) fn take_arrivals(&self) {
        let mut exchange = self.exchange.borrow_mut();
        std::mem::swap(&mut *exchange, &mut self.inlet.lock().keys);
        count_many(exchange.len() as u64, |counters| &counters.foreign_wakes);
        self.queue.borrow_mut().extend(exchange.drain(..));
    }

    /// Notes who has to be woken when something becomes ready between two turns; returns the waker that
    /// was noted before, to be dropped.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_host(&self, host: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.host.borrow_mut(), host)
    }

    /// Wakes the host, once.
    pub(crate) fn wake_host(&self) {
        let host = self.host.borrow_mut().take();
        if let Some(host) = host {
            host.wake();
        }
    }
}

/// The only way into a loop from another thread. Several threads may come: it is behind a lock, which the
/// loop itself takes only after the bell rang, and before there is one.
#[derive(Debug, Default)]
struct Inlet(Mutex<Arrivals>);

#[derive(Debug, Default)]
struct Arrivals {
    keys: Vec<Key>,
    /// None before the loop first waits: it comes and looks.
    bell: Option<mio::Waker>,
}

impl Inlet {
    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        // A push or a swap cannot leave the list half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: Key) {
        let mut arrivals = self.lock();
        arrivals.keys.push(key);
        // The bell of the first arrival rings for all that come before the loop looks.
        if arrivals.keys.len() == 1
            && let Some(bell) = &arrivals.bell
        {
            let rung: io::Result<()> = bell.wake();
            // It fails only when the process is out of memory for an eight-byte counter; the next
            // arrival would not ring, but the loop's next turn for any other reason looks too.
            debug_assert!(rung.is_ok(), "the loop could not be woken: {rung:?}");
        }
    }
}

/// Wakes one task.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    owner: LoopId,
    key: Key,
    /// The task is in the queue, or on its way through the inlet.
    queued: AtomicBool,
    inlet: Arc<Inlet>,
}

impl TaskWaker {
    /// Notes that the task left the queue and is about to be polled; from here on a wake queues it again.
    ///
    /// Acquire: what another thread wrote before it woke the task is seen by the poll.
    pub(crate) fn leave_queue(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if !push_here(self.owner, self.key) {
            self.inlet.push(self.key);
        }
    }
}

/// Counts a poll, grants its share of reads and writes, and says goodbye to the queue.
pub(crate) fn begin_poll(waker: &TaskWaker) {
    count(|counters| &counters.polls);
    grant_operations();
    waker.leave_queue();
}
