//! Tasks: futures that the loop polls, and the handles to them.
//!
//! A spawned task is two allocations: the boxed future and the waker that all its clones share. Which
//! task is polled next is decided in `ready_queue.rs`; when, in the turn of the loop in `lib.rs`. A panic
//! of a task ends here: it is kept for whoever awaits the [`Task`].

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::counters::count;
use crate::loop_state::{Loop, LoopId, current, with_loop};
use crate::ready_queue::{TaskWaker, begin_poll};
use crate::table::{Key, Table};

/// Starts a task on this thread's loop; it is polled for the first time in its turn, behind the tasks that
/// are ready now.
///
/// Neither the future nor its output has to be `Send`; the returned handle is. The task ends when its
/// future does, when the [`Task`] is dropped, or with the loop. Costs two allocations.
///
/// # Panics
///
/// When no loop runs on this thread.
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    let state = current().expect(NO_LOOP);
    let (key, waker) = state.executor.insert(&state, Box::pin(future));
    waker.wake();
    Task::new(state.id, key)
}

/// As [`spawn`], but polls the future once at once, inside the caller.
///
/// What can be done without waiting is done when this returns; the turn of the loop is saved. The poll has
/// the new task's own waker and its own panic guard. Meant for a server that has just read a request.
///
/// # Panics
///
/// When no loop runs on this thread.
#[track_caller]
pub fn spawn_now<F: Future + 'static>(future: F) -> Task<F::Output> {
    let state = current().expect(NO_LOOP);
    let (key, _waker) = state.executor.insert(&state, Box::pin(future));
    let task = Task::new(state.id, key);
    state.executor.poll(key);
    task
}

/// Lets all other ready tasks run once before the caller goes on; the sockets are looked at in time too.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const NO_LOOP: &str = "no event loop runs on this thread; call this inside event_loop::run";

/// A handle to a spawned task, and a future of its output.
///
/// * **Dropping it cancels the task**: its future is dropped at once, or right after the poll that is
///   running. [`detach`](Self::detach) lets the task go on alone instead.
/// * Awaiting it yields the output. If the task panicked, the panic goes on in whoever awaits;
///   [`outcome`](Self::outcome) hands it over as a value. (The panic hook has printed it by then.)
/// * It is `Send` whatever the output is, for it is an id. It is of use on its own thread alone: elsewhere
///   its drop cancels nothing and awaiting it panics.
#[must_use = "a task is cancelled when its handle is dropped; call detach() to let it run"]
pub struct Task<T> {
    owner: LoopId,
    key: Key,
    /// The output has been taken, or the task was detached.
    done: bool,
    output: PhantomData<fn() -> T>,
}

/// What a task panicked with.
pub struct Panic {
    payload: Box<dyn Any + Send + 'static>,
}

impl<T> Task<T> {
    fn new(owner: LoopId, key: Key) -> Self {
        Task { owner, key, done: false, output: PhantomData }
    }

    /// Lets the task run to its end by itself; its output is dropped.
    pub fn detach(mut self) {
        self.done = true;
        let leftover = with_loop(self.owner, |state| state.executor.detach(self.key));
        // An output that nobody will ask for: foreign code runs here, outside of any borrow.
        drop(leftover);
    }

    /// Says whether the task has ended, by its output or a panic.
    pub fn is_finished(&self) -> bool {
        with_loop(self.owner, |state| state.executor.is_running(self.key)) != Some(true)
    }
}

impl<T: 'static> Task<T> {
    /// Waits for the task's end and returns its output, or what it panicked with.
    ///
    /// # Errors
    ///
    /// [`Panic`] when the task panicked.
    ///
    /// # Panics
    ///
    /// When the task is none of this thread's running loop.
    pub async fn outcome(mut self) -> Result<T, Panic> {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Panic>> {
        assert!(!self.done, "a task was awaited again after its end");
        let state = current().filter(|state| state.id == self.owner);
        let Some(outcome) = state.and_then(|state| state.executor.poll_join(self.key, cx)) else {
            panic!("a task was awaited that is none of the event loop running on this thread");
        };
        outcome.map(|outcome| {
            self.done = true;
            match outcome {
                Ok(output) => match output.downcast::<T>() {
                    Ok(output) => Ok(*output),
                    Err(_) => {
                        unreachable!("the output has the type that the task was spawned with")
                    }
                },
                Err(payload) => Err(Panic { payload }),
            }
        })
    }
}

impl<T: 'static> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.poll_outcome(cx).map(|outcome| match outcome {
            Ok(output) => output,
            Err(panic) => resume_unwind(panic.payload),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.done {
            let leftover = with_loop(self.owner, |state| state.executor.cancel(self.key));
            // The future, its output and its wakers: foreign code runs here, outside of any borrow.
            drop(leftover);
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Task").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send + 'static>) -> Self {
        Panic { payload }
    }

    /// Returns the message of the panic; a fixed text when it was raised with something else than text.
    pub fn message(&self) -> &str {
        if let Some(text) = self.payload.downcast_ref::<&'static str>() {
            text
        } else if let Some(text) = self.payload.downcast_ref::<String>() {
            text
        } else {
            "a panic without a text"
        }
    }

    /// Returns what the panic was raised with, for `std::panic::resume_unwind`.
    pub fn into_payload(self) -> Box<dyn Any + Send + 'static> {
        self.payload
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the task panicked: {}", self.message())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Panic").field(&self.message()).finish()
    }
}

