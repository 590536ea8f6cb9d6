//! The queue of tasks to poll next, and the wakers that add to it.
//!
//! On the loop's own thread a wake pushes the task onto the queue, at most once until it is polled: a flag in the
//! waker records that the task is queued. A wake from another thread goes through the [`RemoteQueue`], the only
//! part of the loop that other threads use. The tasks themselves are in `executor.rs`.

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

/// The key of the future passed to `run`, which has no row in the task table.
pub(crate) const ROOT: Key = Key::reserved(0);

thread_local! {
    /// The queue of the loop that runs on this thread.
    static HERE: RefCell<Option<Rc<ReadyQueue>>> = const { RefCell::new(None) };
}

/// Ends the queue's life on this thread: wakers no longer find it.
pub(crate) fn leave() {
    let queue = HERE.with(|here| here.borrow_mut().take());
    drop(queue);
}

/// Same as [`leave`] for a forked child, without dropping anything.
pub(crate) fn forget() {
    HERE.with(|here| std::mem::forget(here.borrow_mut().take()));
}

/// Queues a task if its loop runs on this thread; returns whether it does.
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
    remote: Arc<RemoteQueue>,
    /// Whether other threads can wake the loop.
    has_loop_waker: Cell<bool>,
    /// Swapped with the remote queue to empty it without allocating; otherwise empty.
    exchange: RefCell<Vec<Key>>,
    /// What to wake so that the loop takes its next turn: set only while the loop is a future that waits inside
    /// another executor.
    host: RefCell<Option<Waker>>,
}

impl ReadyQueue {
    /// Creates the queue of a loop, which wakers on this thread find until [`leave`] or [`forget`].
    pub(crate) fn enter(owner: LoopId) -> Rc<Self> {
        let queue = Rc::new(ReadyQueue::new(owner));
        HERE.with(|here| *here.borrow_mut() = Some(Rc::clone(&queue)));
        queue
    }

    fn new(owner: LoopId) -> Self {
        ReadyQueue {
            owner,
            queue: RefCell::new(VecDeque::new()),
            remote: Arc::default(),
            has_loop_waker: Cell::new(false),
            exchange: RefCell::new(Vec::new()),
            host: RefCell::new(None),
        }
    }

    /// Creates the waker of the task `key`: one allocation, shared by all its clones.
    pub(crate) fn waker(&self, key: Key) -> Arc<TaskWaker> {
        Arc::new(TaskWaker {
            owner: self.owner,
            key,
            queued: AtomicBool::new(false),
            remote: Arc::clone(&self.remote),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Takes the task that has waited longest. It may have ended in the meantime, and its key may find no row.
    pub(crate) fn pop(&self) -> Option<Key> {
        self.queue.borrow_mut().pop_front()
    }

    fn push(&self, key: Key) {
        self.queue.borrow_mut().push_back(key);
        self.wake_host();
    }

    /// Lets other threads wake the loop. Call [`take_remote_wakes`](Self::take_remote_wakes) afterwards: earlier
    /// wakes could not do so.
    pub(crate) fn set_loop_waker(&self, waker: mio::Waker) {
        self.remote.lock().loop_waker = Some(waker);
        self.has_loop_waker.set(true);
    }

    pub(crate) fn has_loop_waker(&self) -> bool {
        self.has_loop_waker.get()
    }

    /// Moves the tasks woken by other threads into the queue.
    pub(crate) fn take_remote_wakes(&self) {
        let mut exchange = self.exchange.borrow_mut();
        std::mem::swap(&mut *exchange, &mut self.remote.lock().keys);
        count_many(exchange.len() as u64, |counters| &counters.foreign_wakes);
        self.queue.borrow_mut().extend(exchange.drain(..));
    }

    /// Sets what to wake when a task becomes ready between two turns; returns the former waker, to be dropped.
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

/// The tasks woken by other threads. The loop itself only takes the lock after it was woken for that, and in each
/// turn until there is a loop waker.
#[derive(Debug, Default)]
struct RemoteQueue(Mutex<RemoteWakes>);

#[derive(Debug, Default)]
struct RemoteWakes {
    keys: Vec<Key>,
    /// `None` until the loop first waits; until then, it checks `keys` in each turn.
    loop_waker: Option<mio::Waker>,
}

impl RemoteQueue {
    fn lock(&self) -> MutexGuard<'_, RemoteWakes> {
        // A panic cannot interrupt a push or a swap halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: Key) {
        let mut wakes = self.lock();
        wakes.keys.push(key);
        // Only the first key since the loop emptied the list has to wake it.
        if wakes.keys.len() == 1
            && let Some(loop_waker) = &wakes.loop_waker
        {
            let woken: io::Result<()> = loop_waker.wake();
            // Fails only if the kernel has no memory for an eight-byte counter.
            debug_assert!(woken.is_ok(), "the loop could not be woken: {woken:?}");
        }
    }
}

/// Wakes one task.
#[derive(Debug)]
pub(crate) struct TaskWaker {
    owner: LoopId,
    key: Key,
    /// Whether the task is in the queue or the remote queue.
    queued: AtomicBool,
    remote: Arc<RemoteQueue>,
}

impl TaskWaker {
    /// Records that the task has left the queue and is about to be polled; from here on, a wake queues it again.
    ///
    /// Acquire: the poll sees what another thread wrote before it woke the task.
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
            self.remote.push(self.key);
        }
    }
}

/// Counts a poll, renews the task's budget of reads and writes, and records that it has left the queue.
pub(crate) fn begin_poll(waker: &TaskWaker) {
    count(|counters| &counters.polls);
    grant_operations();
    waker.leave_queue();
}
