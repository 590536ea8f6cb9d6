//! How many requests are in flight, and which bodies are arriving: a client that sends slowly holds a
//! permit that others may need. `fairness.rs` decides which request is evicted, `patience.rs` how slow is
//! too slow.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use event_loop::time;

use crate::cause::Cause;
use crate::request::fairness::{self, ClientNet, Upload};
use crate::request::patience::Pace;
use crate::settings::Settings;

/// Counts requests.
pub(crate) struct Permits {
    limit: usize,
    taken: Cell<usize>,
    /// Requests whose bodies were arriving when they started, or when last checked, oldest first.
    arriving: RefCell<BTreeMap<u64, (ClientNet, Arrival)>>,
    /// How many requests with a body have arrived so far.
    arrived: Cell<u64>,
    patience: Duration,
}

impl Permits {
    pub(crate) fn new(settings: &Settings) -> Rc<Self> {
        Rc::new(Permits {
            limit: settings.max_requests,
            taken: Cell::new(0),
            arriving: RefCell::default(),
            arrived: Cell::new(0),
            patience: settings.receive_timeout,
        })
    }

    /// How many requests at once may have bodies that are still arriving: three quarters of all, so that
    /// some permits stay reserved for complete requests.
    fn max_arriving(&self) -> usize {
        self.limit - self.limit / 4
    }

    /// How many of the reserved permits bodies may hold on probation: until the body is complete, or
    /// until the next one needs a permit. A body sent in one piece is complete before that.
    fn max_on_probation(&self) -> usize {
        self.limit / 8
    }

    /// Counts a request that starts. `None` if there are too many.
    pub(crate) fn enter(
        self: &Rc<Self>,
        arrival: Option<&Arrival>,
        net: impl FnOnce() -> ClientNet,
    ) -> Option<Permit> {
        let Some(arrival) = arrival.filter(|it| it.is_on_its_way()) else {
            if self.taken.get() >= self.limit && !self.make_room() {
                return None;
            }
            self.taken.set(self.taken.get() + 1);
            return Some(Permit { permits: self.clone(), arriving: None });
        };
        let net = net();
        let is_full = || {
            self.taken.get() >= self.limit || self.arriving.borrow().len() >= self.max_arriving()
        };
        if is_full() {
            self.forget_arrived();
            if is_full() && !self.end_one(Some(net), |_| true) && !self.admits_on_probation() {
                return None;
            }
        }
        self.taken.set(self.taken.get() + 1);
        let key = self.arrived.get();
        self.arrived.set(key + 1);
        self.arriving.borrow_mut().insert(key, (net, arrival.clone()));
        Some(Permit { permits: self.clone(), arriving: Some((key, arrival.clone())) })
    }

    /// Ends a request with a slow body in favor of a request without one or of a new connection. Returns
    /// whether there is such a request.
    pub(crate) fn make_room(&self) -> bool {
        self.end_one(None, |_| true) || self.end_on_probation()
    }

    /// Whether one more body is admitted on probation, when the permits for bodies are taken.
    fn admits_on_probation(&self) -> bool {
        let max = self.max_arriving() + self.max_on_probation();
        let has_room = self.taken.get() < self.limit && self.arriving.borrow().len() < max;
        has_room || self.end_on_probation()
    }

    /// Ends the request that has been on probation the longest.
    fn end_on_probation(&self) -> bool {
        let first = self.arriving.borrow().keys().nth(self.max_arriving()).copied();
        first.is_some_and(|key| {
            self.end(key);
            true
        })
    }

    /// Like [`make_room`](Self::make_room), among the requests that hold a process.
    pub(crate) fn free_a_process(&self) -> bool {
        self.end_one(None, Arrival::holds_process)
    }

    /// Ends a request whose body is arriving, and takes back its permit.
    fn end_one(&self, newcomer: Option<ClientNet>, may_end: fn(&Arrival) -> bool) -> bool {
        self.forget_arrived();
        let now = time::now();
        let (keys, uploads): (Vec<u64>, Vec<Upload>) = self
            .arriving
            .borrow()
            .iter()
            .filter(|(_, (_, arrival))| may_end(arrival))
            .map(|(&key, (net, arrival))| (key, Upload { net: *net, behind: arrival.behind(now) }))
            .unzip();
        let Some(index) = fairness::upload_to_end(&uploads, newcomer, self.patience) else {
            return false;
        };
        self.end(keys[index]);
        true
    }

