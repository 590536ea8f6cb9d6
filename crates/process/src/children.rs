//! The children of this thread's loop: who they are, how they ended, who waits for them.
//!
//! std starts programs (fork and exec, without a thread), `fork.rs` children without one; SIGCHLD, which a task on
//! the loop listens to, says that some have ended, and each of *our* children is then asked for by its number: other
//! children of the process are left to whoever started them. No pidfd is needed. What has been started is always
//! reaped: by the task, even if nobody waits, and at the latest at the loop's end, which ends the task.
//!
//! The handles are in `child.rs`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use event_loop::signals::{self, Signal, Signals};
use rustix::process::{Pid, Signal as RawSignal, WaitId, WaitIdOptions};
use sys::parent;
use sys::wait::{self, Usage};

/// Names a child, in all threads: a handle that is used on another thread finds nobody there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    fn next() -> Key {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Key(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    static TABLE: Table = const {
        Table {
            rows: RefCell::new(BTreeMap::new()),
            is_watched: Cell::new(false),
            started: Cell::new(0),
            reaped: Cell::new(0),
        }
    };
}

/// The children of one thread. No row is borrowed while foreign code runs: no wake, clone or drop of a waker inside
/// a borrow.
struct Table {
    rows: RefCell<BTreeMap<Key, Row>>,
    /// The task that reaps is on the loop.
    is_watched: Cell<bool>,
    started: Cell<u64>,
    reaped: Cell<u64>,
}

#[derive(Debug)]
struct Row {
    number: u32,
    recipient: Recipient,
    /// How it ended; it has been reaped then.
    ending: Option<Ending>,
    usage: Usage,
    /// Its handle is gone: nobody will ask.
    abandoned: bool,
    /// It goes on by itself, also after the loop's end.
    in_background: bool,
    /// It was killed at its deadline.
    expired: bool,
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Status(ExitStatus),
    /// Somebody else has reaped it: errno.
    Lost(Option<i32>),
}

impl Ending {
    pub(crate) fn status(self) -> io::Result<ExitStatus> {
        match self {
            Ending::Status(status) => Ok(status),
            Ending::Lost(errno) => Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::ECHILD))),
        }
    }
}

impl Row {
    /// Asks the kernel whether the child has ended, and reaps it.
    fn reap(&mut self) -> bool {
        if self.ending.is_none() {
            self.ending = match self.ask() {
                Ok(None) => None,
                Ok(Some((status, usage))) => {
                    self.usage = usage;
                    Some(Ending::Status(status))
                }
                Err(error) => Some(Ending::Lost(error.raw_os_error())),
            };
            if self.ending.is_some() {
                TABLE.with(|table| table.reaped.set(table.reaped.get() + 1));
            }
        }
        self.ending.is_some()
    }

    fn ask(&self) -> io::Result<Option<(ExitStatus, Usage)>> {
        if let Recipient::Group(_) = self.recipient {
            if !has_ended(self.number)? {
                return Ok(None);
            }
            // As long as the leader is not reaped, its group's number is nobody else's.
            let _ = self.recipient.send(RawSignal::KILL);
        }
        wait::reap(self.number)
    }

    /// Sends a signal unless the child has been reaped: its number may be another's by then.
    fn send(&self, signal: RawSignal) -> io::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.recipient.send(signal)
    }
}

// ---------------------------------------------------------------------------------------------------
// Reaping.

/// Has children reaped from now on: SIGCHLD must find our handler, however early a child ends.
///
/// # Errors
///
/// When no loop runs on this thread, or the signal cannot be caught.
pub(crate) fn watch() -> io::Result<()> {
    if TABLE.with(|table| table.is_watched.get()) {
        return Ok(());
    }
    let mut ended = signals::listen(&[Signal::Child])?;
    let until_the_end = EndsAllChildren::begin();
    let watching = event_loop::spawn(async move {
        let _until_the_end = until_the_end;
        loop {
            poll_fn(|cx| poll_all(&mut ended, cx)).await;
            reap();
        }
    });
    watching.detach();
    Ok(())
}

/// Takes all signals that are there: one may stand for several children anyway.
fn poll_all(ended: &mut Signals, cx: &mut Context<'_>) -> Poll<()> {
    let mut came = false;
    while ended.poll_recv(cx).is_ready() {
        came = true;
    }
    if came { Poll::Ready(()) } else { Poll::Pending }
}

/// Ends all children when the task that reaps is dropped, with its loop.
struct EndsAllChildren(());

impl EndsAllChildren {
    fn begin() -> Self {
        TABLE.with(|table| table.is_watched.set(true));
        EndsAllChildren(())
    }
}

