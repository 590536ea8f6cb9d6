//! A long mixed load with panics, crashes and touches: every request is answered, and nothing leaks. 20,000 requests;
//! 200,000 with `tests/run --long`.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use end_to_end::fcgi_client::{FastCgi, Response, id};
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Setup};
use end_to_end::http_client::pattern;
use end_to_end::process_table;

const CLIENTS: u64 = 8;

/// A tool that crashes three times in 30 s is quarantined, so only two crashes are requested in this time. It is longer
/// because a busy machine crashes later than it is asked to.
const CRASH_WINDOW: Duration = Duration::from_secs(45);
const CRASHES_PER_WINDOW: usize = 2;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Health,
    Front,
    Upload,
    File,
    Nowhere,
    Large,
    Slow,
    Panic,
    IsolatedFault,
    /// Makes the process restart in place, which cuts off other requests.
    Crash,
}

impl Kind {
    /// The usual mix, without crashes, which depend on time.
    fn of(number: u64) -> Self {
        match number % 100 {
            0..50 => Kind::Health,
            50..65 => Kind::Front,
            65..77 => Kind::Upload,
            77..87 => Kind::File,
            87..92 => Kind::Nowhere,
            92..95 => Kind::Large,
            95..98 => Kind::Slow,
            98 => Kind::Panic,
            _ => Kind::IsolatedFault,
        }
    }

    fn target(self) -> &'static str {
        match self {
            Kind::Health => "/healthz",
            Kind::Front => "/",
            Kind::Upload => "/tools/checksum?alg=sha256",
            Kind::File => "/static/site.css",
            Kind::Nowhere => "/nowhere",
            Kind::Large => "/tools/diagnostics/stream?mib=1",
            Kind::Slow => "/tools/diagnostics/sleep?seconds=0.02",
            Kind::Panic => "/tools/diagnostics/crash?how=panic&runs=inline",
            Kind::IsolatedFault => "/tools/diagnostics/crash?how=segv&runs=isolated",
            Kind::Crash => "/tools/diagnostics/crash?how=abort&runs=inline",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Kind::Upload | Kind::Panic | Kind::IsolatedFault | Kind::Crash => "POST",
            _ => "GET",
        }
    }

    fn body(self) -> Bytes {
        match self {
            Kind::Upload => Bytes::from_static(&pattern()[..16 * 1024]),
            _ => Bytes::new(),
        }
    }

    fn status(self) -> u16 {
        match self {
            Kind::Nowhere => 404,
            Kind::Panic | Kind::IsolatedFault | Kind::Crash => 500,
            _ => 200,
        }
    }
}

/// The load as a whole.
struct Load<'a> {
    program: &'a Path,
    socket: &'a Path,
    total: u64,
    /// With panics, crashes and touches.
    rough: bool,
    started: AtomicU64,
    answered: AtomicU64,
    /// Responses that a crash affected: 503, or truncated.
    disturbed: AtomicU64,
    /// Requests that were sent again, because their keep-alive connection had been closed.
    repeated: AtomicU64,
    touches: AtomicU64,
    crashes: Mutex<Vec<Instant>>,
}