    fn end(&self, key: u64) {
        let ended = self.arriving.borrow_mut().remove(&key);
        if let Some((_, arrival)) = ended {
            self.taken.set(self.taken.get() - 1);
            arrival.end(Eviction::PermitNeeded(self.limit));
        }
    }

    /// Forgets bodies that are complete or whose requests are answered.
    fn forget_arrived(&self) {
        self.arriving.borrow_mut().retain(|_, (_, arrival)| arrival.is_on_its_way());
    }
}

/// Counts one request until its response is complete.
pub(crate) struct Permit {
    permits: Rc<Permits>,
    /// How the body is arriving and its key in that map, if it was incomplete when the request started.
    arriving: Option<(u64, Arrival)>,
}

impl Permit {
    /// How the body is arriving, if it was incomplete when the request started.
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.arriving.as_ref().map(|(_, arrival)| arrival)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permits { taken, arriving, .. } = &*self.permits;
        if let Some((key, arrival)) = &self.arriving {
            if arrival.was_evicted() {
                return;
            }
            arriving.borrow_mut().remove(key);
        }
        taken.set(taken.get() - 1);
    }
}

/// A body that is still arriving, shared by three parties: the receiver of the body, the counter of
/// requests, and the task that waits for the response.
#[derive(Clone, Debug)]
pub(crate) struct Arrival(Arc<Mutex<ArrivalState>>);

#[derive(Debug)]
struct ArrivalState {
    pace: Pace,
    stage: Stage,
    /// Whether more of it will arrive, wanted or not.
    is_incomplete: bool,
    /// Whether an isolated process waits for it.
    holds_process: bool,
    /// The task that waits for the response.
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arriving,
    /// The body is still arriving, but its response has started.
    Answered,
    /// The body is complete or unwanted.
    Over,
    /// The request is to end.
    Ended(Eviction),
}

/// Why a request ends before its body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// Its body has been too slow for this long.
    TooSlow(Duration),
    /// Others need the permit; the limit on requests in flight.
    PermitNeeded(usize),
}

impl Arrival {
    pub(crate) fn new(settings: &Settings) -> Self {
        Arrival(Arc::new(Mutex::new(ArrivalState {
            pace: Pace::new(settings.receive_timeout, settings.min_rate),
            stage: Stage::Arriving,
            is_incomplete: true,
            holds_process: false,
            waiter: None,
        })))
    }

    /// Starts waiting for more. Returns the deadline; `None` if no more is expected.
    pub(crate) fn wait(&self) -> Option<Instant> {
        let mut state = self.lock();
        matches!(state.stage, Stage::Arriving | Stage::Answered)
            .then(|| state.pace.wait(time::now()))
    }

    /// Stops waiting: the handler has to catch up first.
    pub(crate) fn pause(&self) {
        self.lock().pace.pause(time::now());
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.lock().pace.progress(bytes, time::now);
    }

    /// Records that no more of the body will arrive or is wanted.
    pub(crate) fn set_over(&self) {
        let mut state = self.lock();
        state.is_incomplete = false;
        if !matches!(state.stage, Stage::Ended(_)) {
            state.stage = Stage::Over;
        }
    }

    /// Records that the response has started: from now on the request ends on its own.
    pub(crate) fn set_answered(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Arriving {
            state.stage = Stage::Answered;
        }
        state.waiter = None;
    }

