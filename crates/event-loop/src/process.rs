//! Child processes, awaited through the loop.
//!
//! std starts programs (fork and exec, without a thread), `fork.rs` children without one; SIGCHLD, which
//! comes in by way of `signals.rs`, says that some have ended, and each of *our* children is then asked for
//! by its number: other children of the process are left to whoever started them. No pidfd is needed. What
//! has been started is always reaped: by the loop, even if nobody waits, and at the latest at the loop's end.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::process::{Pid, Signal as RawSignal, WaitId, WaitIdOptions};
use sys::{parent, program, wait};

use crate::counters::count;
use crate::executor::{self, Task};
use crate::fork::Limits;
use crate::loop_state::{LoopId, no_loop, with_current, with_loop};
use crate::pipe::{Reader, Writer};
use crate::signals::Signal;
use crate::table::{Key, Table};
use crate::time;

pub use std::process::{ExitStatus, Output, Stdio};
pub use sys::wait::Usage;

/// A program to start: std's builder, whose words and defaults it keeps.
///
/// Inherited by default: environment, working directory, descriptors 0, 1 and 2. Nothing else, whoever has
/// opened it: all other descriptors are made close-on-exec in the child. It starts with an empty signal mask
/// and, as after every exec, without our signal handlers; and it is killed when this process ends in
/// whatever way (what it has started itself is not).
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    leads_group: bool,
    deadline: Option<Duration>,
}

impl Command {
    /// A program by its path, or by its name in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = std::process::Command::new(program);
        program::inherit_nothing(&mut inner);
        Command { inner, leads_group: false, deadline: None }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(arguments);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.inner.envs(variables);
        self
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(name);
        self
    }

    /// Lets the child begin with an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the child's working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(directory);
        self
    }

    /// Says what the child reads: `Stdio::piped()` leads to [`Child::stdin`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(stdin);
        self
    }

    /// Says where the child's output goes: `Stdio::piped()` leads to [`Child::stdout`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(stdout);
        self
    }

    /// Says where the child's error messages go: `Stdio::piped()` leads to [`Child::stderr`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(stderr);
        self
    }

    /// Gives the child limits: processor time, memory (in all), the size of files; and the time on the clock
    /// as [`deadline`](Self::deadline). Called again, the lower of each holds, except for the deadline.
    ///
    /// A child that goes beyond is ended by a signal: [`Failure::of`](crate::fork::Failure::of) tells which
    /// limit it was. Memory that is refused is told to the program, which does with that what it does.
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        program::limit(&mut self.inner, limits.beyond(0));
        self.deadline(limits.wall)
    }

    /// Lets the child be killed after so long, with its group ([`lead_group`](Self::lead_group) is implied):
    /// [`Child::timed_out`] tells then.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self.lead_group()
    }

    /// Lets the child lead a process group of its own. Signals, [`Child::kill`] and the kill on drop then
    /// go to the whole group: to what a shell script has started, too. When the child has ended, what is
    /// left of its group is killed.
    pub fn lead_group(&mut self) -> &mut Self {
        self.inner.process_group(0);
        self.leads_group = true;
        self
    }

    /// Gives access to std's builder, for what is not repeated here. Starting it through std is not
    /// noticed by the loop.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the program. Returns when the child has executed it, or could not.
    ///
    /// # Errors
    ///
    /// * When no loop runs on this thread.
    /// * What std answers: `NotFound`, `PermissionDenied`, …; `WouldBlock` (EAGAIN, "Resource temporarily
    ///   unavailable") when the account has too many processes: wait a while and try again.
    pub fn spawn(&mut self) -> io::Result<Child> {
        // SIGCHLD must find our handler, however early the child ends.
        watch_children()?;
        let limit = crate::memory_limit::Lifted::for_now();
        let started = self.inner.spawn();
        drop(limit);
        let mut started = started?;
        count(|counters| &counters.children_started);
        let pipes = (started.stdin.take(), started.stdout.take(), started.stderr.take());
        // std neither kills nor reaps what it forgets.
        let number = started.id();
        let recipient =
            if self.leads_group { Recipient::Group(number) } else { Recipient::Process(number) };
        // From here on an error drops the handle, which kills and reaps.
        let mut child = enter(number, recipient)?;
        child.alarm = self.deadline.map(|deadline| child.expire_after(deadline));
        child.stdin = pipes.0.map(|pipe| Writer::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stdout = pipes.1.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        child.stderr = pipes.2.map(|pipe| Reader::from_fd(OwnedFd::from(pipe))).transpose()?;
        Ok(child)
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait().await
    }

    /// Runs the program to its end and collects what it writes, at most `limit` bytes of output and as
    /// many of error messages. Standard input is inherited unless it was set.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub async fn output(&mut self, limit: usize) -> io::Result<Output> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn()?.wait_with_output(limit).await
    }
}

