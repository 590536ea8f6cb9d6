//! One run: idle connections, warm-up, the measured part, the end.
//!
//! The drivers (`fastcgi.rs`, `http.rs`) call [`Run::may_begin`] before each request and
//! [`Run::record_response`] after it; both are cheap. The server is observed (`process.rs`) only at the start
//! and the end of the measured part.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use event_loop::{Task, time};

use crate::latencies::Latencies;
use crate::options::Options;
use crate::process::{self, Memory, Processor};
use crate::report::{Errors, Report};
use crate::response::Expected;
use crate::{fastcgi, http, parameters};

/// How often to check whether the run is over while no response arrives.
const LOOK: Duration = Duration::from_millis(20);

/// The pause after a failed connect, so that a missing server does not cause a busy loop.
const CONNECT_AGAIN: Duration = Duration::from_millis(10);

/// What all connections of a run share.
pub struct Run {
    /// The command line.
    pub options: Options,
    /// What a correct response looks like.
    pub expected: Expected,
    /// The parameters of every request.
    pub parameters: Vec<(String, String)>,
    /// One chunk of a body.
    pub piece: Bytes,
    /// The buffer that all connections read into.
    pub buffer: RefCell<BytesMut>,
    phase: Cell<Phase>,
    issued: Cell<u64>,
    responses: Cell<u64>,
    last_response: Cell<Instant>,
    measured: RefCell<Measured>,
    errors: RefCell<Errors>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Idle connections are being opened.
    Preparing,
    WarmingUp,
    Measuring,
    Over,
}

/// What is recorded in the measured part.
#[derive(Default)]
struct Measured {
    begin: Option<(Instant, Processor)>,
    end: Option<(Instant, Processor)>,
    good: u64,
    responses: u64,
    latencies: Latencies,
}

/// The progress of one connection's task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Requests sent.
    pub sent: u64,
    /// Responses received, correct or not.
    pub responses: u64,
    /// When the first request was sent, or the first connect failed.
    pub since: Option<Instant>,
    /// When the first response arrived.
    pub first_response: Option<Instant>,
}

/// Sends the load and returns what was measured.
///
/// # Errors
///
/// A sentence, if a process to measure does not exist or no connection could be made.
pub async fn run(options: Options) -> Result<Report, String> {
    if let Some(pid) = options.server_pids.iter().find(|pid| !process::exists(**pid)) {
        return Err(format!("there is no process {pid}"));
    }
    let run = Rc::new(Run::new(options));
    let before = process::memory(&run.options.server_pids);
    let idle = run.open_idle().await;
    let with_idle = process::memory(&run.options.server_pids);

    run.begin();
    let progress: Vec<Rc<Cell<Served>>> =
        (0..run.options.connections).map(|_| Rc::default()).collect();
    let mut tasks: Vec<Task<()>> = progress
        .iter()
        .map(|served| event_loop::spawn(work(run.clone(), served.clone())))
        .collect();
    while !run.is_over() {
        time::sleep(LOOK).await;
        run.look();
    }
    let never_served = progress.iter().filter(|served| run.is_starved(served.get())).count() as u64;
    // Requests in flight may still be answered.
    while run.is_patient() && !tasks.is_empty() {
        tasks.retain(|task| !task.is_finished());
        time::sleep(LOOK / 10).await;
    }
    drop(tasks);

    let after = process::memory(&run.options.server_pids);
    run.report(&idle, never_served, [before, with_idle, after])
}

impl Served {
    /// Records that a request is sent.
    pub fn begin(served: &Cell<Served>) {
        let before = served.get();
        let since = before.since.or_else(|| Some(Instant::now()));
        served.set(Served { sent: before.sent + 1, since, ..before });
    }

    /// Records a response.
    pub fn record_response(served: &Cell<Served>) {
        let before = served.get();
        let first_response = before.first_response.or_else(|| Some(Instant::now()));
        served.set(Served { responses: before.responses + 1, first_response, ..before });
    }
}

/// Keeps one connection busy, reopening it as needed, until the run is over.
async fn work(run: Rc<Run>, served: Rc<Cell<Served>>) {
    while run.may_go_on() {
        let worked = if run.options.http {
            http::connection(&run, &served).await
        } else {
            fastcgi::connection(&run, &served).await
        };
        if let Err(error) = worked {
            run.connection_failed(&error, &served);
            time::sleep(CONNECT_AGAIN).await;
        }
        if run.options.pause > 0 && run.may_go_on() {
            time::sleep(Duration::from_millis(run.options.pause)).await;
        }
    }
}

impl Run {
    fn new(options: Options) -> Run {
        let record = options.record.clamp(1, 65_535);
        Run {
            expected: Expected::of(&options),
            parameters: parameters::of(&options),
            piece: Bytes::from(vec![b'.'; record]),
            buffer: RefCell::new(BytesMut::new()),
            phase: Cell::new(Phase::Preparing),
            issued: Cell::new(0),
            responses: Cell::new(0),
            last_response: Cell::new(Instant::now()),
            measured: RefCell::default(),
            errors: RefCell::default(),
            options,
        }
    }

    /// Returns whether one more request may be sent, and counts it.
    pub fn may_begin(&self) -> bool {
        let may_begin = self.may_go_on();
        if may_begin {
            self.issued.set(self.issued.get() + 1);
        }
        may_begin
    }

    /// Whether a request is left to be sent.
    pub fn may_go_on(&self) -> bool {
        if !matches!(self.phase.get(), Phase::WarmingUp | Phase::Measuring) {
            return false;
        }
        let all = self.options.requests.map(|requests| requests + self.options.warm_up);
        all.is_none_or(|all| self.issued.get() < all)
    }

