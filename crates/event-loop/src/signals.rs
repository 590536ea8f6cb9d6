//! Signals as a stream of values.
//!
//! The handler (in `sys`) does async-signal-safe work alone: it counts the signal and writes a byte into
//! the self-pipe, which the poll set watches. The turn of the loop then calls `Inbox::deliver`, which
//! hands the counts to the [`Signals`] that asked for them. Child processes use the same way: SIGCHLD leads
//! to `process.rs`.
//!
//! What the process does with a signal is a matter of the whole process: it is kept in one list behind a
//! lock (which the handler never touches), so that the first listener installs the handler and the last
//! one puts back what was before.

use std::cell::RefCell;
use std::ffi::c_int;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sys::signals::{Action, PreviousAction, SignalSlot};

use crate::counters::count_many;
use crate::loop_state::{Loop, LoopId, no_loop, with_current, with_loop};
use crate::table::{Key, Table};

/// The signals that can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: please end.
    Terminate,
    /// SIGHUP: the terminal is gone; for servers by custom: read the configuration again.
    Hangup,
    /// SIGINT: Ctrl+C.
    Interrupt,
    /// SIGQUIT: Ctrl+\.
    Quit,
    /// SIGUSR1: free for use; mod_fcgid's way to ask for a graceful end.
    User1,
    /// SIGUSR2: free for use.
    User2,
    /// SIGALRM: a timer of the process.
    Alarm,
    /// SIGCHLD: a child process has ended. [`process`](crate::process) listens to it by itself.
    Child,
    /// SIGWINCH: the terminal has another size; Apache's way to ask for a graceful stop.
    WindowChange,
}

const ALL: [Signal; 9] = [
    Signal::Terminate,
    Signal::Hangup,
    Signal::Interrupt,
    Signal::Quit,
    Signal::User1,
    Signal::User2,
    Signal::Alarm,
    Signal::Child,
    Signal::WindowChange,
];

impl Signal {
    /// Returns the signal's number on this system.
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::Alarm => libc::SIGALRM,
            Signal::Child => libc::SIGCHLD,
            Signal::WindowChange => libc::SIGWINCH,
        }
    }

    /// The signal as rustix names it.
    pub(crate) fn to_rustix(self) -> rustix::process::Signal {
        use rustix::process::Signal as Raw;
        match self {
            Signal::Terminate => Raw::TERM,
            Signal::Hangup => Raw::HUP,
            Signal::Interrupt => Raw::INT,
            Signal::Quit => Raw::QUIT,
            Signal::User1 => Raw::USR1,
            Signal::User2 => Raw::USR2,
            Signal::Alarm => Raw::ALARM,
            Signal::Child => Raw::CHILD,
            Signal::WindowChange => Raw::WINCH,
        }
    }

    fn bit(self) -> u32 {
        1 << self.number()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Signal::Terminate => "SIGTERM",
            Signal::Hangup => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
            Signal::Alarm => "SIGALRM",
            Signal::Child => "SIGCHLD",
            Signal::WindowChange => "SIGWINCH",
        })
    }
}

/// Catches these signals from now on, instead of what the process did with them.
///
/// Several listeners may ask for the same signal: each hears of it. When the last is dropped, the signal
/// does again what it did before: after the [`Signals`] of SIGTERM is gone, SIGTERM ends the process.
///
/// # Errors
///
/// When no loop runs on this thread, or the self-pipe cannot be made (no descriptors left). Nothing is
/// caught then.
pub fn listen(signals: &[Signal]) -> io::Result<Signals> {
    let mask = signals.iter().fold(0, |mask, signal| mask | signal.bit());
    with_current(|state| {
        // First the ear, then the handler: no signal falls in between.
        let key = state.signals.subscribe(state, mask)?;
        match Caught::new(mask) {
            Ok(caught) => Ok(Signals { owner: state.id, key, caught: Some(caught) }),
            Err(error) => {
                state.signals.unsubscribe(key);
                Err(error)
            }
        }
    })
    .unwrap_or_else(|| Err(no_loop()))
}

/// Ignores SIGPIPE and SIGXFSZ: writing to a closed connection, or beyond the file size limit (RLIMIT_FSIZE),
/// is an error for the writer and does not kill the process. Children get the default for the second one.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn ignore_failed_writes() -> io::Result<()> {
    sys::signals::ignore(libc::SIGPIPE)?;
    sys::signals::ignore(libc::SIGXFSZ)
}

/// What the process does with a signal at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// What the kernel does with it when nobody cares.
    Default,
    /// Nothing.
    Ignored,
    /// Somebody listens through this module.
    Listened,
    /// A handler that is not ours.
    Foreign,
}

