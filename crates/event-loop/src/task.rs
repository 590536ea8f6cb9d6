//! The handles of tasks: spawning, awaiting the output, cancelling. The tasks themselves are in `executor.rs`.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::loop_id::LoopId;
use crate::loop_state::{current, with_loop};
use crate::table::Key;

/// Spawns a task on this thread's loop. It is first polled after the tasks that are ready now.
///
/// Neither the future nor its output has to be `Send`; the returned handle is. The task ends when its future
/// completes, when the [`Task`] is dropped, or with the loop. Costs two allocations.
///
/// # Panics
///
/// If no loop runs on this thread.
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    let state = current().expect(NO_LOOP);
    let (key, waker) = state.executor.insert(&state.ready, Box::pin(future));
    waker.wake();
    Task::new(state.id, key)
}

/// Same as [`spawn`], but polls the future once before it returns.
///
/// What does not need to wait is done by then, without another turn of the loop. The poll uses the new task's
/// waker, and a panic only ends the new task. Meant for a server that has just read a request.
///
/// # Panics
///
/// If no loop runs on this thread.
#[track_caller]
pub fn spawn_now<F: Future + 'static>(future: F) -> Task<F::Output> {
    let state = current().expect(NO_LOOP);
    let (key, _waker) = state.executor.insert(&state.ready, Box::pin(future));
    let task = Task::new(state.id, key);
    state.executor.poll(key);
    task
}

/// Lets all other ready tasks run once before the caller continues. The sockets are checked meanwhile if it is time
/// to.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const NO_LOOP: &str = "no event loop runs on this thread; call this inside event_loop::run";

/// The handle of a spawned task, and a future of its output.
///
/// * **Dropping it cancels the task**: its future is dropped at once, or right after the poll that is running.
///   [`detach`](Self::detach) lets the task continue instead.
/// * Awaiting it yields the output. If the task panicked, the panic is resumed; [`outcome`](Self::outcome) returns
///   it as a value. (The panic hook has run by then.)
/// * It is `Send` whatever the output is, because it is an id. It only works on its own thread: elsewhere its drop
///   cancels nothing, and awaiting it panics.
#[must_use = "a task is cancelled when its handle is dropped; call detach() to let it run"]
pub struct Task<T> {
    owner: LoopId,
    key: Key,
    /// Whether the output has been taken, or the task detached.
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

    /// Lets the task run to completion; its output is dropped.
    pub fn detach(mut self) {
        self.done = true;
        let leftover = with_loop(self.owner, |state| state.executor.detach(self.key));
        // The drop of the output is foreign code, so it runs outside any borrow.
        drop(leftover);
    }

    /// Returns whether the task has completed or panicked.
    pub fn is_finished(&self) -> bool {
        with_loop(self.owner, |state| state.executor.is_running(self.key)) != Some(true)
    }
}

impl<T: 'static> Task<T> {
    /// Waits until the task has ended and returns its output, or what it panicked with.
    ///
    /// # Errors
    ///
    /// [`Panic`] if the task panicked.
    ///
    /// # Panics
    ///
    /// If the task does not belong to the loop that runs on this thread.
    pub async fn outcome(mut self) -> Result<T, Panic> {
        poll_fn(|context| self.poll_outcome(context)).await
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Result<T, Panic>> {
        assert!(!self.done, "a task was awaited again after it had ended");
        let state = current().filter(|state| state.id == self.owner);
        let Some(outcome) = state.and_then(|state| state.executor.poll_join(self.key, context))
        else {
            panic!("a task was awaited that does not belong to the event loop on this thread");
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

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.poll_outcome(context).map(|outcome| match outcome {
            Ok(output) => output,
            Err(panic) => resume_unwind(panic.payload),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.done {
            let leftover = with_loop(self.owner, |state| state.executor.cancel(self.key));
            // The drops of the future, its output and its wakers are foreign code, so they run outside any borrow.
            drop(leftover);
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Task").field("key", &self.key).finish_non_exhaustive()
    }
}

impl From<Box<dyn Any + Send + 'static>> for Panic {
    /// Wraps what `catch_unwind` has caught.
    fn from(payload: Box<dyn Any + Send + 'static>) -> Self {
        Panic { payload }
    }
}

impl Panic {
    /// Returns the panic message; a fixed text if the payload is not a string.
    pub fn message(&self) -> &str {
        if let Some(text) = self.payload.downcast_ref::<&'static str>() {
            text
        } else if let Some(text) = self.payload.downcast_ref::<String>() {
            text
        } else {
            "a panic without a message"
        }
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