    /// Ends the request, if its response has not started. Returns whether it ends.
    pub(crate) fn end(&self, eviction: Eviction) -> bool {
        let (waiter, ends) = {
            let mut state = self.lock();
            match state.stage {
                Stage::Arriving => state.stage = Stage::Ended(eviction),
                Stage::Answered => state.stage = Stage::Over,
                Stage::Over | Stage::Ended(_) => {}
            }
            (state.waiter.take(), matches!(state.stage, Stage::Ended(_)))
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        ends
    }

    /// Whether the request has to end before its response starts, and why; if not, wakes the context when
    /// that changes.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Option<Cause> {
        let mut state = self.lock();
        if let Stage::Ended(eviction) = state.stage {
            return Some(match eviction {
                Eviction::TooSlow(patience) => Cause::BodyTooSlow(patience),
                Eviction::PermitNeeded(limit) => Cause::Evicted(limit),
            });
        }
        if state.stage == Stage::Arriving
            && !state.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker()))
        {
            state.waiter = Some(context.waker().clone());
        }
        None
    }

    /// Whether more of the body will arrive, wanted or not.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.lock().is_incomplete
    }

    pub(crate) fn set_holds_process(&self) {
        self.lock().holds_process = true;
    }

    fn holds_process(&self) -> bool {
        self.lock().holds_process
    }

    fn is_on_its_way(&self) -> bool {
        self.lock().stage == Stage::Arriving
    }

    fn was_evicted(&self) -> bool {
        matches!(self.lock().stage, Stage::Ended(Eviction::PermitNeeded(_)))
    }

    fn behind(&self, now: Instant) -> Duration {
        self.lock().pace.behind(now)
    }

    fn lock(&self) -> MutexGuard<'_, ArrivalState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without patience, every sender is behind.
    fn permits(limit: usize, patience: Duration) -> Rc<Permits> {
        let mut settings = Settings::default();
        (settings.max_requests, settings.receive_timeout) = (limit, patience);
        Permits::new(&settings)
    }

    fn arrival() -> Option<Arrival> {
        Some(Arrival::new(&Settings::default()))
    }

    fn net(last: u8) -> ClientNet {
        ClientNet::of(Some([192, 0, 2, last].into()))
    }

    #[test]
    fn some_permits_are_reserved_for_complete_requests() {
        let permits = permits(8, Duration::ZERO);
        let _bodies: Vec<_> =
            (1..=6).map(|last| permits.enter(arrival().as_ref(), || net(last)).unwrap()).collect();
        assert_eq!(permits.arriving.borrow().len(), 6);
        assert_eq!(permits.max_arriving(), 6);
        let _whole: Vec<_> = (0..2).map(|_| permits.enter(None, || net(9)).unwrap()).collect();
        assert_eq!(permits.taken.get(), 8);
    }

    #[test]
    fn a_complete_body_makes_room_and_keeps_its_permit() {
        let permits = permits(4, Duration::ZERO);
        let arrivals: Vec<_> = (0..3).map(|_| arrival().unwrap()).collect();
        let held: Vec<_> =
            arrivals.iter().map(|it| permits.enter(Some(it), || net(1)).unwrap()).collect();
        arrivals[0].set_over();
        arrivals[1].set_answered();
        let fourth = permits.enter(arrival().as_ref(), || net(1)).unwrap();
        assert_eq!((permits.taken.get(), permits.arriving.borrow().len()), (4, 2));
        drop((held, fourth));
        assert_eq!((permits.taken.get(), permits.arriving.borrow().len()), (0, 0));
    }

    #[test]
    fn a_body_sent_in_one_piece_gets_past_a_crowd_of_newcomers() {
        let permits = permits(16, Duration::from_secs(60));
        let crowd: Vec<_> = (1..=60).map(|_| arrival().unwrap()).collect();
        let held: Vec<_> = (1..)
            .zip(&crowd)
            .map(|(last, it)| permits.enter(Some(it), || net(last)))
            .map(|permit| permit.expect("every newcomer gets a permit on probation"))
            .collect();
        assert_eq!((permits.taken.get(), permits.arriving.borrow().len()), (14, 14));
        let (whole, busy) = (arrival().unwrap(), arrival().unwrap());
        let _slow_handler = permits.enter(Some(&busy), || net(101)).unwrap();
        busy.set_over();
        let answered = permits.enter(Some(&whole), || net(100)).unwrap();
        whole.set_over();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(whole.poll_ended(&context), None);
        drop(answered);
        // The permits reserved for requests without a body, and the last of the crowd's, go to requests
        // without one.
        let without: Vec<_> = std::iter::from_fn(|| permits.enter(None, || net(9))).collect();
        assert_eq!(without.len(), 3);
        let have_left = crowd.iter().filter(|it| it.was_evicted()).count();
        assert_eq!(
            have_left,
            60 - permits.max_arriving(),
            "the first to arrive keep their permits"
        );
        drop((held, without));
        assert_eq!((permits.taken.get(), permits.arriving.borrow().len()), (1, 0));
    }

    #[test]
    fn an_evicted_request_learns_why_and_is_counted_once() {
        let permits = permits(1, Duration::ZERO);
        let slow = arrival().unwrap();
        let held = permits.enter(Some(&slow), || net(1)).unwrap();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(slow.poll_ended(&context), None);
        let next = permits.enter(None, || net(2)).unwrap();
        assert_eq!(slow.poll_ended(&context), Some(Cause::Evicted(1)));
        assert_eq!(permits.taken.get(), 1);
        drop(held);
        assert_eq!(permits.taken.get(), 1);
        drop(next);
        assert_eq!(permits.taken.get(), 0);
    }
}
