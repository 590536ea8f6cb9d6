//! The signals of one loop on their way from the handler to the listeners, and what the process does with each.
//!
//! What the process does with a signal is a matter of the whole process: it is kept in one list behind a
//! lock (which the handler never touches), so that the first listener installs the handler and the last
//! one puts back what was before.

use std::cell::RefCell;
use std::ffi::c_int;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use sys::signals::{PreviousAction, SignalSlot};

use crate::counters::count_many;
use crate::reactor::Reactor;
use crate::signal::{ALL, Signal};
use crate::table::{Key, Table};

/// Forgets who listens, in a child that has put all actions back to the default ones.
pub(crate) fn forget() {
    for entry in Caught::lock().iter_mut() {
        *entry = Catch { listeners: 0, previous: None };
    }
}

/// The signals of one loop.
pub(crate) struct Inbox {
    /// Claimed by the first who listens, kept until the loop ends.
    pipe: RefCell<Option<SignalSlot>>,
    listeners: RefCell<Table<Listener>>,
}

#[derive(Debug)]
struct Listener {
    mask: u32,
    /// How often each signal came, in the order of `ALL`.
    pending: [u32; ALL.len()],
    waiter: Option<Waker>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Inbox { pipe: RefCell::new(None), listeners: RefCell::new(Table::new()) }
    }

    fn open_pipe(&self, reactor: &Reactor) -> io::Result<()> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_none() {
            let claimed = SignalSlot::claim()?;
            reactor.watch_signals(claimed.read_end())?;
            *pipe = Some(claimed);
        }
        Ok(())
    }

    /// Makes the self-pipe again, in the child of a fork, and watches it.
    pub(crate) fn remake(&self, reactor: &Reactor) -> io::Result<()> {
        match &*self.pipe.borrow() {
            Some(pipe) => {
                pipe.remake_pipe()?;
                reactor.watch_signals(pipe.read_end())
            }
            None => Ok(()),
        }
    }

    pub(super) fn subscribe(&self, reactor: &Reactor, mask: u32) -> io::Result<Key> {
        self.open_pipe(reactor)?;
        let listener = Listener { mask, pending: [0; ALL.len()], waiter: None };
        let key = self.listeners.borrow_mut().insert(listener);
        self.update_interest();
        Ok(key)
    }

    pub(super) fn unsubscribe(&self, key: Key) -> Option<impl Sized + use<>> {
        let listener = self.listeners.borrow_mut().remove(key);
        self.update_interest();
        listener
    }

    fn update_interest(&self) {
        let listeners = self.listeners.borrow();
        let keys = (0..listeners.places()).filter_map(|place| listeners.key_at(place));
        let rows = keys.filter_map(|key| listeners.get(key));
        let mask = rows.fold(0, |all, one| all | one.mask);
        if let Some(pipe) = &*self.pipe.borrow() {
            pipe.set_interest(mask);
        }
    }

    /// Takes what the handler has left and hands it to the listeners.
    pub(crate) fn deliver(&self) {
        let mut arrived = [0; ALL.len()];
        if let Some(pipe) = &*self.pipe.borrow() {
            pipe.empty_pipe();
            for (count, signal) in arrived.iter_mut().zip(ALL) {
                *count = pipe.take_pending(signal.number());
            }
        }
        let places = self.listeners.borrow().places();
        for place in 0..places {
            let waiter = {
                let mut listeners = self.listeners.borrow_mut();
                let Some(key) = listeners.key_at(place) else { continue };
                listeners.get_mut(key).and_then(|listener| listener.receive(&arrived))
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Takes one kept signal, or notes who waits.
    pub(super) fn take(&self, key: Key, cx: &Context<'_>) -> Option<Signal> {
        let mut listeners = self.listeners.borrow_mut();
        let listener = listeners.get_mut(key)?;
        for (pending, signal) in listener.pending.iter_mut().zip(ALL) {
            if *pending > 0 {
                *pending -= 1;
                return Some(signal);
            }
        }
        if !listener.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            drop(listeners);
            // Clones and drops of foreign wakers are foreign code: outside of any borrow.
            let waiter = cx.waker().clone();
            let old = self.listeners.borrow_mut().get_mut(key)?.waiter.replace(waiter);
            drop(old);
        }
        None
    }
}

impl Listener {
    /// Keeps what it listens to; returns whom to wake if that was anything.
    fn receive(&mut self, arrived: &[u32; ALL.len()]) -> Option<Waker> {
        let mut received = 0;
        for ((pending, count), signal) in self.pending.iter_mut().zip(arrived).zip(ALL) {
            if self.mask & signal.bit() != 0 {
                *pending = pending.saturating_add(*count);
                received += u64::from(*count);
            }
        }
        count_many(received, |counters| &counters.signals);
        if received > 0 { self.waiter.take() } else { None }
    }
}

/// Keeps the handler of some signals installed.
#[derive(Debug)]
pub(super) struct Caught {
    mask: u32,
}

/// Who of the process wants each signal caught, and what to put back after the last: by signal number.
static CAUGHT: Mutex<[Catch; 32]> =
    Mutex::new([const { Catch { listeners: 0, previous: None } }; 32]);

struct Catch {
    listeners: usize,
    previous: Option<PreviousAction>,
}

impl Caught {
    pub(super) fn new(mask: u32) -> io::Result<Self> {
        let mut all = Self::lock();
        // Grows signal by signal, so that a failure gives back exactly what was taken.
        let mut caught = 0;
        for signal in ALL.into_iter().filter(|signal| mask & signal.bit() != 0) {
            let number = signal.number();
            let entry = &mut all[number as usize];
            if entry.listeners == 0 {
                match sys::signals::catch(number) {
                    Ok(previous) => entry.previous = Some(previous),
                    Err(error) => {
                        drop(all);
                        drop(Caught { mask: caught });
                        return Err(error);
                    }
                }
            }
            entry.listeners += 1;
            caught |= signal.bit();
        }
        Ok(Caught { mask })
    }

    fn lock() -> MutexGuard<'static, [Catch; 32]> {
        // Numbers and options: no panic can leave them half-changed.
        CAUGHT.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        let mut all = Self::lock();
        for signal in ALL.into_iter().filter(|signal| self.mask & signal.bit() != 0) {
            let number: c_int = signal.number();
            let entry = &mut all[number as usize];
            entry.listeners -= 1;
            if entry.listeners == 0
                && let Some(previous) = entry.previous.take()
            {
                let restored = sys::signals::restore_action(number, &previous);
                debug_assert!(restored.is_ok(), "{signal} could not be given back: {restored:?}");
            }
        }
    }
}
