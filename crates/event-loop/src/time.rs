//! Time as futures: sleeping, deadlines, and hyper's clock.
//!
//! Which timer is due when is computed in `timers.rs`, which reads no clock; the clock is read here, at
//! most once a turn unless a wait is about to begin.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::counters::count;
use crate::loop_id::LoopId;
use crate::loop_state::{with_current, with_loop};
use crate::table::Key;

/// Returns the loop's time: the moment at which the present turn first asked for it.
///
/// Costs no reading of the clock after the first in a turn, and is as old as the turn. Outside of a loop it
/// reads the clock.
pub fn now() -> Instant {
    with_current(|state| state.clock.now()).unwrap_or_else(Instant::now)
}

/// Returns a future that is done after at least `duration`, and not before.
///
/// Reads the clock: the loop's own time may be older by the length of the turn. The resolution is a
/// millisecond, rounded up.
pub fn sleep(duration: Duration) -> Sleep {
    let now = with_current(|state| state.clock.read()).unwrap_or_else(Instant::now);
    sleep_until(after(now, duration))
}

/// Returns a future that is done when `deadline` has come. The resolution is a millisecond, rounded up.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// Returns a future that is done when `future` is, or fails when `duration` is over before.
///
/// The future is polled first: one that is done at once never times out, and costs no timer.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

/// Waits for a moment. From [`sleep`] and [`sleep_until`].
///
/// The timer is set by the first poll and taken out by the drop; both cost O(log n) of all timers.
///
/// # Panics
///
/// A poll before the deadline panics when no loop runs on this thread.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<(LoopId, Key)>,
}

impl Sleep {
    /// Returns the moment it waits for.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Says whether the moment has come, by the loop's time.
    pub fn is_elapsed(&self) -> bool {
        now() >= self.deadline
    }

    /// Waits for another moment from now on. Whoever polled the old wait is woken at the new deadline
    /// without polling again.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Some((owner, key)) = self.timer {
            let moved = with_loop(owner, |state| {
                let moved = state.timers.borrow_mut().set_deadline(key, deadline);
                if moved {
                    count(|counters| &counters.timers_set);
                    state.ready.wake_host();
                }
                moved
            });
            if moved != Some(true) {
                // It has fired; the next poll sets a new one.
                self.timer = None;
            }
        }
    }

    /// Sets the timer, or makes sure that it wakes this context's task.
    fn set_timer(&mut self, cx: &Context<'_>) {
        if let Some((owner, key)) = self.timer {
            let known = with_loop(owner, |state| state.timers.borrow().will_wake(key, cx.waker()));
            match known.flatten() {
                Some(true) => return,
                Some(false) => {
                    // Clones and drops of foreign wakers are foreign code: outside of any borrow.
                    let waker = cx.waker().clone();
                    let old = with_loop(owner, |state| {
                        state.timers.borrow_mut().replace_waker(key, waker)
                    });
                    drop(old);
                    return;
                }
                None => {}
            }
        }
        let waker = cx.waker().clone();
        self.timer = with_current(|state| {
            count(|counters| &counters.timers_set);
            let key = state.timers.borrow_mut().insert(self.deadline, waker);
            state.ready.wake_host();
            (state.id, key)
        });
        assert!(
            self.timer.is_some(),
            "no event loop runs on this thread; sleep inside event_loop::run"
        );
    }

    fn clear_timer(&mut self) {
        if let Some((owner, key)) = self.timer.take() {
            let waker = with_loop(owner, |state| state.timers.borrow_mut().remove(key));
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_elapsed() {
            self.clear_timer();
            Poll::Ready(())
        } else {
            self.set_timer(cx);
            Poll::Pending
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clear_timer();
    }
}

pin_project_lite::pin_project! {
    /// Waits for a future, but not for ever. From [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// Moves the end of the wait.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.project().sleep.reset(deadline);
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let parts = self.project();
        if let Poll::Ready(output) = parts.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        ready!(Pin::new(parts.sleep).poll(cx));
        Poll::Ready(Err(Elapsed(())))
    }
}

/// The error of a [`Timeout`]: the time was over before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the time allowed was over")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Gives hyper the loop's timers: `Builder::timer(HyperTimer)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }

    /// Reads the clock: hyper adds its timeouts to this, and they shall not be shorter by the age of the
    /// turn.
    fn now(&self) -> Instant {
        with_current(|state| state.clock.read()).unwrap_or_else(Instant::now)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(ours) => ours.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

/// Some 30 years: what "for ever" means where an [`Instant`] cannot hold it.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}
