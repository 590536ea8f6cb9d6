//! Checks and hashes passwords outside the event loop, a few at a time.
//!
//! One check keeps a processor busy for some tenths of a second. So it runs in a child process, of which there
//! are at most [`MAX_AT_ONCE`]; [`MAX_WAITING`] more requests queue for at most [`PATIENCE`]; all others are
//! told immediately that the login is busy. Nothing is ever computed in the loop, where it would delay all
//! other visitors: if the system provides no child, the response is 503.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use event_loop::fork::{self, Failure};
use event_loop::time::timeout;
use http::StatusCode;

use super::password::Password;
use crate::error_page::ErrorPage;
use crate::pause::pause;

/// Children at once, in each process of the site. Two, so that one that hangs does not block the login.
const MAX_AT_ONCE: usize = 2;

/// Requests that wait for a child, in each process of the site. Each holds a form of at most 16 KiB, and at
/// some tenths of a second per check, all of them finish within [`PATIENCE`].
const MAX_WAITING: usize = 32;

/// How long a request waits for a child: 10 s. Web servers give up after 40 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long until the system is asked again for a process that it refused: 200 ms.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// When to come back, in seconds (`Retry-After`).
const COME_BACK_AFTER: u32 = 5;

/// The limit for checking a password. It normally takes some tenths of a second; this allows for a slow
/// machine.
const LIMITS: fork::Limits = fork::Limits {
    cpu: Duration::from_secs(30),
    wall: Duration::from_secs(60),
    memory: 64 << 20,
    file_size: 1 << 20,
};

/// Checks and hashes passwords, in turn.
pub(crate) struct Hashing {
    queue: Queue,
}

/// Whether others wait while this process computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It serves other visitors, too.
    Shared,
    /// It serves this one request and ends (CGI), or is a command at the terminal.
    OfThisRequest,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Hashing { queue: Queue::new(MAX_AT_ONCE, MAX_WAITING) }
    }

    /// Returns whether this is the password.
    ///
    /// # Errors
    /// If its turn does not come; nothing is known about the password then.
    pub(crate) async fn is(
        &self,
        password: &Password,
        text: &str,
        process: Process,
    ) -> Result<bool, Busy> {
        if !password.is_slow() || process == Process::OfThisRequest {
            return Ok(password.is(text));
        }
        Ok(self.in_a_child(|| vec![u8::from(password.is(text))]).await? == [1])
    }

    /// Hashes a password.
    ///
    /// # Errors
    /// If its turn does not come, or the system provides no random bytes.
    pub(crate) async fn hash_of(&self, text: &str, process: Process) -> Result<String, Busy> {
        let hash = || Password::make_hash(text).unwrap_or_default().into_bytes();
        let hash = match process {
            Process::OfThisRequest => hash(),
            Process::Shared => self.in_a_child(hash).await?,
        };
        let hash = String::from_utf8(hash).ok().filter(|hash| !hash.is_empty());
        hash.ok_or_else(|| Busy("the system provides no random bytes".to_owned()))
    }

    /// Computes in a child, when it is our turn.
    async fn in_a_child(&self, work: impl Fn() -> Vec<u8>) -> Result<Vec<u8>, Busy> {
        let begun = Instant::now();
        let place = timeout(PATIENCE, self.queue.enter()).await.map_err(|_| {
            Busy(format!("password check timed out in the queue after {} s", PATIENCE.as_secs()))
        })?;
        let _place = place
            .ok_or_else(|| Busy(format!("password check queue full ({MAX_WAITING} waiting)")))?;
        let mut was_lost = false;
        loop {
            match fork::compute(LIMITS, &work).await {
                Ok(value) => return Ok(value),
                Err(failure) if failure.is_for_now() && begun.elapsed() < PATIENCE => {
                    pause(ASKED_AGAIN_AFTER).await;
                }
                // After an upgrade this is a copy of the process that started the child.
                Err(Failure::Lost(_)) if !was_lost => was_lost = true,
                Err(failure) => {
                    return Err(Busy(format!("password check failed: {failure}")));
                }
            }
        }
    }
}

/// A password was not checked; why, for the log.
#[derive(Debug)]
pub(crate) struct Busy(String);

