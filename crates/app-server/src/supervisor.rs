//! Several processes on one listen socket: a supervisor starts workers, replaces those that die, upgrades
//! them one by one, and adapts their number to the load.
//!
//! The supervisor has one thread and serves nothing. It opens the socket; every worker is the program
//! itself, executed with that socket at descriptor 0 (not a fork of a running loop, so that a worker
//! always runs the program that is on disk now). Its decisions are made in `load.rs` and `back_off.rs`.
//!
//! | signal | what the supervisor does |
//! | --- | --- |
//! | TERM, INT | stops new connections where the socket can, drains all workers, waits for them, exits; TERM first has the workers tell load balancers so for a while (`drain_wait`) |
//! | HUP | upgrades: starts a worker and, once it serves, drains an old one; then the next |
//! | CHLD | replaces the worker that ended, after a delay if it ended early |

mod back_off;
mod load;

use std::ffi::OsString;
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::{Duration, Instant};

use event_loop::net::Address;
use event_loop::signals::{self, Signal, Signals};
use event_loop::time;
use process::{Child, Command, Stdio};

use self::back_off::BackOff;
use self::load::{Load, LoadChange};
use crate::error::{Error, check_descriptors};
use crate::host::Host;
use crate::listen::{self, Listening};
use crate::settings::Settings;
use crate::shutdown::shutdown_signals;
use crate::transport::{Listen, ListenAt, Protocol};
use crate::worker::{VARIABLE, WITHDRAW};

/// How many workers there are, and how to start one.
#[derive(Clone, Debug)]
pub struct Workers {
    /// The minimum. 0 counts as 1.
    pub min: usize,
    /// The maximum, under load. Less than `min` counts as `min`.
    pub max: usize,
    /// The program to start. It must call [`Server::run`](crate::Server::run) with the same protocol and address, or
    /// with [`Transport::Spawned`](crate::Transport::Spawned): it finds the socket at descriptor 0.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables, in addition to this process's own.
    pub variables: Vec<(OsString, OsString)>,
}

/// How often the supervisor checks the load.
const TICK: Duration = Duration::from_secs(1);

/// How often it checks whether a worker that was just started is serving.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a worker may take until it serves. After that, an upgrade is abandoned.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Opens a listen socket at `address` and keeps workers serving `protocol` there until SIGTERM or SIGINT; then lets
/// them drain (for at most [`Settings::drain_timeout`]) and returns. After SIGTERM they first serve as before for
/// [`Settings::drain_wait`], and say that they will drain.
///
/// # Errors
///
/// When the socket cannot be created, or not even the first worker starts.
pub async fn supervise(
    protocol: Protocol,
    address: Address,
    workers: Workers,
    settings: &Settings,
    host: &dyn Host,
) -> Result<(), Error> {
    check_descriptors()?;
    let listen = Listen { protocol, at: ListenAt::Address(address) };
    let mut wanted = shutdown_signals();
    wanted.push(Signal::Hangup);
    let mut signals = signals::listen(&wanted).map_err(Error::Loop)?;
    let listening = listen::open(&listen, None)?;
    let mut supervisor = Supervisor {
        plan: workers,
        listening,
        workers: Vec::new(),
        leaving: Vec::new(),
        back_off: BackOff::default(),
        load: Load::default(),
        start_at: Vec::new(),
    };
    supervisor.begin().map_err(Error::Worker)?;
    let shown = supervisor.listening.on.to_string();
    tracing::info!(workers = supervisor.workers.len(), "Supervising {shown}.");
    host.on_listening(&shown);
    let signal = supervisor.supervise(&mut signals).await;
    if signal == Signal::Terminate && !settings.drain_wait.is_zero() {
        supervisor.withdraw(settings.drain_wait, &mut signals).await;
    }
    tracing::info!(%signal, "Signal received; draining workers.");
    supervisor.end(settings.drain_timeout).await;
    Ok(())
}

struct Supervisor {
    plan: Workers,
    listening: Listening,
    /// Workers that serve.
    workers: Vec<Worker>,
    /// Workers that are draining.
    leaving: Vec<Worker>,
    back_off: BackOff,
    load: Load,
    /// When to start replacements for workers that ended.
    start_at: Vec<Instant>,
}

struct Worker {
    child: Child,
    started: Instant,
    /// Processor time at the last check, in hundredths of a second.
    used: u64,
}

/// What the supervisor has to react to.
enum WorkerEvent {
    Signal(Signal),
    /// The worker at this index of `workers` has ended.
    Ended(usize, io::Result<ExitStatus>),
    /// A draining worker has ended.
    Left(usize),
    /// It is time to check the load, or to start the next worker.
    Time,
}

impl Supervisor {
    fn allowed(&self) -> std::ops::RangeInclusive<usize> {
        let min = self.plan.min.max(1);
        min..=self.plan.max.max(min)
    }

