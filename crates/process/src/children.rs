//! The children of this thread's loop: which there are, how they exited, what waits for them.
//!
//! std starts programs (fork and exec, without a thread), `fork.rs` starts children without a program. A task on the
//! loop listens for SIGCHLD and then asks the kernel for each of *our* children by pid; other children of the process
//! are left to the code that started them. No pidfd is needed. Every child is reaped: by that task, even if nothing
//! waits for it, or when the task is dropped at the end of the loop.
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
use sys::wait::{self, Usage};

/// Identifies a child across all threads, so that a handle used on another thread finds no row there.
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

/// The children of one thread. No row is borrowed while foreign code runs, so wakers are never woken, cloned or
/// dropped inside a borrow.
struct Table {
    rows: RefCell<BTreeMap<Key, ChildRow>>,
    /// Whether the reaping task is on the loop.
    is_watched: Cell<bool>,
    started: Cell<u64>,
    reaped: Cell<u64>,
}

#[derive(Debug)]
struct ChildRow {
    pid: u32,
    recipient: Recipient,
    /// How it ended, once it has been reaped.
    ending: Option<Ending>,
    usage: Usage,
    /// Whether its handle has been dropped, or it never had one.
    abandoned: bool,
    /// Whether it is never killed, not even at the end of the loop.
    in_background: bool,
    /// Whether it was killed at its deadline.
    expired: bool,
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Status(ExitStatus),
    /// It could not be reaped: errno.
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

impl ChildRow {
    /// Reaps the child if it has exited. Returns whether it has.
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
            if !has_ended(self.pid)? {
                return Ok(None);
            }
            // Until the leader is reaped, no other group can have its id. An error means an empty group.
            let _ = self.recipient.send(RawSignal::KILL);
        }
        wait::reap(self.pid)
    }

    /// Sends a signal unless the child has been reaped, when its pid may have been reused.
    fn send(&self, signal: RawSignal) -> io::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.recipient.send(signal)
    }
}

// ---------------------------------------------------------------------------------------------------
// Reaping.

/// Starts reaping. Call it before starting a child: SIGCHLD must find our handler, however early the child exits.
///
/// # Errors
///
/// If no loop runs on this thread, or SIGCHLD cannot be caught.
pub(crate) fn watch() -> io::Result<()> {
    if TABLE.with(|table| table.is_watched.get()) {
        return Ok(());
    }
    let mut sigchld = signals::listen(&[Signal::Child])?;
    let kill_all_on_drop = KillAllOnDrop::begin();
    let reaping = event_loop::spawn(async move {
        let _kill_all_on_drop = kill_all_on_drop;
        loop {
            poll_fn(|context| poll_all(&mut sigchld, context)).await;
            reap();
        }
    });
    reaping.detach();
    Ok(())
}

/// Takes all pending signals: one may stand for several children anyway.
fn poll_all(signals: &mut Signals, context: &mut Context<'_>) -> Poll<()> {
    let mut received = false;
    while signals.poll_recv(context).is_ready() {
        received = true;
    }
    if received { Poll::Ready(()) } else { Poll::Pending }
}

/// Kills all children when the reaping task is dropped with its loop.
struct KillAllOnDrop(());

impl KillAllOnDrop {
    fn begin() -> Self {
        TABLE.with(|table| table.is_watched.set(true));
        KillAllOnDrop(())
    }
}

impl Drop for KillAllOnDrop {
    fn drop(&mut self) {
        TABLE.with(|table| table.is_watched.set(false));
        kill_all();
    }
}

/// Reaps all children that have exited, and wakes what waits for them.
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

/// Kills and reaps all children at the end of the loop. Waits until they have exited, but not forever: SIGKILL does
/// not end a process that hangs in the kernel.
fn kill_all() {
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
        // The row may hold a waker, so it is dropped outside the borrow.
        drop(with_rows(|rows| rows.remove(&key)));
    }
}

/// How long the end of the loop waits for killed children. SIGKILL takes effect within a few milliseconds unless the
/// machine is very busy.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Delivers the signals caught so far and reaps the children that have exited, now rather than in the loop's next
/// turn: for code that is about to execute another program and must not lose a signal.
pub fn reap_now() {
    signals::deliver_now();
    reap();
}

fn keys() -> Vec<Key> {
    with_rows(|rows| rows.keys().copied().collect())
}

fn with_rows<R>(action: impl FnOnce(&mut BTreeMap<Key, ChildRow>) -> R) -> R {
    TABLE.with(|table| action(&mut table.rows.borrow_mut()))
}

// ---------------------------------------------------------------------------------------------------
// What handles ask.

/// Adds a child that has just been started.
pub(crate) fn insert(pid: u32, recipient: Recipient) -> io::Result<Key> {
    watch()?;
    TABLE.with(|table| table.started.set(table.started.get() + 1));
    Ok(insert_row(pid, recipient, false))
}

