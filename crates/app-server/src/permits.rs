//! How many exchanges are in progress, and whose bodies are on their way: a visitor who sends slowly holds a
//! place that others may need. Who gives way is decided in `fairness.rs`, how slow is too slow in
//! `patience.rs`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use event_loop::time;
use slab::Slab;

use crate::error_report::Cause;
use crate::fairness::{self, ClientNet, Upload};
use crate::patience::Pace;
use crate::settings::Settings;

/// Counts exchanges.
pub(crate) struct Permits {
    limit: usize,
    taken: Cell<usize>,
    /// Exchanges whose bodies were on their way when they began, or when it was looked at last.
    arriving: RefCell<Slab<(ClientNet, Arrival)>>,
    patience: Duration,
}

impl Permits {
    pub(crate) fn new(settings: &Settings) -> Rc<Self> {
        Rc::new(Permits {
            limit: settings.max_exchanges,
            taken: Cell::new(0),
            arriving: RefCell::default(),
            patience: settings.receive_timeout,
        })
    }

    /// Exchanges at once whose bodies may be on their way: three quarters of all, so that some places are kept
    /// for requests that are whole.
    fn most_arriving(&self) -> usize {
        self.limit - self.limit / 4
    }

    /// Counts an exchange that begins. `None` when there are too many.
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
            return Some(Permit { permits: self.clone(), arrival: None });
        };
        let net = net();
        let is_full = || {
            self.taken.get() >= self.limit || self.arriving.borrow().len() >= self.most_arriving()
        };
        if is_full() {
            self.forget_arrived();
            if is_full() && !self.end_one(Some(net), |_| true) {
                return None;
            }
        }
        self.taken.set(self.taken.get() + 1);
        let key = self.arriving.borrow_mut().insert((net, arrival.clone()));
        arrival.lock().row = key;
        Some(Permit { permits: self.clone(), arrival: Some(arrival.clone()) })
    }

    /// Ends an exchange whose body is slow, for a connection that wants to come in. Returns whether there is
    /// one.
    pub(crate) fn make_room(&self) -> bool {
        self.end_one(None, |_| true)
    }

    /// The same, of those that have a process of their own.
    pub(crate) fn free_a_process(&self) -> bool {
        self.end_one(None, Arrival::holds_process)
    }

    /// Ends an exchange whose body is on its way, and takes its place back.
    fn end_one(&self, newcomer: Option<ClientNet>, may_end: fn(&Arrival) -> bool) -> bool {
        self.forget_arrived();
        let now = time::now();
        let mut arriving = self.arriving.borrow_mut();
        let (keys, uploads): (Vec<usize>, Vec<Upload>) = arriving
            .iter()
            .filter(|(_, (_, arrival))| may_end(arrival))
            .map(|(key, (net, arrival))| (key, Upload { net: *net, behind: arrival.behind(now) }))
            .unzip();
        let Some(index) = fairness::upload_to_end(&uploads, newcomer, self.patience) else {
            return false;
        };
        let (_, arrival) = arriving.remove(keys[index]);
        drop(arriving);
        self.taken.set(self.taken.get() - 1);
        arrival.end(Verdict::OthersCome(self.limit));
        true
    }

    /// Bodies that are whole, or are answered, are not on their way any more.
    fn forget_arrived(&self) {
        self.arriving.borrow_mut().retain(|_, (_, arrival)| arrival.is_on_its_way());
    }
}

/// Counts one exchange until its answer is over.
pub(crate) struct Permit {
    permits: Rc<Permits>,
    arrival: Option<Arrival>,
}

impl Permit {
    /// How the body arrives, if it was on its way when the exchange began.
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.arrival.as_ref()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permits { taken, arriving, .. } = &*self.permits;
        if let Some(arrival) = &self.arrival {
            if arrival.has_lost_its_place() {
                return;
            }
            let (mut arriving, row) = (arriving.borrow_mut(), arrival.lock().row);
            // It may be another's by now.
            if arriving.get(row).is_some_and(|(_, of)| Arc::ptr_eq(&of.0, &arrival.0)) {
                arriving.remove(row);
            }
        }
        taken.set(taken.get() - 1);
    }
}

/// A body on its way in, as three know it: who receives it, who counts it, who waits for the answer to it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pace: Pace,
    stage: Stage,
    /// More of it comes, wanted or not.
    still_comes: bool,
    /// A process of its own waits for it.
    holds_process: bool,
    /// Its row in the list of those that are on their way.
    row: usize,
    /// Waits for the answer.
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    OnItsWay,
    /// It goes on arriving, and its answer has begun.
    Answered,
    /// It is whole, or nobody waits for it.
    Over,
    /// Its exchange is to end.
    Ended(Verdict),
}

