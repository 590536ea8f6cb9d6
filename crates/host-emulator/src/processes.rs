//! The FastCGI processes, as mod_fcgid keeps them: one request at a time each, another one while all are busy, an end for
//! those that are idle or silent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use event_loop::signals::Signal;
use event_loop::{Task, time};
use process::Child;

use crate::installation::Installation;
use crate::refusal::Refusal;
use crate::rules::{Directive, Rules};

/// How long a request waits for a process that becomes free before another one is started.
const WAIT_BEFORE_START: Duration = Duration::from_secs(1);

/// How long a request waits for a process at all.
const WAIT: Duration = Duration::from_secs(64);

/// How long a process has from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(4);

/// How often processes that ended, or are idle for long, are looked for.
const TICK: Duration = Duration::from_millis(500);

/// All processes of the program.
pub(crate) struct Processes {
    shared: Rc<Shared>,
    /// Ends with this value.
    _tending: Task<()>,
}

struct Shared {
    installation: Rc<Installation>,
    rules: Rules,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    processes: Vec<Process>,
    /// Requests that wait for a process.
    waiting: VecDeque<Waker>,
}

struct Process {
    child: Child,
    socket: PathBuf,
    /// Since when it has had no request; `None` while it has one.
    idle_since: Option<Instant>,
}

/// A process that is busy with one request. Dropping it makes the process idle: for mod_fcgid it is, even if the visitor
/// has left and the process works on.
pub(crate) struct Lease {
    shared: Weak<Shared>,
    pid: u32,
    socket: PathBuf,
}

impl Processes {
    /// No process yet: the first request starts one.
    pub(crate) fn new(installation: Rc<Installation>, rules: Rules) -> Self {
        let shared = Rc::new(Shared { installation, rules, state: RefCell::default() });
        let tended = Rc::downgrade(&shared);
        let tending = event_loop::spawn(async move {
            loop {
                time::sleep(TICK).await;
                let Some(shared) = tended.upgrade() else { return };
                shared.tend();
            }
        });
        Processes { shared, _tending: tending }
    }

    /// Waits for an idle process, or starts one.
    pub(crate) async fn lease(&self) -> Result<Lease, Refusal> {
        let shared = &self.shared;
        let max = shared.rules.get(Directive::FcgidMaxProcessesPerClass).unwrap_or(1);
        let begun = time::now();
        loop {
            if let Some(lease) = shared.lease_idle() {
                return Ok(lease);
            }
            let count = shared.state.borrow().processes.len() as u64;
            let waited = time::now().saturating_duration_since(begun);
            if count == 0 || (count < max && waited >= WAIT_BEFORE_START) {
                let started = shared.start(max);
                return started.map_err(|error| Refusal::NotStarted { why: error.to_string() });
            }
            if waited >= WAIT {
                return Err(Refusal::NoProcess { max, seconds: WAIT.as_secs() });
            }
            // Nothing is done when the time is over but to look again.
            let _ = time::timeout(WAIT_BEFORE_START, shared.wait()).await;
        }
    }

    /// Ends all processes: SIGTERM, and SIGKILL for those that are there 4 s later.
    pub(crate) async fn end(&self) {
        let processes = std::mem::take(&mut self.shared.state.borrow_mut().processes);
        let ending: Vec<_> =
            processes.into_iter().map(|process| event_loop::spawn(end(process.child))).collect();
        for task in ending {
            task.await;
        }
    }
}

impl Lease {
    /// The socket on which the process listens.
    pub(crate) fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Ends the process: SIGTERM, and SIGKILL 4 s later.
    pub(crate) fn end_process(self) {
        if let Some(shared) = self.shared.upgrade()
            && let Some(process) = shared.remove(self.pid)
        {
            event_loop::spawn(end(process.child)).detach();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = shared.state.borrow_mut();
        let process = state.processes.iter_mut().find(|process| process.child.id() == self.pid);
        if let Some(process) = process {
            process.idle_since = Some(time::now());
        }
        state.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Shared {
    fn lease_idle(self: &Rc<Self>) -> Option<Lease> {
        let mut state = self.state.borrow_mut();
        let idle = state.processes.iter_mut().find(|process| process.idle_since.is_some())?;
        idle.idle_since = None;
        Some(self.lease_of(idle))
    }

    fn lease_of(self: &Rc<Self>, process: &Process) -> Lease {
        let (pid, socket) = (process.child.id(), process.socket.clone());
        Lease { shared: Rc::downgrade(self), pid, socket }
    }

    fn start(self: &Rc<Self>, max: u64) -> io::Result<Lease> {
        let (child, socket) = self.installation.start_process()?;
        let process = Process { child, socket, idle_since: None };
        let lease = self.lease_of(&process);
        let mut state = self.state.borrow_mut();
        state.processes.push(process);
        let (pid, count) = (lease.pid, state.processes.len());
        if count == 1 {
            tracing::info!(started = pid, "Process 1 of at most {max} started.");
        } else {
            tracing::info!(
                started = pid,
                "Process {count} of at most {max} started, because all others are busy. It has a memory of its own."
            );
        }
        Ok(lease)
    }

    /// Waits until a process may be idle.
    async fn wait(&self) {
        let mut is_first = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            self.state.borrow_mut().waiting.push_back(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Removes processes that have ended, and ends those that were idle for long.
    fn tend(&self) {
        let now = time::now();
        let limit = self.rules.time(Directive::FcgidIdleTimeout);
        let mut state = self.state.borrow_mut();
        let mut at = 0;
        while let Some(process) = state.processes.get_mut(at) {
            let pid = process.child.id();
            let ended = match process.child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) if status.success() => Some(status.to_string()),
                Ok(Some(status)) => {
                    tracing::warn!(ended = pid, "Process ended ({status}). Its log says why.");
                    Some(status.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            let idle = process.idle_since.map(|since| now.saturating_duration_since(since));
            if let Some(how) = ended {
                tracing::debug!(ended = pid, "Process ended ({how}).");
                state.processes.swap_remove(at);
            } else if let (Some(limit), Some(idle)) = (limit, idle)
                && idle >= limit
            {
                tracing::info!(
                    ended = pid,
                    "Process ended after {} s without a request (FcgidIdleTimeout). What was in its memory is gone.",
                    limit.as_secs()
                );
                let process = state.processes.swap_remove(at);
                event_loop::spawn(end(process.child)).detach();
            } else {
                at += 1;
            }
        }
    }

    fn remove(&self, pid: u32) -> Option<Process> {
        let mut state = self.state.borrow_mut();
        let at = state.processes.iter().position(|process| process.child.id() == pid)?;
        Some(state.processes.swap_remove(at))
    }
}

/// Ends a process as Apache does.
async fn end(mut child: Child) {
    let pid = child.id();
    if let Err(error) = child.signal(Signal::Terminate) {
        tracing::warn!(pid, "Cannot signal a process: {error}.");
    }
    if time::timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(
            ended = pid,
            "Process killed: it was there {} s after SIGTERM, when Apache sends SIGKILL.",
            GRACE.as_secs()
        );
        // Dropping the handle kills it.
    }
}