fn insert_row(pid: u32, recipient: Recipient, in_background: bool) -> Key {
    let key = Key::next();
    let row = ChildRow {
        pid,
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

/// Returns how a child ended, or `None` while it runs; the outer `None` if there is no such child.
pub(crate) fn ending(key: Key) -> Option<io::Result<Option<ExitStatus>>> {
    with_rows(|rows| Some(rows.get(&key)?.ending.map(Ending::status).transpose()))
}

/// Returns how a child ended, or registers the waker; `None` if there is no such child.
pub(crate) fn poll_ending(key: Key, context: &Context<'_>) -> Option<Poll<Ending>> {
    let is_known = with_rows(|rows| {
        let row = rows.get(&key)?;
        Some(match row.ending {
            Some(ending) => Err(ending),
            None => Ok(row.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker()))),
        })
    })?;
    match is_known {
        Err(ending) => return Some(Poll::Ready(ending)),
        Ok(true) => {}
        Ok(false) => {
            // Cloning and dropping a waker runs foreign code, so it happens outside any borrow.
            let waiter = context.waker().clone();
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

/// Kills a child at its deadline.
pub(crate) fn expire(key: Key) {
    with_rows(|rows| {
        if let Some(row) = rows.get_mut(&key).filter(|row| row.ending.is_none()) {
            row.expired = true;
            // Fails only if the child runs as another user by now: then it is reaped when it exits by itself.
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

/// Kills a child whose handle has been dropped; SIGCHLD gets it reaped.
pub(crate) fn abandon(key: Key) {
    let leftover = TABLE.try_with(|table| {
        let mut rows = table.rows.borrow_mut();
        let row = rows.get_mut(&key)?;
        if row.ending.is_some() {
            return rows.remove(&key);
        }
        // Fails only if the child runs as another user by now: then it is reaped when it exits by itself.
        let _ = row.send(RawSignal::KILL);
        row.abandoned = true;
        None
    });
    // The row may hold a waker, so it is dropped outside the borrow.
    drop(leftover);
}

/// The error for a handle whose child belongs to no loop of this thread, or no longer does.
pub(crate) fn unknown_child() -> io::Error {
    io::Error::other("the child belongs to no event loop that runs on this thread")
}

// ---------------------------------------------------------------------------------------------------
// Forks and other programs.

/// Adds a child without a handle: it is reaped when it exits, and never killed.
pub(crate) fn keep_in_background(pid: u32) {
    insert_row(pid, Recipient::Process(pid), true);
}

/// Takes over the children that this process had before it executed this program ([`reexec`](crate::reexec)): they
/// are reaped when they exit, and never killed. Returns how many there are.
///
/// # Errors
///
/// If no loop runs on this thread, or SIGCHLD cannot be caught.
pub fn adopt_inherited() -> io::Result<usize> {
    watch()?;
    let children = child_pids();
    for child in &children {
        keep_in_background(*child);
    }
    // Those that exited before the handler was installed.
    reap();
    Ok(children.len())
}

/// Empties the table in a forked child: the parent's children are neither waited for nor killed, and none of the rows
/// is dropped.
pub(crate) fn forget() {
    TABLE.with(|table| {
        std::mem::forget(table.rows.take());
        table.is_watched.set(false);
    });
}

/// Marks all children as lost in a draining child, which is not their parent: they are no longer waited for or
/// killed.
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

/// Returns how many child processes of [`Command`](crate::Command) and [`fork`](mod@crate::fork) run, without those
/// [in the background](running_in_background). 0 if no loop runs on this thread.
pub fn running() -> usize {
    count(|row| !row.in_background)
}

/// Returns how many child processes run in the background, which are never killed: draining children
/// ([`draining_child`](crate::draining_child)), and children from before this program was executed.
pub fn running_in_background() -> usize {
    count(|row| row.in_background)
}

fn count(which: impl Fn(&ChildRow) -> bool) -> usize {
    with_rows(|rows| rows.values().filter(|row| row.ending.is_none() && which(row)).count())
}

/// How many children this thread has had in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Children started, including forked ones.
    pub started: u64,
    /// Children reaped.
    pub reaped: u64,
}

/// Returns how many children this thread has had in total.
pub fn counters() -> Counters {
    TABLE.with(|table| Counters { started: table.started.get(), reaped: table.reaped.get() })
}

/// What a signal is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recipient {
    Process(u32),
    /// All processes of a group, identified by its leader.
    Group(u32),
}

impl Recipient {
    fn send(self, signal: RawSignal) -> io::Result<()> {
        match self {
            Recipient::Process(pid) => rustix::process::kill_process(checked_pid(pid)?, signal)?,
            Recipient::Group(pid) => {
                rustix::process::kill_process_group(checked_pid(pid)?, signal)?
            }
        }
        Ok(())
    }
}

/// Converts a pid. Refuses 0 and 1: as a group, they would mean our own group and all processes.
fn checked_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Returns whether a child has exited. Does not reap it, so its pid and its group's stay reserved.
fn has_ended(child: u32) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(checked_pid(child)?), options)?.is_some())
}

/// Returns the pids of this process's children, including those from before this program was executed.
fn child_pids() -> Vec<u32> {
    let own = std::process::id();
    // A single file, if the kernel has it (since Linux 3.5, depending on its configuration).
    if let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        return text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name in parentheses, and may contain anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