/// Has SIGTERM sent to this process when its parent, which is to be `parent`, ends.
///
/// # Errors
///
/// When the parent has ended already, or `prctl(2)` refuses.
pub fn finish_with_parent(parent: u32) -> io::Result<()> {
    parent::signal_at_end(parent, RawSignal::TERM)
}

/// A running child process.
///
/// **Dropping it kills it** (SIGKILL); the loop reaps it in the background. `Send`, for it is an id; of use
/// on its own thread alone: dropped elsewhere, the child goes on until the loop ends.
#[derive(Debug)]
pub struct Child {
    owner: LoopId,
    key: Key,
    number: u32,
    /// What the child reads, if that was asked to be a pipe. Dropping it is the end of the child's input.
    pub stdin: Option<Writer>,
    /// What the child writes, if that was asked to be a pipe.
    pub stdout: Option<Reader>,
    /// The child's error messages, if they were asked to go to a pipe. Of a child without a program
    /// ([`fork`](crate::fork)): all that it prints, if that was asked to come to us.
    pub stderr: Option<Reader>,
    /// Kills the child at its deadline; dropped with the handle.
    alarm: Option<Task<()>>,
}

/// Catches SIGCHLD from now on: it must find our handler, however early a child ends.
pub(crate) fn watch_children() -> io::Result<()> {
    with_current(|state| state.signals.watch_children(state)).unwrap_or_else(no_loop_here)
}

/// Takes over a child that has just been forked and leads its group.
pub(crate) fn adopt(number: u32) -> io::Result<Child> {
    count(|counters| &counters.children_started);
    enter(number, Recipient::Group(number))
}

fn enter(number: u32, recipient: Recipient) -> io::Result<Child> {
    let row = Row {
        number,
        recipient,
        ending: None,
        usage: Usage::default(),
        abandoned: false,
        in_background: false,
        expired: false,
        waiter: None,
    };
    let (owner, key) =
        with_current(|state| (state.id, state.children.insert(row))).ok_or_else(no_loop)?;
    Ok(Child { owner, key, number, stdin: None, stdout: None, stderr: None, alarm: None })
}

/// Takes over a child that goes on by itself: it is reaped when it ends, and never killed.
pub(crate) fn keep_in_background(number: u32) {
    if let Ok(mut child) = enter(number, Recipient::Process(number)) {
        with_loop(child.owner, |state| state.children.let_go(child.key));
        // Its row is the table's alone now.
        child.key = Key::reserved(0);
    }
}

/// Takes over the children that this process had before it became this program ([`exec`](crate::exec)):
/// they are reaped when they end. Returns how many there are.
///
/// # Errors
///
/// When no loop runs on this thread, or SIGCHLD cannot be caught.
pub fn adopt_inherited() -> io::Result<usize> {
    watch_children()?;
    let children = children();
    for child in &children {
        keep_in_background(*child);
    }
    // Those that have ended before the handler stood.
    with_current(|state| state.children.reap());
    Ok(children.len())
}

/// Returns how many child processes run: those of [`Command`] and of [`fork`](crate::fork), without those
/// that go on by themselves. 0 where no loop runs.
pub fn running() -> usize {
    with_current(|state| state.children.running()).unwrap_or(0)
}

/// Returns how many child processes run that go on by themselves: copies of this process that finish what
/// it has begun ([`fork::finisher`](crate::fork::finisher)), and children from before it became this
/// program.
pub fn running_in_background() -> usize {
    with_current(|state| state.children.running_in_background()).unwrap_or(0)
}

impl Child {
    /// Returns the process number. It may belong to another process once the child has been reaped.
    pub fn id(&self) -> u32 {
        self.number
    }