impl Drop for EndsAllChildren {
    fn drop(&mut self) {
        TABLE.with(|table| table.is_watched.set(false));
        end_all();
    }
}

/// Reaps all that have ended, and wakes who waits for them.
fn reap() {
    for key in keys() {
        let reaped = with_rows(|rows| {
            let row = rows.get_mut(&key).filter(|row| row.ending.is_none())?;
            let waiter = row.reap().then(|| row.waiter.take())?;
            Some((waiter, if row.abandoned { rows.remove(&key) } else { None }))
        });
        if let Some((Some(waiter), _)) = reaped {
            waiter.wake();
        }
    }
}

/// Kills and reaps all children, for the loop ends. Waits until they are gone, but not for ever: a process that
/// hangs in the kernel does not die of SIGKILL.
fn end_all() {
    let deadline = Instant::now() + END_PATIENCE;
    for key in keys() {
        loop {
            let is_done = with_rows(|rows| {
                let Some(row) = rows.get_mut(&key) else { return true };
                if !row.in_background {
                    let _ = row.send(RawSignal::KILL);
                }
                row.reap() || row.in_background || Instant::now() > deadline
            });
            if is_done {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // With its waker, outside of the borrow.
        drop(with_rows(|rows| rows.remove(&key)));
    }
}

/// How long the end of the loop waits for killed children. SIGKILL takes effect within a few
/// milliseconds, unless the machine is very busy.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Hands out at once what the signal handler has caught so far and reaps who has ended, instead of in the loop's
/// next turn: for whoever is about to replace the program and must not take a signal along unheard.
pub fn look_now() {
    signals::look_now();
    reap();
}

fn keys() -> Vec<Key> {
    with_rows(|rows| rows.keys().copied().collect())
}

fn with_rows<R>(action: impl FnOnce(&mut BTreeMap<Key, Row>) -> R) -> R {
    TABLE.with(|table| action(&mut table.rows.borrow_mut()))
}

// ---------------------------------------------------------------------------------------------------
// What handles ask.

/// Notes a child that has just been started.
pub(crate) fn insert(number: u32, recipient: Recipient) -> io::Result<Key> {
    watch()?;
    TABLE.with(|table| table.started.set(table.started.get() + 1));
    Ok(insert_row(number, recipient, false))
}

fn insert_row(number: u32, recipient: Recipient, in_background: bool) -> Key {
    let key = Key::next();
    let row = Row {
        number,
        recipient,
        ending: None,
        usage: Usage::default(),
        abandoned: in_background,
        in_background,
        expired: false,
        waiter: None,
    };
    with_rows(|rows| rows.insert(key, row));
    key
}

/// Returns how a child ended, or `None` while it runs; the outer `None` when there is no such child.
pub(crate) fn ending(key: Key) -> Option<io::Result<Option<ExitStatus>>> {
    with_rows(|rows| Some(rows.get(&key)?.ending.map(Ending::status).transpose()))
}

/// Returns how a child ended, or notes who waits; `None` when there is no such child.
pub(crate) fn poll_ending(key: Key, cx: &Context<'_>) -> Option<Poll<Ending>> {
    let is_known = with_rows(|rows| {
        let row = rows.get(&key)?;
        Some(match row.ending {
            Some(ending) => Err(ending),
            None => Ok(row.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker()))),
        })
    })?;
    match is_known {
        Err(ending) => return Some(Poll::Ready(ending)),
        Ok(true) => {}
        Ok(false) => {
            // Clones and drops of foreign wakers are foreign code: outside of any borrow.
            let waiter = cx.waker().clone();
            let old = with_rows(|rows| Some(rows.get_mut(&key)?.waiter.replace(waiter)));
            drop(old);
        }
    }
    Some(Poll::Pending)
}

pub(crate) fn has_expired(key: Key) -> bool {
    with_rows(|rows| rows.get(&key).is_some_and(|row| row.expired))
}

pub(crate) fn usage(key: Key) -> Usage {
    with_rows(|rows| rows.get(&key).map_or(Usage::default(), |row| row.usage))
}

/// Kills a child whose time is over.
pub(crate) fn expire(key: Key) {
    with_rows(|rows| {
        if let Some(row) = rows.get_mut(&key).filter(|row| row.ending.is_none()) {
            row.expired = true;
            // It fails only when the child has become another user: it is reaped when it ends by itself.
            let _ = row.send(RawSignal::KILL);
        }
    });
}

pub(crate) fn send(key: Key, signal: RawSignal) -> io::Result<()> {
    with_rows(|rows| match rows.get(&key) {
        Some(row) => row.send(signal),
        None => Err(unknown_child()),
    })
}