    /// Records a response: when its request was started, and what is wrong with it.
    pub fn record_response(&self, started: Instant, fault: Option<String>) {
        let now = Instant::now();
        self.last_response.set(now);
        self.responses.set(self.responses.get() + 1);
        let good = fault.is_none();
        if let Some(fault) = fault {
            let mut errors = self.errors.borrow_mut();
            errors.bad_responses += 1;
            errors.note(fault);
        }
        match self.phase.get() {
            Phase::Preparing | Phase::Over => {}
            Phase::WarmingUp => {
                if self.responses.get() >= self.options.warm_up {
                    self.begin_measuring();
                }
            }
            Phase::Measuring => {
                let mut measured = self.measured.borrow_mut();
                measured.latencies.add(now - started);
                measured.good += u64::from(good);
                measured.responses += 1;
                let enough = self.options.requests == Some(measured.responses);
                drop(measured);
                if enough || self.time_is_up(now) {
                    self.end();
                }
            }
        }
    }

    /// Records an idle connection's only response, which is not part of the load.
    pub fn prepared(&self, fault: Option<String>) {
        self.last_response.set(Instant::now());
        if let Some(fault) = fault {
            let mut errors = self.errors.borrow_mut();
            errors.bad_responses += 1;
            errors.note(fault);
        }
    }

    /// Records that a server violated the protocol.
    pub fn broken(&self, how: &str) {
        self.errors.borrow_mut().note(format!("the protocol was broken: {how}"));
    }

    fn connection_failed(&self, error: &std::io::Error, served: &Cell<Served>) {
        let mut errors = self.errors.borrow_mut();
        errors.failed_connections += 1;
        errors.note(format!("a connection failed: {error}"));
        drop(errors);
        // A connection that cannot even be opened counts as not served.
        let before = served.get();
        served.set(Served { since: before.since.or_else(|| Some(Instant::now())), ..before });
    }

    /// Opens the idle connections, each with one request, and waits until they are served.
    async fn open_idle(self: &Rc<Run>) -> Vec<(Task<()>, Rc<Cell<bool>>)> {
        let idle: Vec<_> = (0..self.options.idle)
            .map(|_| {
                let served = Rc::new(Cell::new(false));
                let task = fastcgi::idle(self.clone(), served.clone());
                (event_loop::spawn(task), served)
            })
            .collect();
        self.last_response.set(Instant::now());
        while idle.iter().any(|(_, served)| !served.get()) && self.is_patient() {
            time::sleep(LOOK).await;
        }
        idle
    }

    fn begin(&self) {
        self.last_response.set(Instant::now());
        self.phase.set(Phase::WarmingUp);
        if self.options.warm_up == 0 {
            self.begin_measuring();
        }
    }

    fn begin_measuring(&self) {
        self.phase.set(Phase::Measuring);
        let processor = process::processor(&self.options.server_pids);
        self.measured.borrow_mut().begin = Some((Instant::now(), processor));
    }

    fn end(&self) {
        self.phase.set(Phase::Over);
        let mut measured = self.measured.borrow_mut();
        if measured.begin.is_some() {
            let now = Instant::now();
            measured.end = Some((now, process::processor(&self.options.server_pids)));
        }
    }

    fn look(&self) {
        let now = Instant::now();
        if !self.is_over() && (self.time_is_up(now) || !self.is_patient()) {
            self.end();
        }
    }

    fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    fn is_patient(&self) -> bool {
        self.last_response.get().elapsed().as_secs_f64() < self.options.patience
    }

    /// Whether a connection was starved while others were served: no response before the end of the
    /// measured part, for more than half of its duration. (When the load ends, a server that handles
    /// one connection at a time turns to the next.)
    fn is_starved(&self, served: Served) -> bool {
        let measured = self.measured.borrow();
        let end = measured.end.map_or_else(Instant::now, |(end, _)| end);
        let long = measured.begin.map_or(Duration::ZERO, |(begin, _)| (end - begin) / 2);
        served.first_response.is_none_or(|first| first > end)
            && served.since.is_some_and(|since| end.saturating_duration_since(since) >= long)
    }

    fn time_is_up(&self, now: Instant) -> bool {
        let begin = self.measured.borrow().begin;
        begin.is_some_and(|(begin, _)| (now - begin).as_secs_f64() >= self.options.seconds())
    }

    fn report(
        &self,
        idle: &[(Task<()>, Rc<Cell<bool>>)],
        never_served: u64,
        [before, with_idle, after]: [Memory; 3],
    ) -> Result<Report, String> {
        let mut errors = self.errors.take();
        if self.responses.get() == 0 && errors.failed_connections > 0 {
            return Err(format!("no response came from {}: {}", self.options.to, errors.first));
        }
        errors.missing_responses = self.issued.get() - self.responses.get().min(self.issued.get());
        let idle_unserved = idle.iter().filter(|(_, served)| !served.get()).count() as u64;
        errors.connections_never_served = never_served + idle_unserved;
        errors.idle_connections_lost =
            idle.iter().filter(|(task, served)| served.get() && task.is_finished()).count() as u64;
        let measured = self.measured.take();
        let (seconds, processor) = match (measured.begin, measured.end) {
            (Some((begin, at_begin)), Some((end, at_end))) => (
                (end - begin).as_secs_f64(),
                Processor {
                    user_us: at_end.user_us - at_begin.user_us,
                    system_us: at_end.system_us - at_begin.system_us,
                    total_us: at_end.total_us - at_begin.total_us,
                },
            ),
            _ => (0.0, Processor::default()),
        };
        Ok(Report {
            responses: measured.responses,
            good_responses: measured.good,
            seconds,
            latencies: measured.latencies.percentiles(),
            processor,
            before,
            with_idle,
            after,
            errors,
        })
    }
}