impl From<Busy> for ErrorPage {
    fn from(Busy(cause): Busy) -> Self {
        ErrorPage::new(StatusCode::SERVICE_UNAVAILABLE)
            .message(format!(
                "Too many login attempts right now, so yours wasn't checked. Try again in \
                 {COME_BACK_AFTER} seconds."
            ))
            .retry_after(COME_BACK_AFTER)
            .fault("Login busy")
            .cause(cause)
    }
}

/// Who may compute, and who is next.
struct Queue {
    most_at_once: usize,
    most_waiting: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    at_work: usize,
    next_ticket: u64,
    /// In order of arrival.
    waiting: VecDeque<(u64, Option<Waker>)>,
}

impl Queue {
    fn new(most_at_once: usize, most_waiting: usize) -> Self {
        Queue { most_at_once, most_waiting, state: Mutex::default() }
    }

    /// Waits for a permit; `None` immediately if too many are waiting already.
    async fn enter(&self) -> Option<Place<'_>> {
        let mut waiting = self.line_up()?;
        poll_fn(|context| waiting.poll_place(context)).await;
        Some(Place(self))
    }

    fn line_up(&self) -> Option<Waiting<'_>> {
        let mut state = self.state();
        let has_place = state.at_work < self.most_at_once && state.waiting.is_empty();
        if !has_place && state.waiting.len() >= self.most_waiting {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((ticket, None));
        drop(state);
        Some(Waiting { queue: self, ticket })
    }

    /// Wakes the first in the queue, if there is a permit.
    fn call_next(&self) {
        let mut state = self.state();
        if state.at_work >= self.most_at_once {
            return;
        }
        let first = state.waiting.front_mut().and_then(|(_, waker)| waker.take());
        drop(state);
        if let Some(waker) = first {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit, taken until it is dropped.
struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work = state.at_work.saturating_sub(1);
        drop(state);
        self.0.call_next();
    }
}

/// One that waits. Giving up makes room.
struct Waiting<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Waiting<'_> {
    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queue.state();
        let is_first = state.waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket);
        if is_first && state.at_work < self.queue.most_at_once {
            state.at_work += 1;
            // Dropping it leaves the queue and wakes the next.
            return Poll::Ready(());
        }
        let mine = state.waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
        if let Some((_, waker)) = mine {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting.retain(|(ticket, _)| *ticket != self.ticket);
        self.queue.call_next();
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hashing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn two_work_some_wait_in_order_and_the_rest_hear_it_at_once() {
        let queue = Queue::new(2, 3);
        let mut entered = Vec::new();
        for _ in 0..2 {
            let Poll::Ready(Some(place)) = poll(pin!(queue.enter())) else { panic!("no place") };
            entered.push(place);
        }
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(queue.enter())).collect();
        for one in &mut waiting {
            assert!(poll(one.as_mut()).is_pending());
        }
        assert!(matches!(poll(pin!(queue.enter())), Poll::Ready(None)), "it is full");
        drop(entered.pop());
        assert!(poll(waiting[1].as_mut()).is_pending(), "it is not its turn");
        assert!(matches!(poll(pin!(queue.enter())), Poll::Ready(None)), "nobody overtakes");
        let Poll::Ready(Some(first)) = poll(waiting[0].as_mut()) else { panic!("its turn") };
        // Giving up makes room, before and behind.
        drop(waiting.remove(1));
        let mut last = pin!(queue.enter());
        assert!(poll(last.as_mut()).is_pending());
        drop(first);
        assert!(poll(last.as_mut()).is_pending());
        let Poll::Ready(Some(_second)) = poll(waiting[1].as_mut()) else { panic!("its turn") };
        drop(entered);
        assert!(matches!(poll(last), Poll::Ready(Some(_))));
    }

    /// With several threads, as in a test, no process can be forked, as on a host without a process to spare.
    /// Computed in place, it would have said yes.
    #[test]
    fn without_a_child_nothing_is_computed_in_the_loop() {
        let hash = Password::make_hash("correct horse").unwrap();
        let password = Password::from_hash(&hash).unwrap();
        let hashing = Hashing::new();
        event_loop::run(async move {
            let checked = hashing.is(&password, "correct horse", Process::Shared).await;
            let page = ErrorPage::from(checked.expect_err("it is not looked at"));
            assert_eq!(page.status(), 503);
            assert!(hashing.hash_of("correct horse", Process::Shared).await.is_err());
            let alone = hashing.is(&password, "correct horse", Process::OfThisRequest).await;
            assert!(alone.is_ok_and(|is| is), "a process of its own may");
        })
        .unwrap();
    }
}