impl Load<'_> {
    /// Runs one client until all requests have been sent.
    fn client(&self) {
        let mut idle = None;
        loop {
            let number = self.started.fetch_add(1, Ordering::Relaxed);
            if number >= self.total {
                return;
            }
            if self.rough && number % 500 == 250 {
                self.touch();
            }
            let mut kind = Kind::of(number);
            if !self.rough && matches!(kind, Kind::Panic | Kind::IsolatedFault) {
                kind = Kind::Health;
            }
            if self.rough && number % 1000 == 700 && self.may_crash() {
                kind = Kind::Crash;
            }
            // A third of the requests have their own connections, as behind mod_fcgid.
            let keep = !number.is_multiple_of(3);
            self.ask(kind, keep, &mut idle);
        }
    }

    fn ask(&self, kind: Kind, keep: bool, idle: &mut Option<FastCgi>) {
        let connection = if keep { idle.take() } else { None };
        let was_kept = connection.is_some();
        let asked = connection.map_or_else(|| FastCgi::connect(self.socket), Ok).and_then(|it| {
            let mut connection = it;
            request(&mut connection, kind, keep).map(|response| (connection, response))
        });
        match asked {
            Ok((connection, response)) => {
                let status = response.status();
                if status == kind.status() {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert_eq!(
                        status,
                        503,
                        "{kind:?}: {}",
                        String::from_utf8_lossy(response.body())
                    );
                    self.disturbed.fetch_add(1, Ordering::Relaxed);
                }
                if keep {
                    *idle = Some(connection);
                }
            }
            // Like a web server, retry: the connection may have been closed while it was idle.
            Err(_) if was_kept => {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                self.ask(kind, keep, idle);
            }
            Err(error) => {
                let crashes = self.crashes.lock().expect("no client has panicked").len();
                assert!(self.rough && crashes > 0, "{kind:?} was not answered: {error}");
                self.disturbed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Changes the time stamp of the program's file, to make every process upgrade.
    fn touch(&self) {
        let file = File::options().append(true).open(self.program);
        // A running program cannot be opened for writing.
        let file = file.or_else(|_| File::open(self.program)).expect("the program is there");
        file.set_modified(SystemTime::now()).expect("the file is ours");
        self.touches.fetch_add(1, Ordering::Relaxed);
    }

    fn may_crash(&self) -> bool {
        let mut crashes = self.crashes.lock().expect("no client has panicked");
        let now = Instant::now();
        let lately = crashes.iter().filter(|at| now - **at < CRASH_WINDOW).count();
        if lately < CRASHES_PER_WINDOW {
            crashes.push(now);
        }
        lately < CRASHES_PER_WINDOW
    }
}

fn request(connection: &mut FastCgi, kind: Kind, keep: bool) -> io::Result<Response> {
    let body = kind.body();
    let length = (kind.method() == "POST").then_some(body.len() as u64);
    connection.begin(id(1), keep, kind.method(), kind.target(), length);
    if !body.is_empty() {
        connection.stdin(id(1), body);
    }
    connection.stdin_end(id(1));
    connection.flush()?;
    let response = connection.finish(id(1))?;
    if response.stdout.is_empty() || response.end.is_none_or(|(status, _)| status != 0) {
        return Err(io::Error::other("the response was truncated"));
    }
    Ok(response)
}

/// The resources that a process uses.
#[derive(Debug)]
struct Resources {
    descriptors: usize,
    kib: u64,
    processes: usize,
}

impl Resources {
    fn of(program: &External, folder: &Path) -> Self {
        let pid = program.app.pid();
        Resources {
            descriptors: process_table::descriptors(pid).expect("it runs"),
            kib: process_table::kib(pid, "RssAnon").expect("it runs"),
            processes: process_table::running_from(folder).len(),
        }
    }
}

fn run(program: &mut External, total: u64, rough: bool) {
    let socket = program.socket();
    let folder = socket.ancestors().nth(2).expect("FOLDER/run/app.sock").to_owned();
    let load = Load {
        program: &folder.join("bin/toolshed"),
        socket: &socket,
        total,
        rough,
        started: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        disturbed: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
        touches: AtomicU64::new(0),
        crashes: Mutex::default(),
    };
    let before = Resources::of(program, &folder);
    let started = Instant::now();
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(|| load.client()))));
    let seconds = started.elapsed().as_secs_f64();
    // Draining children and isolated processes exit when they have finished.
    let is_single = || process_table::running_from(&folder.join("bin")).len() == 1;
    program.app.wait_until("the children exit", is_single).expect("no process is left");
    // On a busy machine, the last connections close a little later.
    let max = before.descriptors + 2;
    let pid = program.app.pid();
    let are_closed = || process_table::descriptors(pid).is_ok_and(|open| open <= max);
    program.app.wait_until("its connections are closed", are_closed).expect("none is left open");
    let after = Resources::of(program, &folder);
    let crashes = load.crashes.into_inner().expect("no client has panicked").len() as u64;
    let [answered, disturbed, repeated, touches] =
        [load.answered, load.disturbed, load.repeated, load.touches].map(AtomicU64::into_inner);
    println!(
        "{total} requests in {seconds:.1} s: {answered} answered, {disturbed} disturbed by {crashes} \
         crashes, {repeated} repeated, {touches} touches; before {before:?}, after {after:?}"
    );
    assert_eq!(answered + disturbed, total);
    assert!(disturbed <= crashes * CLIENTS, "a crash disturbs only requests in flight");
    assert_eq!(after.processes, before.processes, "processes are left behind");
    assert!(after.kib <= before.kib + 4096, "memory leaks");
    assert_eq!(program.check_unharmed(), Ok(()));
}

#[test]
fn no_request_is_lost_and_nothing_leaks() {
    let total = if end_to_end::is_long() { 200_000 } else { 20_000 };
    let setup = Setup::new(App::Toolshed, "").with_variable("TOOLSHED_PUBLIC", "all,diagnostics");
    let mut program = external::start(&setup).expect("the program starts");
    // Allocates what the first request of each kind needs.
    run(&mut program, 500, false);
    run(&mut program, total, true);
    run(&mut program, total / 4, false);
}