impl std::error::Error for Panic {}

/// The tasks of one loop.
pub(crate) struct Executor {
    tasks: RefCell<Table<Row>>,
}

struct Row {
    stage: Stage,
    waker: Arc<TaskWaker>,
    /// Nobody will ask for the output.
    detached: bool,
    /// Who awaits the task.
    joiner: Option<Waker>,
}

enum Stage {
    /// Between two polls. The waker is the row's own, ready to be lent to a poll.
    Waiting(BoxedTask, Waker),
    /// Its poll is somewhere below us on the stack, which has the future.
    Running,
    /// As `Running`, and to be dropped after it.
    Cancelled,
    Ended(Outcome),
}

type BoxedTask = Pin<Box<dyn AnyTask>>;
type Outcome = Result<Box<dyn Any>, Box<dyn Any + Send>>;

/// A future of any output. The output is boxed only if somebody wants it.
trait AnyTask {
    fn poll_any(self: Pin<&mut Self>, cx: &mut Context<'_>, wanted: bool) -> Poll<Box<dyn Any>>;
}

impl<F: Future + 'static> AnyTask for F {
    fn poll_any(self: Pin<&mut Self>, cx: &mut Context<'_>, wanted: bool) -> Poll<Box<dyn Any>> {
        // Boxing a type without size, as `()`, allocates nothing.
        self.poll(cx)
            .map(|output| if wanted { Box::new(output) as Box<dyn Any> } else { Box::new(()) })
    }
}

impl Executor {
    pub(crate) const fn new() -> Self {
        Executor { tasks: RefCell::new(Table::new()) }
    }

    fn insert(&self, state: &Loop, future: BoxedTask) -> (Key, Waker) {
        count(|counters| &counters.spawned);
        let mut tasks = self.tasks.borrow_mut();
        let header = state.ready.waker(tasks.next_key());
        let waker = Waker::from(Arc::clone(&header));
        let key = tasks.insert(Row {
            stage: Stage::Waiting(future, waker.clone()),
            waker: header,
            detached: false,
            joiner: None,
        });
        (key, waker)
    }

    /// Polls a task once. A task that has ended or is just being polled is left alone.
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
                // What the future held is gone before anybody hears of its end.
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

    /// Puts the future back after a poll; returns what is to be dropped if the task was cancelled.
    fn pause(&self, key: Key, future: BoxedTask, waker: Waker) -> Option<(BoxedTask, Option<Row>)> {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.get_mut(key) {
            Some(row) if matches!(row.stage, Stage::Running) => {
                row.stage = Stage::Waiting(future, waker);
                None
            }
            _ => Some((future, tasks.remove(key))),
        }
    }

    /// Keeps the outcome for whoever awaits the task, or forgets the task when nobody will.
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

    /// Returns the outcome of an ended task, which is forgotten with it, or notes who waits for it; `None`
    /// when there is no such task.
    fn poll_join(&self, key: Key, cx: &Context<'_>) -> Option<Poll<Outcome>> {
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
        if !row.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(cx.waker())) {
            drop(tasks);
            // Clones and drops of foreign wakers are foreign code: outside of any borrow.
            let joiner = cx.waker().clone();
            let old = self.tasks.borrow_mut().get_mut(key)?.joiner.replace(joiner);
            drop(old);
        }
        Some(Poll::Pending)
    }

    /// Lets a task run alone; returns what is left of one that has ended, to be dropped.
    fn detach(&self, key: Key) -> Option<impl Sized + use<>> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        row.detached = true;
        if matches!(row.stage, Stage::Ended(_)) { tasks.remove(key) } else { None }
    }

    /// Ends a task; returns what is left of it, to be dropped. One that is being polled loses its future
    /// after that poll.
    fn cancel(&self, key: Key) -> Option<impl Sized + use<>> {
        let mut tasks = self.tasks.borrow_mut();
        let row = tasks.get_mut(key)?;
        if matches!(row.stage, Stage::Running | Stage::Cancelled) {
            row.stage = Stage::Cancelled;
            return None;
        }
        tasks.remove(key)
    }

    fn is_running(&self, key: Key) -> bool {
        self.tasks.borrow().get(key).is_some_and(|row| !matches!(row.stage, Stage::Ended(_)))
    }

    /// Drops all tasks, those too that are spawned by the drops of others.
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

    /// Drops what a task has left. A panic in there is the task's own; the hook has printed it, and the
    /// loop goes on.
    fn drop_quietly<T>(&self, leftover: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(leftover))) {
            count(|counters| &counters.panics);
            // A payload whose own drop panics would be malice.
            std::mem::forget(payload);
        }
    }
}