    /// Waits until the child has ended. Closes its standard input first, for it may wait for that end; reads
    /// nothing: a child that writes much into a pipe that nobody reads does not end.
    ///
    /// Can be called again, with the same answer, and be cancelled.
    ///
    /// # Errors
    ///
    /// When somebody else has reaped it (ECHILD), or it belongs to no loop of this thread.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    /// As [`wait`](Self::wait), for hand-written futures; standard input is left alone.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        let ending = with_loop(self.owner, |state| state.children.poll_ending(self.key, cx));
        match ending.flatten() {
            Some(ending) => ending.map(Ending::status),
            None => Poll::Ready(Err(no_loop())),
        }
    }

    /// Returns how the child ended, or `None` while it runs. The answer is as old as the loop's turn.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        with_loop(self.owner, |state| state.children.ending(self.key))
            .flatten()
            .unwrap_or_else(no_loop_here)
    }

    /// Reads the output and the error messages, as far as they are pipes, and waits for the end.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); `FileTooLarge` when one of the two is longer than `limit` bytes: the child
    /// is killed then.
    pub async fn wait_with_output(mut self, limit: usize) -> io::Result<Output> {
        self.stdin = None;
        let stdout = read_to_end(self.stdout.take(), limit);
        let stderr = read_to_end(self.stderr.take(), limit);
        let (stdout, stderr) = both(pin!(stdout), pin!(stderr)).await?;
        let status = self.wait().await?;
        Ok(Output { status, stdout, stderr })
    }

    /// Kills the child (SIGKILL). One that has ended already is well.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the child has become another user; an error when it belongs to no loop of
    /// this thread.
    pub fn kill(&mut self) -> io::Result<()> {
        self.send(RawSignal::KILL)
    }

    /// Sends the child a signal. One that has ended already is well.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        self.send(signal.to_rustix())
    }

    /// Says whether the child was killed at its deadline. The answer is as old as the loop's turn.
    pub fn timed_out(&self) -> bool {
        with_loop(self.owner, |state| state.children.has_expired(self.key)) == Some(true)
    }

    /// Returns what the child has used up; nothing as long as it has not ended.
    pub fn usage(&self) -> Usage {
        with_loop(self.owner, |state| state.children.usage(self.key)).unwrap_or_default()
    }

    /// Starts what kills the child at its deadline, whoever waits for what meanwhile.
    fn expire_after(&self, deadline: Duration) -> Task<()> {
        let (owner, key) = (self.owner, self.key);
        executor::spawn(async move {
            time::sleep(deadline).await;
            with_loop(owner, |state| state.children.expire(key));
        })
    }

    fn send(&mut self, signal: RawSignal) -> io::Result<()> {
        with_loop(self.owner, |state| state.children.send(self.key, signal))
            .unwrap_or_else(no_loop_here)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let leftover = with_loop(self.owner, |state| state.children.abandon(self.key));
        // It may hold a waker: foreign code, outside of any borrow.
        drop(leftover);
    }
}

fn no_loop_here<T>() -> io::Result<T> {
    Err(no_loop())
}

/// Reads a pipe to its end; what is no pipe is empty.
pub(crate) async fn read_to_end(reader: Option<Reader>, limit: usize) -> io::Result<Vec<u8>> {
    let mut collected = BytesMut::new();
    let Some(mut reader) = reader else { return Ok(Vec::new()) };
    loop {
        collected.reserve(READ_SIZE);
        if poll_fn(|cx| reader.poll_read_into(cx, &mut collected)).await? == 0 {
            return Ok(collected.into());
        }
        if collected.len() > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the child wrote more than the {limit} bytes allowed"),
            ));
        }
    }
}

/// How much room a read of a child's output gets: an eighth of what a pipe holds.
const READ_SIZE: usize = 8 * 1024;

