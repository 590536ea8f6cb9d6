//! Passes signals from the handler to a loop's listeners, and installs the handler.
//!
//! A signal's action belongs to the whole process: it is kept in one list behind a lock (which the handler never
//! takes), so that the first listener installs the handler and the last one restores the former action.

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

/// Forgets all listeners, in a forked child that has reset all actions to the default.
pub(crate) fn forget() {
    for entry in Caught::lock().iter_mut() {
        *entry = Catch { listeners: 0, previous: None };
    }
}

/// The signals of one loop.
pub(crate) struct Inbox {
    /// Claimed by the first listener, kept until the loop ends.
    slot: RefCell<Option<SignalSlot>>,
    listeners: RefCell<Table<SignalListener>>,
}

#[derive(Debug)]
struct SignalListener {
    mask: u32,
    /// How often each signal is pending, in the order of `ALL`.
    pending: [u32; ALL.len()],
    waiter: Option<Waker>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Inbox { slot: RefCell::new(None), listeners: RefCell::new(Table::new()) }
    }

    fn claim_slot(&self, reactor: &Reactor) -> io::Result<()> {
        let mut slot = self.slot.borrow_mut();
        if slot.is_none() {
            let claimed = SignalSlot::claim()?;
            reactor.watch_signals(claimed.read_end())?;
            *slot = Some(claimed);
        }
        Ok(())
    }

    /// Replaces the self-pipe in a forked child, and watches it.
    pub(crate) fn recreate(&self, reactor: &Reactor) -> io::Result<()> {
        match &*self.slot.borrow() {
            Some(slot) => {
                slot.replace_pipe()?;
                reactor.watch_signals(slot.read_end())
            }
            None => Ok(()),
        }
    }

    pub(super) fn subscribe(&self, reactor: &Reactor, mask: u32) -> io::Result<Key> {
        self.claim_slot(reactor)?;
        let listener = SignalListener { mask, pending: [0; ALL.len()], waiter: None };
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
        let keys = (0..listeners.capacity()).filter_map(|index| listeners.key_at(index));
        let rows = keys.filter_map(|key| listeners.get(key));
        let mask = rows.fold(0, |all, one| all | one.mask);
        if let Some(slot) = &*self.slot.borrow() {
            slot.set_interest(mask);
        }
    }

    /// Takes the pending signals from the slot and passes them to the listeners.
    pub(crate) fn deliver(&self) {
        let mut arrived = [0; ALL.len()];
        if let Some(slot) = &*self.slot.borrow() {
            slot.empty_pipe();
            for (count, signal) in arrived.iter_mut().zip(ALL) {
                *count = slot.take_pending(signal.number());
            }
        }
        let capacity = self.listeners.borrow().capacity();
        for index in 0..capacity {
            let waiter = {
                let mut listeners = self.listeners.borrow_mut();
                let Some(key) = listeners.key_at(index) else { continue };
                listeners.get_mut(key).and_then(|listener| listener.receive(&arrived))
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Takes one pending signal, or registers the waker.
    pub(super) fn take(&self, key: Key, context: &Context<'_>) -> Option<Signal> {
        let mut listeners = self.listeners.borrow_mut();
        let listener = listeners.get_mut(key)?;
        for (pending, signal) in listener.pending.iter_mut().zip(ALL) {
            if *pending > 0 {
                *pending -= 1;
                return Some(signal);
            }
        }
        if !listener.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker())) {
            drop(listeners);
            // Cloning and dropping a waker runs foreign code, so it happens outside any borrow.
            let waiter = context.waker().clone();
            let old = self.listeners.borrow_mut().get_mut(key)?.waiter.replace(waiter);
            drop(old);
        }
        None
    }
}

impl SignalListener {
    /// Adds the signals that it listens for; returns the waker to wake if there were any.
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

/// The listeners for each signal in the whole process, and the action to restore after the last one; by signal
/// number.
static CAUGHT: Mutex<[Catch; 32]> =
    Mutex::new([const { Catch { listeners: 0, previous: None } }; 32]);

struct Catch {
    listeners: usize,
    previous: Option<PreviousAction>,
}

impl Caught {
    pub(super) fn new(mask: u32) -> io::Result<Self> {
        let mut all = Self::lock();
        // Grows signal by signal, so that after a failure the drop restores exactly what was changed.
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
        // No panic can leave the entries half-changed.
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
                debug_assert!(restored.is_ok(), "{signal} was not restored: {restored:?}");
            }
        }
    }
}