/// Asks the kernel what the process does with a signal at present.
///
/// # Errors
///
/// None in practice; what `sigaction(2)` answers.
pub fn disposition(signal: Signal) -> io::Result<Disposition> {
    Ok(match sys::signals::action(signal.number())? {
        Action::Default => Disposition::Default,
        Action::Ignored => Disposition::Ignored,
        Action::OurHandler => Disposition::Listened,
        Action::OtherHandler => Disposition::Foreign,
    })
}

/// Hands out at once what the handler has caught so far, instead of in the loop's next turn: for whoever
/// is about to replace the program and must not take a signal along unheard.
pub fn look_now() {
    with_current(|state| {
        if state.signals.deliver() {
            state.children.reap();
        }
    });
}

/// Receives signals. From [`listen`].
#[derive(Debug)]
#[must_use = "signals are caught only as long as somebody listens"]
pub struct Signals {
    owner: LoopId,
    key: Key,
    /// `None` only during the drop.
    caught: Option<Caught>,
}

impl Signals {
    /// Waits for the next signal. Those that came while nobody waited are kept.
    ///
    /// Of several that are kept, SIGTERM comes first. A signal that was sent again before the kernel could
    /// deliver it comes once, as always with signals. Waits for ever when the loop it belongs to is none of
    /// this thread's.
    pub async fn recv(&mut self) -> Signal {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv), for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        let taken = with_loop(self.owner, |state| state.signals.take(self.key, cx));
        match taken.flatten() {
            Some(signal) => Poll::Ready(signal),
            None => Poll::Pending,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // First the handler, then the ear, as above.
        self.caught = None;
        let leftover = with_loop(self.owner, |state| state.signals.unsubscribe(self.key));
        drop(leftover);
    }
}

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
    /// SIGCHLD is caught for `process.rs`, from the first child on until the loop ends.
    children: RefCell<Option<Caught>>,
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
        Inbox {
            pipe: RefCell::new(None),
            listeners: RefCell::new(Table::new()),
            children: RefCell::new(None),
        }
    }

    /// Catches SIGCHLD from now on; [`deliver`](Self::deliver) tells when it came.
    pub(crate) fn watch_children(&self, state: &Loop) -> io::Result<()> {
        if self.children.borrow().is_none() {
            self.open_pipe(state)?;
            *self.children.borrow_mut() = Some(Caught::new(Signal::Child.bit())?);
            self.update_interest();
        }
        Ok(())
    }

    fn open_pipe(&self, state: &Loop) -> io::Result<()> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_none() {
            let claimed = SignalSlot::claim()?;
            state.reactor.watch_signals(claimed.read_end())?;
            *pipe = Some(claimed);
        }
        Ok(())
    }

    /// Makes the self-pipe anew, in a copy of the process, and watches it.
    pub(crate) fn renew(&self, state: &Loop) -> io::Result<()> {
        match &*self.pipe.borrow() {
            Some(pipe) => {
                pipe.remake_pipe()?;
                state.reactor.watch_signals(pipe.read_end())
            }
            None => Ok(()),
        }
    }

    fn subscribe(&self, state: &Loop, mask: u32) -> io::Result<Key> {
        self.open_pipe(state)?;
        let listener = Listener { mask, pending: [0; ALL.len()], waiter: None };
        let key = self.listeners.borrow_mut().insert(listener);
        self.update_interest();
        Ok(key)
    }

    fn unsubscribe(&self, key: Key) -> Option<impl Sized + use<>> {
        let listener = self.listeners.borrow_mut().remove(key);
        self.update_interest();
        listener
    }

    fn update_interest(&self) {
        let listeners = self.listeners.borrow();
        let keys = (0..listeners.places()).filter_map(|place| listeners.key_at(place));
        let children = if self.children.borrow().is_some() { Signal::Child.bit() } else { 0 };
        let rows = keys.filter_map(|key| listeners.get(key));
        let mask = rows.fold(children, |all, one| all | one.mask);
        if let Some(pipe) = &*self.pipe.borrow() {
            pipe.set_interest(mask);
        }
    }

    /// Takes what the handler has left and hands it to the listeners; says whether a child has ended.
    pub(crate) fn deliver(&self) -> bool {
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
        ALL.iter().zip(arrived).any(|(signal, count)| *signal == Signal::Child && count > 0)
    }

    /// Takes one kept signal, or notes who waits.
    fn take(&self, key: Key, cx: &Context<'_>) -> Option<Signal> {
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
struct Caught {
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
    fn new(mask: u32) -> io::Result<Self> {
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