/// Waits for two futures, and no longer than until one fails.
async fn both<T, E>(
    mut one: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut other: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<(T, T), E> {
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(cx)
        {
            first = Some(result?);
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(cx)
        {
            second = Some(result?);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug)]
enum Recipient {
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
fn children() -> Vec<u32> {
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

/// The children of one loop.
pub(crate) struct Children {
    rows: RefCell<Table<Row>>,
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
enum Ending {
    Status(ExitStatus),
    /// Somebody else has reaped it: errno.
    Lost(Option<i32>),
}

impl Ending {
    fn status(self) -> io::Result<ExitStatus> {
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
                count(|counters| &counters.children_reaped);
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

impl Children {
    pub(crate) const fn new() -> Self {
        Children { rows: RefCell::new(Table::new()) }
    }

    fn insert(&self, row: Row) -> Key {
        self.rows.borrow_mut().insert(row)
    }

    /// Reaps all that have ended, and wakes who waits for them. SIGCHLD may stand for several of them.
    pub(crate) fn reap(&self) {
        let places = self.rows.borrow().places();
        for place in 0..places {
            let (waiter, gone) = {
                let mut rows = self.rows.borrow_mut();
                let Some(key) = rows.key_at(place) else { continue };
                let Some(row) = rows.get_mut(key) else { continue };
                if row.ending.is_some() || !row.reap() {
                    continue;
                }
                let waiter = row.waiter.take();
                (waiter, if row.abandoned { rows.remove(key) } else { None })
            };
            drop(gone);
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Counts those that run.
    fn running(&self) -> usize {
        let rows = self.rows.borrow();
        let keys = (0..rows.places()).filter_map(|place| rows.key_at(place));
        let rows = keys.filter_map(|key| rows.get(key));
        rows.filter(|row| row.ending.is_none() && !row.in_background).count()
    }

    /// Counts those that go on by themselves.
    fn running_in_background(&self) -> usize {
        let rows = self.rows.borrow();
        let keys = (0..rows.places()).filter_map(|place| rows.key_at(place));
        let rows = keys.filter_map(|key| rows.get(key));
        rows.filter(|row| row.ending.is_none() && row.in_background).count()
    }

    /// Lets a child go on by itself.
    fn let_go(&self, key: Key) {
        if let Some(row) = self.rows.borrow_mut().get_mut(key) {
            row.abandoned = true;
            row.in_background = true;
        }
    }

    /// Gives all up, in a copy of the process, which is not their parent: they are neither waited for nor
    /// killed any more.
    pub(crate) fn lose_all(&self) {
        let places = self.rows.borrow().places();
        for place in 0..places {
            let waiter = {
                let mut rows = self.rows.borrow_mut();
                let Some(key) = rows.key_at(place) else { continue };
                let Some(row) = rows.get_mut(key) else { continue };
                row.ending.get_or_insert(Ending::Lost(Some(libc::ECHILD)));
                row.waiter.take()
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    fn ending(&self, key: Key) -> Option<io::Result<Option<ExitStatus>>> {
        let rows = self.rows.borrow();
        Some(rows.get(key)?.ending.map(Ending::status).transpose())
    }

    fn has_expired(&self, key: Key) -> bool {
        self.rows.borrow().get(key).is_some_and(|row| row.expired)
    }

    fn usage(&self, key: Key) -> Usage {
        self.rows.borrow().get(key).map_or(Usage::default(), |row| row.usage)
    }

    /// Kills a child whose time is over.
    fn expire(&self, key: Key) {
        if let Some(row) = self.rows.borrow_mut().get_mut(key).filter(|row| row.ending.is_none()) {
            row.expired = true;
            // It fails only when the child has become another user: it is reaped when it ends by itself.
            let _ = row.send(RawSignal::KILL);
        }
    }

    /// Returns how a child ended, or notes who waits; `None` when there is no such child.
    fn poll_ending(&self, key: Key, cx: &Context<'_>) -> Option<Poll<Ending>> {
        let rows = self.rows.borrow();
        let row = rows.get(key)?;
        if let Some(ending) = row.ending {
            return Some(Poll::Ready(ending));
        }
        if !row.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            drop(rows);
            // Clones and drops of foreign wakers are foreign code: outside of any borrow.
            let waiter = cx.waker().clone();
            let old = self.rows.borrow_mut().get_mut(key)?.waiter.replace(waiter);
            drop(old);
        }
        Some(Poll::Pending)
    }

    fn send(&self, key: Key, signal: RawSignal) -> io::Result<()> {
        match self.rows.borrow().get(key) {
            Some(row) => row.send(signal),
            None => Err(no_loop()),
        }
    }

    /// Kills a child whose handle is gone; it is reaped when SIGCHLD comes. Returns what is to be dropped.
    fn abandon(&self, key: Key) -> Option<impl Sized + use<>> {
        let mut rows = self.rows.borrow_mut();
        let row = rows.get_mut(key)?;
        if row.ending.is_some() {
            return rows.remove(key);
        }
        // It fails only when the child has become another user: it is reaped when it ends by itself.
        let _ = row.send(RawSignal::KILL);
        row.abandoned = true;
        None
    }

    /// Kills and reaps all children, for the loop ends. Waits until they are gone, but not for ever: a
    /// process that hangs in the kernel does not die of SIGKILL.
    pub(crate) fn end_all(&self) {
        let deadline = Instant::now() + END_PATIENCE;
        while let Some(key) = { self.rows.borrow().any_key() } {
            let gone = {
                let mut rows = self.rows.borrow_mut();
                let Some(row) = rows.get_mut(key) else { return };
                if !row.in_background {
                    let _ = row.send(RawSignal::KILL);
                }
                if row.reap() || row.in_background || Instant::now() > deadline {
                    rows.remove(key)
                } else {
                    None
                }
            };
            if gone.is_none() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// How long the end of the loop waits for killed children. SIGKILL takes effect within a few
/// milliseconds, unless the machine is very busy.
const END_PATIENCE: Duration = Duration::from_secs(2);
