//! What the connections of one loop share: permits, idle connections, the back-off.
//!
//! A connection is idle, or in the hands of a caller, or being opened or closed; with a permit in all but the first
//! case. One is opened only if none is idle, so there are never more connections than permits.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use event_loop::{LoopId, time, yield_now};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::back_off::BackOff;
use crate::connector::Connector;
use crate::endpoint::Endpoint;
use crate::error::PoolError;
use crate::open::Open;

/// What the connections of one loop share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) owner: LoopId,
    connector: Arc<Connector>,
    /// Fair: callers get them in the order in which they asked.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Longest idle first.
    idle: Vec<Idle>,
    /// Whether a task closes those that have been idle for too long.
    is_watched: bool,
    waiting: usize,
    back_off: BackOff,
}

#[derive(Debug)]
struct Idle {
    open: Open,
    since: Instant,
}

/// The right to have a connection.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Shared {
    pub(crate) fn new(owner: LoopId, connector: Arc<Connector>) -> Arc<Shared> {
        let permits = Arc::new(Semaphore::new(connector.settings.max));
        Arc::new(Shared { owner, connector, permits, state: Mutex::default() })
    }

    /// Waits for a permit.
    pub(crate) async fn permit(&self) -> Result<Permit, PoolError> {
        let settings = &self.connector.settings;
        let max = settings.max;
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(self).ok_or(PoolError::Busy { max })?;
        let waited = settings.wait;
        match time::timeout(waited, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(PoolError::StillBusy { max, waited }),
        }
    }

    /// Returns an idle connection, or opens one.
    pub(crate) async fn connection(&self) -> Result<Open, PoolError> {
        if !self.state().idle.is_empty() {
            // Their tasks are polled first, so that what the server has closed is known to be closed.
            yield_now().await;
        }
        while let Some(idle) = self.pop_idle() {
            if !idle.open.client.is_closed() {
                return Ok(idle.open);
            }
        }
        let attempt = Attempt::begin(self)?;
        let result = self.connector.connect().await;
        attempt.end(result.as_ref().err());
        result
    }

    /// Takes a connection back that no statement is in flight on.
    pub(crate) fn give_back(self: &Arc<Self>, open: Open, permit: Permit) {
        let mut state = self.state();
        state.idle.push(Idle { open, since: time::now() });
        if !mem::replace(&mut state.is_watched, true) {
            event_loop::spawn(close_idle(Arc::downgrade(self))).detach();
        }
        drop(state);
        // Wakes the next caller, outside of the lock.
        drop(permit);
    }

    /// Closes a connection, and cancels what it is executing, in a task. The permit is free when it is closed.
    pub(crate) fn close(&self, open: Open, permit: Permit) {
        if open.signs.was_silent() {
            self.avoid(&open.endpoint);
        }
        let connector = Arc::clone(&self.connector);
        event_loop::spawn(async move {
            connector.close(open).await;
            drop(permit);
        })
        .detach();
    }

    /// Closes all idle connections to a server that turned out to be useless, instead of finding that out with each of
    /// them, and connects elsewhere first.
    pub(crate) fn avoid(&self, endpoint: &Endpoint) {
        self.connector.avoid(endpoint);
        let is_there = |idle: &mut Idle| idle.open.endpoint == *endpoint;
        let useless: Vec<_> = self.state().idle.extract_if(.., is_there).collect();
        // Without a farewell, for which nobody may be there.
        drop(useless);
    }

    /// Returns the connection that was used last, so that the others may be closed after a time.
    fn pop_idle(&self) -> Option<Idle> {
        self.state().idle.pop()
    }

    /// Closes what has been idle for too long; returns when to look again, if any are left.
    fn close_expired(&self) -> Option<Instant> {
        let now = time::now();
        let mut expired = Vec::new();
        let next = {
            let mut state = self.state();
            let max = self.connector.settings.idle;
            loop {
                let Some(deadline) = state.idle.first().map(|idle| idle.since + max) else {
                    state.is_watched = false;
                    break None;
                };
                if deadline > now {
                    break Some(deadline);
                }
                match Arc::clone(&self.permits).try_acquire_owned() {
                    Ok(permit) => expired.push((state.idle.remove(0).open, permit)),
                    // Those who have the permits are about to take what is idle.
                    Err(_) => break Some(now + max),
                }
            }
        };
        for (open, permit) in expired {
            self.close(open, permit);
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have been idle for too long, as long as there are idle ones.
async fn close_idle(shared: Weak<Shared>) {
    while let Some(deadline) = shared.upgrade().and_then(|shared| shared.close_expired()) {
        time::sleep_until(deadline).await;
    }
}

/// A place among those who wait.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    fn take(shared: &'a Shared) -> Option<Self> {
        let mut state = shared.state();
        (state.waiting < shared.connector.settings.max_waiting).then(|| {
            state.waiting += 1;
            Place(shared)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// An attempt to connect. Its drop without an end means that the caller has gone.
struct Attempt<'a> {
    shared: &'a Shared,
    has_ended: bool,
}

impl<'a> Attempt<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, PoolError> {
        shared.state().back_off.begin(time::now())?;
        Ok(Attempt { shared, has_ended: false })
    }

    fn end(mut self, failure: Option<&PoolError>) {
        self.has_ended = true;
        let mut state = self.shared.state();
        match failure {
            None => state.back_off.succeeded(),
            Some(failure) => state.back_off.failed(time::now(), failure.clone()),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.state().back_off.abandoned();
        }
    }
}
