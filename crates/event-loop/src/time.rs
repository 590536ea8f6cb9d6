//! Time as futures: sleeping, timeouts, and hyper's timer.
//!
//! `timers.rs` keeps the deadlines and reads no clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::counters::count;
use crate::loop_id::LoopId;
use crate::loop_state::{with_current, with_loop};
use crate::table::Key;

/// Returns the loop's time: when the current turn first asked for it.
///
/// Reads the clock once per turn, so the result may be as old as the turn. Outside a loop, reads the clock.
pub fn now() -> Instant {
    with_current(|state| state.clock.now()).unwrap_or_else(Instant::now)
}

/// Returns a future that completes after at least `duration`.
///
/// Reads the clock, because the loop's time may be as old as the turn. The resolution is a millisecond, rounded up.
pub fn sleep(duration: Duration) -> Sleep {
    let now = with_current(|state| state.clock.read()).unwrap_or_else(Instant::now);
    sleep_until(after(now, duration))
}

/// Waits like [`sleep`]; without a loop (in a command at the terminal, or a test), the thread sleeps.
pub async fn pause(duration: Duration) {
    if crate::is_running() {
        sleep(duration).await;
    } else {
        std::thread::sleep(duration);
    }
}

/// Returns a future that completes at `deadline`. The resolution is a millisecond, rounded up.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// Returns a future that completes with `future`, or fails if that takes longer than `duration`.
///
/// `future` is polled first: if it completes at once, it never times out, and no timer is set.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

/// Completes at a deadline. From [`sleep`] and [`sleep_until`].
///
/// The timer is set by the first poll and removed by the drop; both take O(log n) of the number of timers.
///
/// # Panics
///
/// A poll before the deadline panics if no loop runs on this thread.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<(LoopId, Key)>,
}

impl Sleep {
    /// Returns the deadline.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns whether the deadline has passed, by the loop's time.
    pub fn is_elapsed(&self) -> bool {
        now() >= self.deadline
    }

    /// Changes the deadline. The task that polled before is woken at the new deadline without polling again.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Some((owner, key)) = self.timer {
            let was_set = with_loop(owner, |state| {
                let was_set = state.timers.borrow_mut().set_deadline(key, deadline);
                if was_set {
                    count(|counters| &counters.timers_set);
                    state.ready.wake_host();
                }
                was_set
            });
            if was_set != Some(true) {
                // The timer has fired; the next poll sets a new one.
                self.timer = None;
            }
        }
    }

    /// Sets the timer, or replaces its waker by that of this context.
    fn set_timer(&mut self, context: &Context<'_>) {
        if let Some((owner, key)) = self.timer {
            let known =
                with_loop(owner, |state| state.timers.borrow().will_wake(key, context.waker()));
            match known.flatten() {
                Some(true) => return,
                Some(false) => {
                    // Cloning and dropping a waker runs foreign code, so it happens outside any borrow.
                    let waker = context.waker().clone();
                    let old = with_loop(owner, |state| {
                        state.timers.borrow_mut().replace_waker(key, waker)
                    });
                    drop(old);
                    return;
                }
                None => {}
            }
        }
        let waker = context.waker().clone();
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

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_elapsed() {
            self.clear_timer();
            Poll::Ready(())
        } else {
            self.set_timer(context);
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
    /// Waits for a future up to a deadline. From [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// Changes the deadline.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.project().sleep.reset(deadline);
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let parts = self.project();
        if let Poll::Ready(output) = parts.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        ready!(Pin::new(parts.sleep).poll(context));
        Poll::Ready(Err(Elapsed(())))
    }
}

/// The error of a [`Timeout`]: the deadline passed before the future completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// The loop's timers for hyper: `Builder::timer(HyperTimer)`.
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

    /// Reads the clock: hyper adds its timeouts to this, and the age of the turn must not shorten them.
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

/// About 30 years: replaces a duration that is too long for an [`Instant`].
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}
