//! The tasks of a loop, and polling them.
//!
//! A spawned task takes two allocations: the boxed future and the waker shared by all its clones. `ready_queue.rs`
//! decides which task is polled next; the turn of the loop in `lib.rs`, when. A panic of a task is caught here and
//! kept for what awaits the [`Task`](crate::Task). The handles are in `task.rs`.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::counters::count;
use crate::ready_queue::{ReadyQueue, TaskWaker, begin_poll};
use crate::table::{Key, Table};

/// The tasks of one loop.
pub(crate) struct Executor {
    tasks: RefCell<Table<TaskRow>>,
}

struct TaskRow {
    stage: Stage,
    waker: Arc<TaskWaker>,
    /// Whether the output is not wanted.
    detached: bool,
    /// The waker of what awaits the task.
    joiner: Option<Waker>,
}

enum Stage {
    /// Between two polls. The waker is the row's own, for use in a poll.
    Waiting(BoxedTask, Waker),
    /// Being polled, further up the call stack, which owns the future meanwhile.
    Running,
    /// Like `Running`, but to be dropped after the poll.
    Cancelled,
    Ended(Outcome),
}

pub(crate) type BoxedTask = Pin<Box<dyn AnyTask>>;
pub(crate) type Outcome = Result<Box<dyn Any>, Box<dyn Any + Send>>;

/// A future with any output, which is only boxed if it is wanted.
pub(crate) trait AnyTask {
    fn poll_any(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        wanted: bool,
    ) -> Poll<Box<dyn Any>>;
}

impl<F: Future + 'static> AnyTask for F {
    fn poll_any(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        wanted: bool,
    ) -> Poll<Box<dyn Any>> {
        // Boxing a zero-sized type such as `()` allocates nothing.
        self.poll(context)
            .map(|output| if wanted { Box::new(output) as Box<dyn Any> } else { Box::new(()) })
    }
}

impl Executor {
    pub(crate) const fn new() -> Self {
        Executor { tasks: RefCell::new(Table::new()) }
    }

    pub(crate) fn insert(&self, ready: &ReadyQueue, future: BoxedTask) -> (Key, Waker) {
        count(|counters| &counters.spawned);
        let mut tasks = self.tasks.borrow_mut();
        let header = ready.waker(tasks.next_key());
        let waker = Waker::from(Arc::clone(&header));
        let key = tasks.insert(TaskRow {
            stage: Stage::Waiting(future, waker.clone()),
            waker: header,
            detached: false,
            joiner: None,
        });
        (key, waker)
    }

    /// Polls a task once. Does nothing if it has ended or is being polled.
    pub(crate) fn poll(&self, key: Key) {
        let Some((mut future, waker, wanted)) = self.start(key) else { return };
        let mut context = Context::from_waker(&waker);
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll_any(&mut context, wanted)));
        match polled {
            Ok(Poll::Pending) => {
                let cancelled = self.pause(key, future, waker);
                self.drop_quietly(cancelled);
            }
            Ok(Poll::Ready(output)) => {
                // Dropped before the joiner is woken.
                self.drop_quietly(future);
                self.end(key, Ok(output));
            }
            Err(payload) => {
                count(|counters| &counters.panics);
                self.drop_quietly(future);
                self.end(key, Err(payload));
            }
        }
    }

    /// Takes the future out for a poll.
    fn start(&self, key: Key) -> Option<(BoxedTask, Waker, bool)> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        match std::mem::replace(&mut row.stage, Stage::Running) {
            Stage::Waiting(future, waker) => {
                begin_poll(&row.waker);
                Some((future, waker, !row.detached))
            }
            other => {
                row.stage = other;
                None
            }
        }
    }

    /// Puts the future back after a poll; if the task was cancelled, returns what to drop.
    fn pause(
        &self,
        key: Key,
        future: BoxedTask,
        waker: Waker,
    ) -> Option<(BoxedTask, Option<TaskRow>)> {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.get_mut(key) {
            Some(row) if matches!(row.stage, Stage::Running) => {
                row.stage = Stage::Waiting(future, waker);
                None
            }
            _ => Some((future, tasks.remove(key))),
        }
    }

    /// Keeps the outcome for what awaits the task, or removes the task if its output is not wanted.
    fn end(&self, key: Key, outcome: Outcome) {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.get_mut(key) {
            Some(row) if matches!(row.stage, Stage::Running) && !row.detached => {
                row.stage = Stage::Ended(outcome);
                let joiner = row.joiner.take();
                drop(tasks);
                if let Some(joiner) = joiner {
                    joiner.wake();
                }
            }
            _ => {
                let row = tasks.remove(key);
                drop(tasks);
                self.drop_quietly((outcome, row));
            }
        }
    }

    /// Returns the outcome of an ended task and removes the task, or registers the waker; `None` if there is no such
    /// task.
    pub(crate) fn poll_join(&self, key: Key, context: &Context<'_>) -> Option<Poll<Outcome>> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        if matches!(row.stage, Stage::Ended(_)) {
            let row = tasks.remove(key)?;
            drop(tasks);
            return match row.stage {
                Stage::Ended(outcome) => Some(Poll::Ready(outcome)),
                _ => None,
            };
        }
        if !row.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(context.waker())) {
            drop(tasks);
            // Cloning and dropping a waker runs foreign code, so it happens outside any borrow.
            let joiner = context.waker().clone();
            let old = self.tasks.borrow_mut().get_mut(key)?.joiner.replace(joiner);
            drop(old);
        }
        Some(Poll::Pending)
    }

    /// Marks a task's output as not wanted. If the task has ended, returns what is left of it, to be dropped.
    pub(crate) fn detach(&self, key: Key) -> Option<impl Sized + use<>> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        row.detached = true;
        if matches!(row.stage, Stage::Ended(_)) { tasks.remove(key) } else { None }
    }

    /// Ends a task; returns what is left of it, to be dropped. If it is being polled, its future is dropped after
    /// that poll.
    pub(crate) fn cancel(&self, key: Key) -> Option<impl Sized + use<>> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        if matches!(row.stage, Stage::Running | Stage::Cancelled) {
            row.stage = Stage::Cancelled;
            return None;
        }
        tasks.remove(key)
    }

    pub(crate) fn is_running(&self, key: Key) -> bool {
        self.tasks.borrow().get(key).is_some_and(|row| !matches!(row.stage, Stage::Ended(_)))
    }

    /// Drops all tasks, including those spawned by the drop of others.
    pub(crate) fn drop_all(&self) {
        loop {
            let row = {
                let mut tasks = self.tasks.borrow_mut();
                tasks.any_key().and_then(|key| tasks.remove(key))
            };
            match row {
                Some(row) => self.drop_quietly(row),
                None => return,
            }
        }
    }

    /// Drops what is left of a task. A panic in its drop does not end the loop; the panic hook has reported it.
    fn drop_quietly<T>(&self, leftover: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(leftover))) {
            count(|counters| &counters.panics);
            // Dropping the payload could panic, too.
            std::mem::forget(payload);
        }
    }
}