/// Why an exchange ends before its body is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its body came too slowly for this long.
    TooSlow(Duration),
    /// Others need the place; how many there are.
    OthersCome(usize),
}

impl Arrival {
    pub(crate) fn new(settings: &Settings) -> Self {
        Arrival(Arc::new(Mutex::new(State {
            pace: Pace::new(settings.receive_timeout, settings.min_rate),
            stage: Stage::OnItsWay,
            still_comes: true,
            holds_process: false,
            row: 0,
            waiter: None,
        })))
    }

    /// We wait for more. Returns until when; `None` when nothing more is waited for.
    pub(crate) fn wait(&self) -> Option<Instant> {
        let mut state = self.lock();
        matches!(state.stage, Stage::OnItsWay | Stage::Answered)
            .then(|| state.pace.wait(time::now()))
    }

    /// The handler has to catch up first.
    pub(crate) fn rest(&self) {
        self.lock().pace.rest(time::now());
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.lock().pace.progress(bytes, time::now);
    }

    /// Nothing more comes of it, or is wanted.
    pub(crate) fn set_over(&self) {
        let mut state = self.lock();
        state.still_comes = false;
        if !matches!(state.stage, Stage::Ended(_)) {
            state.stage = Stage::Over;
        }
    }

    /// The answer has begun: from now on its exchange ends by itself.
    pub(crate) fn set_answered(&self) {
        let mut state = self.lock();
        if state.stage == Stage::OnItsWay {
            state.stage = Stage::Answered;
        }
        state.waiter = None;
    }

    /// Ends the exchange, if its answer has not begun. Returns whether it ends.
    pub(crate) fn end(&self, verdict: Verdict) -> bool {
        let (waiter, ends) = {
            let mut state = self.lock();
            match state.stage {
                Stage::OnItsWay => state.stage = Stage::Ended(verdict),
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

    /// Whether the exchange is to end before it is answered, and why; if not, the context is woken when it is.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Option<Cause> {
        let mut state = self.lock();
        if let Stage::Ended(verdict) = state.stage {
            return Some(match verdict {
                Verdict::TooSlow(patience) => Cause::BodyTooSlow(patience),
                Verdict::OthersCome(limit) => Cause::MadeRoom(limit),
            });
        }
        if state.stage == Stage::OnItsWay
            && !state.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker()))
        {
            state.waiter = Some(context.waker().clone());
        }
        None
    }

    /// More of it comes, wanted or not.
    pub(crate) fn still_comes(&self) -> bool {
        self.lock().still_comes
    }

    pub(crate) fn set_holds_process(&self) {
        self.lock().holds_process = true;
    }

    fn holds_process(&self) -> bool {
        self.lock().holds_process
    }

    fn is_on_its_way(&self) -> bool {
        self.lock().stage == Stage::OnItsWay
    }

    fn has_lost_its_place(&self) -> bool {
        matches!(self.lock().stage, Stage::Ended(Verdict::OthersCome(_)))
    }

    fn behind(&self, now: Instant) -> Duration {
        self.lock().pace.behind(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(limit: usize) -> Rc<Permits> {
        let mut settings = Settings::default();
        (settings.max_exchanges, settings.receive_timeout) = (limit, Duration::ZERO);
        Permits::new(&settings)
    }

    fn arrival() -> Option<Arrival> {
        Some(Arrival::new(&Settings::default()))
    }

    fn net(last: u8) -> ClientNet {
        ClientNet::of(Some([192, 0, 2, last].into()))
    }

    #[test]
    fn some_places_are_kept_for_requests_that_are_whole() {
        let permits = permits(8);
        let _bodies: Vec<_> =
            (1..=6).map(|last| permits.enter(arrival().as_ref(), || net(last)).unwrap()).collect();
        assert_eq!(permits.arriving.borrow().len(), 6);
        assert_eq!(permits.most_arriving(), 6);
        let _whole: Vec<_> = (0..2).map(|_| permits.enter(None, || net(9)).unwrap()).collect();
        assert_eq!(permits.taken.get(), 8);
    }

    #[test]
    fn a_body_that_is_whole_makes_room_and_keeps_its_place() {
        let permits = permits(4);
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
    fn who_loses_its_place_is_told_why_and_counted_once() {
        let permits = permits(1);
        let slow = arrival().unwrap();
        let held = permits.enter(Some(&slow), || net(1)).unwrap();
        let context = Context::from_waker(Waker::noop());
        assert_eq!(slow.poll_ended(&context), None);
        // No patience at all: everybody is behind.
        let next = permits.enter(None, || net(2)).unwrap();
        assert_eq!(slow.poll_ended(&context), Some(Cause::MadeRoom(1)));
        assert_eq!(permits.taken.get(), 1);
        drop(held);
        assert_eq!(permits.taken.get(), 1);
        drop(next);
        assert_eq!(permits.taken.get(), 0);
    }
}