    /// Starts the first workers. One is enough to begin with; the others are retried.
    fn begin(&mut self) -> io::Result<()> {
        let first = self.start()?;
        self.workers.push(first);
        for _ in 1..*self.allowed().start() {
            self.start_or_try_again();
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Worker> {
        let socket: OwnedFd = self.listening.listener.as_fd().try_clone_to_owned()?;
        let child = Command::new(&self.plan.program)
            .args(&self.plan.arguments)
            .envs(self.plan.variables.iter().map(|(name, value)| (name, value)))
            .env(VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(socket))
            .spawn()?;
        tracing::info!(pid = child.id(), "Worker started.");
        Ok(Worker { child, started: time::now(), used: 0 })
    }

    fn start_or_try_again(&mut self) {
        match self.start() {
            Ok(worker) => self.workers.push(worker),
            Err(error) => {
                let wait = self.back_off.ended(Duration::ZERO);
                tracing::error!(
                    "Cannot start a worker: {error}; retrying in {} ms.",
                    wait.as_millis()
                );
                self.start_at.push(time::now() + wait);
            }
        }
    }

    /// Supervises until a signal ends it.
    async fn supervise(&mut self, signals: &mut Signals) -> Signal {
        let mut next_tick = time::now() + TICK;
        loop {
            let alarm = self.start_at.iter().copied().fold(next_tick, Instant::min);
            match self.event(signals, alarm).await {
                WorkerEvent::Signal(Signal::Hangup) => {
                    if let Some(signal) = self.upgrade(signals).await {
                        return signal;
                    }
                }
                WorkerEvent::Signal(signal) => return signal,
                WorkerEvent::Ended(index, status) => self.replace(index, status),
                WorkerEvent::Left(index) => drop(self.leaving.swap_remove(index)),
                WorkerEvent::Time => {
                    let now = time::now();
                    let due = self.start_at.iter().filter(|at| **at <= now).count();
                    self.start_at.retain(|at| *at > now);
                    (0..due).for_each(|_| self.start_or_try_again());
                    if now >= next_tick {
                        next_tick = now + TICK;
                        self.look_at_the_load();
                    }
                }
            }
        }
    }

    /// Waits for the next event, at most until `alarm`.
    async fn event(&mut self, signals: &mut Signals, alarm: Instant) -> WorkerEvent {
        let mut alarm = time::sleep_until(alarm);
        poll_fn(|context| {
            if let Poll::Ready(signal) = signals.poll_recv(context) {
                return Poll::Ready(WorkerEvent::Signal(signal));
            }
            for (index, worker) in self.workers.iter_mut().enumerate() {
                if let Poll::Ready(status) = worker.child.poll_wait(context) {
                    return Poll::Ready(WorkerEvent::Ended(index, status));
                }
            }
            for (index, worker) in self.leaving.iter_mut().enumerate() {
                if worker.child.poll_wait(context).is_ready() {
                    return Poll::Ready(WorkerEvent::Left(index));
                }
            }
            Pin::new(&mut alarm).poll(context).map(|()| WorkerEvent::Time)
        })
        .await
    }

    /// Replaces a worker that has ended on its own.
    fn replace(&mut self, index: usize, status: io::Result<ExitStatus>) {
        let worker = self.workers.swap_remove(index);
        let lifetime = time::now().saturating_duration_since(worker.started);
        let wait = self.back_off.ended(lifetime);
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::error!(
            pid = worker.child.id(),
            lifetime_seconds = lifetime.as_secs(),
            "Worker exited ({how}); starting another in {} ms.",
            wait.as_millis()
        );
        self.start_at.push(time::now() + wait);
    }

    fn look_at_the_load(&mut self) {
        let mut shares = Vec::with_capacity(self.workers.len());
        for worker in &mut self.workers {
            let used = processor_time(worker.child.id()).unwrap_or(worker.used);
            shares.push(used.saturating_sub(worker.used));
            worker.used = used;
        }
        let waiting = self.listening.listener.has_waiting().unwrap_or(false);
        match self.load.observe(&shares, waiting, self.start_at.len(), &self.allowed()) {
            Some(LoadChange::More) => {
                tracing::info!(
                    workers = self.workers.len(),
                    "All workers are busy; starting one more."
                );
                self.start_or_try_again();
            }
            Some(LoadChange::Fewer) => {
                tracing::info!(workers = self.workers.len(), "Workers are idle; stopping one.");
                if let Some(worker) = self.workers.pop() {
                    self.drain_worker(worker);
                }
            }
            None => {}
        }
    }

    /// Asks a worker to drain.
    fn drain_worker(&mut self, mut worker: Worker) {
        if let Err(error) = worker.child.signal(Signal::Terminate) {
            tracing::warn!(pid = worker.child.id(), "Cannot signal a worker to drain: {error}.");
        }
        self.leaving.push(worker);
    }

    /// Replaces all workers, and once more if the program has become newer meanwhile. Returns a shutdown
    /// signal that arrives during that.
    async fn upgrade(&mut self, signals: &mut Signals) -> Option<Signal> {
        loop {
            let mut once_more = false;
            let shutdown = self.replace_all(signals, &mut once_more).await;
            if shutdown.is_some() || !once_more {
                return shutdown;
            }
        }
    }

    /// Replaces the workers one by one, each only once its successor serves. Returns a shutdown signal
    /// that arrives meanwhile; another SIGHUP sets `hangup`.
    async fn replace_all(&mut self, signals: &mut Signals, hangup: &mut bool) -> Option<Signal> {
        let count = self.workers.len();
        tracing::info!(workers = count, "SIGHUP received; replacing workers one by one.");
        for _ in 0..count {
            let mut successor = match self.start() {
                Ok(successor) => successor,
                Err(error) => {
                    tracing::error!("Cannot start a worker: {error}; the old workers continue.");
                    return None;
                }
            };
            match serves(&mut successor, signals, hangup).await {
                StartOutcome::Serves => {}
                StartOutcome::Terminated(signal) => {
                    self.workers.push(successor);
                    return Some(signal);
                }
                StartOutcome::Failed(why) => {
                    // Dropping the new worker kills it.
                    tracing::error!("New worker {why}; the old workers continue.");
                    return None;
                }
            }
            if !self.workers.is_empty() {
                let old = self.workers.remove(0);
                self.drain_worker(old);
            }
            self.workers.push(successor);
        }
        tracing::info!(workers = self.workers.len(), "All workers replaced.");
        None
    }

    /// Has all workers tell load balancers that they will drain, and waits: until the time is over, another signal
    /// comes, or no worker is left.
    async fn withdraw(&mut self, wait: Duration, signals: &mut Signals) {
        tracing::info!("SIGTERM received; draining workers in {} s (drain_wait).", wait.as_secs());
        for worker in &mut self.workers {
            if let Err(error) = worker.child.signal(WITHDRAW) {
                tracing::warn!(pid = worker.child.id(), "Cannot signal a worker: {error}.");
            }
        }
        let until = time::now() + wait;
        while !self.workers.is_empty() {
            match self.event(signals, until).await {
                WorkerEvent::Signal(Signal::Hangup) => {}
                WorkerEvent::Signal(_) | WorkerEvent::Time => return,
                WorkerEvent::Ended(index, _) => drop(self.workers.swap_remove(index)),
                WorkerEvent::Left(index) => drop(self.leaving.swap_remove(index)),
            }
        }
    }

    /// Drains all workers and waits until they have exited.
    async fn end(mut self, patience: Duration) {
        // A unix socket then refuses new connections in all processes and keeps its backlog, which the
        // workers accept. With TCP they accept it before they close.
        let _ = self.listening.listener.stop_connects();
        for worker in std::mem::take(&mut self.workers) {
            self.drain_worker(worker);
        }
        let leaving = self.leaving;
        drop(self.listening);
        // A worker waits as long for its requests; give it one more second to exit on its own.
        let all_left = time::timeout(patience + Duration::from_secs(1), async {
            for mut worker in leaving {
                let _ = worker.child.wait().await;
            }
        });
        if all_left.await.is_err() {
            tracing::warn!("Workers killed after the drain timeout.");
        }
        tracing::info!("Exiting.");
    }
}

/// The outcome of starting a worker.
enum StartOutcome {
    Serves,
    Failed(String),
    Terminated(Signal),
}

/// Waits until a worker has taken its socket from descriptor 0, which it does once everything else is set
/// up. A SIGHUP meanwhile sets `hangup`.
async fn serves(worker: &mut Worker, signals: &mut Signals, hangup: &mut bool) -> StartOutcome {
    let deadline = worker.started + START_PATIENCE;
    let entry = format!("/proc/{}/fd/0", worker.child.id());
    let mut again = time::sleep(Duration::ZERO);
    poll_fn(|context| {
        while let Poll::Ready(signal) = signals.poll_recv(context) {
            match signal {
                Signal::Hangup => *hangup = true,
                signal => return Poll::Ready(StartOutcome::Terminated(signal)),
            }
        }
        if let Poll::Ready(status) = worker.child.poll_wait(context) {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Poll::Ready(StartOutcome::Failed(format!("exited before it served ({how})")));
        }
        while Pin::new(&mut again).poll(context).is_ready() {
            if fs::read_link(&entry).is_ok_and(|target| target.as_os_str() == "/dev/null") {
                return Poll::Ready(StartOutcome::Serves);
            }
            let now = time::now();
            if now >= deadline {
                let patience = START_PATIENCE.as_secs();
                return Poll::Ready(StartOutcome::Failed(format!(
                    "did not serve within {patience} s"
                )));
            }
            again = time::sleep_until(now + LOOK_AGAIN);
        }
        Poll::Pending
    })
    .await
}

/// The processor time a process has used, user and system, in hundredths of a second, as counted by
/// `/proc/PID/stat` (proc(5), fields 14 and 15; USER_HZ is 100 on every Linux in use).
fn processor_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_processor_time() {
        let me = std::process::id();
        let before = processor_time(me).unwrap();
        let started = Instant::now();
        // The kernel counts in ticks; a tenth of a second is ten of them.
        while processor_time(me).unwrap() < before + 10 {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "busy loop uses no processor time"
            );
        }
        assert_eq!(processor_time(u32::MAX), None);
    }
}