/// Kills a child whose handle is gone; it is reaped when SIGCHLD comes.
pub(crate) fn abandon(key: Key) {
    let leftover = TABLE.try_with(|table| {
        let mut rows = table.rows.borrow_mut();
        let row = rows.get_mut(&key)?;
        if row.ending.is_some() {
            return rows.remove(&key);
        }
        // It fails only when the child has become another user: it is reaped when it ends by itself.
        let _ = row.send(RawSignal::KILL);
        row.abandoned = true;
        None
    });
    // It may hold a waker: foreign code, outside of the borrow.
    drop(leftover);
}

/// The error of a handle whose child no loop of this thread knows (any more).
pub(crate) fn unknown_child() -> io::Error {
    io::Error::other("the child belongs to no event loop that runs on this thread")
}

// ---------------------------------------------------------------------------------------------------
// Forks and other programs.

/// Takes over a child that goes on by itself: it is reaped when it ends, and never killed.
pub(crate) fn keep_in_background(number: u32) {
    insert_row(number, Recipient::Process(number), true);
}

/// Takes over the children that this process had before it became this program ([`reexec`](crate::reexec)):
/// they are reaped when they end. Returns how many there are.
///
/// # Errors
///
/// When no loop runs on this thread, or SIGCHLD cannot be caught.
pub fn adopt_inherited() -> io::Result<usize> {
    watch()?;
    let children = all_of_this_process();
    for child in &children {
        keep_in_background(*child);
    }
    // Those that have ended before the handler stood.
    reap();
    Ok(children.len())
}

/// Forgets all, in a child that has a copy of the table: they are neither waited for nor killed, and nothing of them
/// is dropped.
pub(crate) fn forget() {
    TABLE.with(|table| {
        std::mem::forget(table.rows.take());
        table.is_watched.set(false);
    });
}

/// Gives all up, in a copy of the process that goes on with the loop: it is not their parent, so they are neither
/// waited for nor killed any more.
pub(crate) fn lose_all() {
    for key in keys() {
        let waiter = with_rows(|rows| {
            let row = rows.get_mut(&key)?;
            row.ending.get_or_insert(Ending::Lost(Some(libc::ECHILD)));
            row.waiter.take()
        });
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// Has SIGTERM sent to this process when its parent, which is to be `parent`, ends.
///
/// # Errors
///
/// When the parent has ended already, or `prctl(2)` refuses.
pub fn stop_with_parent(parent: u32) -> io::Result<()> {
    parent::signal_at_end(parent, RawSignal::TERM)
}

/// Returns how many child processes run: those of [`Command`](crate::Command) and of [`fork`](mod@crate::fork),
/// without those that go on by themselves. 0 where no loop runs.
pub fn running() -> usize {
    count(|row| !row.in_background)
}

/// Returns how many child processes run that go on by themselves: copies of this process that finish what is in
/// flight ([`draining_child`](crate::draining_child)), and children from before it became this program.
pub fn running_in_background() -> usize {
    count(|row| row.in_background)
}

fn count(which: impl Fn(&Row) -> bool) -> usize {
    with_rows(|rows| rows.values().filter(|row| row.ending.is_none() && which(row)).count())
}

/// How many children this thread has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Started, forked ones included.
    pub started: u64,
    /// Reaped.
    pub reaped: u64,
}

/// Returns how many children this thread has had.
pub fn counters() -> Counters {
    TABLE.with(|table| Counters { started: table.started.get(), reaped: table.reaped.get() })
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Process(u32),
    /// All processes of a group, by its leader.
    Group(u32),
}

impl Recipient {
    fn send(self, signal: RawSignal) -> io::Result<()> {
        match self {
            Recipient::Process(number) => rustix::process::kill_process(pid(number)?, signal)?,
            Recipient::Group(number) => rustix::process::kill_process_group(pid(number)?, signal)?,
        }
        Ok(())
    }
}

/// A process number; 0 and 1 would be our own group and everybody.
fn pid(number: u32) -> io::Result<Pid> {
    i32::try_from(number)
        .ok()
        .filter(|number| *number > 1)
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Says whether a child has ended, and leaves it unreaped: its number and its group's stay its own.
fn has_ended(child: u32) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(pid(child)?), options)?.is_some())
}

/// Returns the numbers of this process' children, also of those it had before it became this program.
fn all_of_this_process() -> Vec<u32> {
    let own = std::process::id();
    // One file, where the kernel has it (since Linux 3.5, if so configured).
    if let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        return text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(own)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
