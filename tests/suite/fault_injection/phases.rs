//! The phases of the program's life: the requests of each, and their outcome.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::fcgi_client::{FastCgi, Response, id};
use end_to_end::http_client::{Request, Upload};
use end_to_end::injection::{Fault, Injected, Injector};
use end_to_end::process_table;
use end_to_end::program::{copy_executable, find, touch};

use super::site::{BOUND, PASSWORD, Reply, SETTLED, Site};

/// All phases, in the order of the columns in docs/faults.md.
pub(super) const PHASES: &[Phase] = &[
    Phase { name: "start", drive: start, is_repeated: false, executes: true, in_children: true },
    Phase {
        name: "keep-alive connection",
        drive: on_a_keep_alive_connection,
        is_repeated: true,
        executes: false,
        in_children: true,
    },
    Phase {
        name: "new connections",
        drive: on_new_connections,
        is_repeated: true,
        executes: false,
        in_children: true,
    },
    Phase {
        name: "body on disk",
        drive: with_a_body_on_disk,
        is_repeated: true,
        executes: false,
        in_children: true,
    },
    Phase { name: "login", drive: login, is_repeated: true, executes: false, in_children: true },
    Phase {
        name: "login, store there",
        drive: login_again,
        is_repeated: true,
        executes: false,
        in_children: true,
    },
    Phase {
        name: "isolated",
        drive: isolated,
        is_repeated: true,
        executes: false,
        in_children: true,
    },
    Phase {
        name: "isolated, parent",
        drive: isolated,
        is_repeated: true,
        executes: false,
        in_children: false,
    },
    Phase { name: "CGI", drive: cgi, is_repeated: true, executes: true, in_children: true },
    Phase { name: "HTTP", drive: over_http, is_repeated: true, executes: false, in_children: true },
    Phase { name: "touch", drive: touched, is_repeated: false, executes: true, in_children: true },
    Phase {
        name: "new version",
        drive: replaced,
        is_repeated: false,
        executes: true,
        in_children: true,
    },
    Phase { name: "crash", drive: crash, is_repeated: false, executes: true, in_children: true },
    Phase { name: "SIGTERM", drive: end, is_repeated: false, executes: false, in_children: true },
];

/// A part of the program's life.
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) drive: fn(&mut Site, &mut Injection<'_>) -> Outcome,
    /// Whether the same process repeats it after each fault.
    pub(super) is_repeated: bool,
    /// Whether a program is executed in it.
    pub(super) executes: bool,
    /// Whether faults are injected into children, too: in each, its n-th call.
    pub(super) in_children: bool,
}

/// The fault of one run, and the strace that injects it.
pub(super) struct Injection<'a> {
    /// `None`: a run without a fault.
    pub(super) fault: Option<Fault>,
    pub(super) trace: &'a Path,
    pub(super) injector: Option<Injector>,
}

impl Injection<'_> {
    /// Starts counting the calls of the running program.
    fn attach(&mut self, site: &Site) {
        self.attach_to(site.pid());
    }

    fn attach_to(&mut self, pid: u32) {
        if let Some(fault) = self.fault {
            let injector = Injector::attach(pid, fault, self.trace);
            self.injector = Some(injector.expect("strace follows the program"));
        }
    }

    pub(super) fn end(&mut self) -> Injected {
        match self.injector.take() {
            Some(injector) => injector.detach().expect("strace ends"),
            None => Injected::read(self.trace).unwrap_or_default(),
        }
    }
}

/// The outcome of a phase.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) conversations: Vec<Conversation>,
    /// Whether the phase did what its responses do not show: the upgrade happened, the process exited.
    is_done: bool,
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) what: &'static str,
    pub(super) expected: u16,
    pub(super) reply: Reply,
    /// Whether the connection was idle before: it may be closed at any time, and the web server retries on another.
    pub(super) was_idle: bool,
}

impl Outcome {
    pub(super) fn record(&mut self, what: &'static str, expected: u16, reply: Reply) {
        self.conversations.push(Conversation { what, expected, reply, was_idle: false });
    }

    fn record_on_idle(&mut self, reply: Reply) {
        let what = "on a keep-alive connection";
        self.conversations.push(Conversation { what, expected: 200, reply, was_idle: true });
    }

    pub(super) fn is_normal(&self) -> bool {
        let mut conversations = self.conversations.iter();
        let is_fine = |one: &Conversation| {
            one.reply.status() == Some(one.expected)
                || one.was_idle && matches!(one.reply, Reply::Closed)
        };
        self.is_done && conversations.all(is_fine)
    }
}

/// The program starts and answers its first request.
pub(super) fn start(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.reset();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    site.start(injection.fault.map(|fault| (fault, injection.trace)));
    outcome.record("first request", 200, site.get("/"));
    outcome
}

fn on_a_keep_alive_connection(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let mut idle = site.connect().expect("it listens");
    idle.get(id(1), true, "/healthz").expect("a response arrives");
    injection.attach(site);
    start_get(&mut idle, 1, "/");
    outcome.record("on a keep-alive connection", 200, site.wait_for(&mut idle, 1));
    outcome
}

fn start_get(connection: &mut FastCgi, number: u16, target: &str) {
    connection.begin(id(number), true, "GET", target, None);
    connection.stdin_end(id(number));
}

fn on_new_connections(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    injection.attach(site);
    outcome.record("page", 200, site.get("/"));
    outcome.record("file", 200, site.get("/static/site.css"));
    outcome.record("POST", 200, site.post("/tools/checksum", "text=abc&expected=", ""));
    outcome
}

/// A body is spilled to disk: its request is queued behind another on the same connection.
fn with_a_body_on_disk(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    const PIECES: usize = 24;
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    injection.attach(site);
    let mut connection = site.connect().expect("it listens");
    start_get(&mut connection, 1, "/tools/diagnostics/sleep?seconds=0.2&runs=isolated");
    let target = "/tools/diagnostics/sleep?seconds=0&runs=isolated";
    connection.begin(id(2), true, "GET", target, Some((PIECES << 15) as u64));
    for _ in 0..PIECES {
        connection.stdin(id(2), Bytes::from(vec![b'x'; 1 << 15]));
    }
    connection.stdin_end(id(2));
    outcome.record("beside the body", 200, site.wait_for(&mut connection, 1));
    outcome.record("with the body", 200, site.wait_for(&mut connection, 2));
    outcome
}

/// A login by a process that opens an existing store.
fn login_again(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    if let Some(fault) = injection.fault.take() {
        // Remove the login attempts of earlier runs, since their number is limited.
        forget_store(site);
        let outcome = log_in(site, injection);
        assert!(outcome.is_normal(), "{}", site.log());
        site.program = None;
        injection.fault = Some(fault);
    }
    log_in(site, injection)
}

/// A login that creates the store.
pub(super) fn login(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    if injection.fault.is_some() {
        forget_store(site);
    }
    log_in(site, injection)
}

fn forget_store(site: &mut Site) {
    site.program = None;
    for below in ["toolshed.db", "toolshed.db-journal", "secret.key"] {
        let _ = fs::remove_file(site.path("data").join(below));
    }
}

/// Logs in and opens the account page.
fn log_in(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    injection.attach(site);
    let form = site.get("/login");
    let text = form.text();
    let cookies = cookies(&text);
    let token =
        text.split_once("name=\"csrf\" value=\"").and_then(|(_, rest)| rest.split('"').next());
    let body = format!(
        "csrf={}&next=&signed=&username=owner&password={}",
        token.unwrap_or(""),
        PASSWORD.replace(' ', "+").replace(',', "%2C")
    );
    let has_form = form.status() == Some(200);
    outcome.record("form", 200, form);
    if has_form {
        let logged_in = site.post("/login", &body, &cookies);
        let cookies = self::cookies(&logged_in.text());
        outcome.record("login", 303, logged_in);
        if !cookies.is_empty() {
            outcome.record("session", 200, site.ask("GET", "/account", "", &cookies));
        }
    }
    outcome
}

/// The cookies that a response sets, formatted as a request's `Cookie`.
pub(super) fn cookies(response: &str) -> String {
    let lines = response.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let pairs =
        lines.filter(|line| !line.contains("Max-Age=0")).filter_map(|line| line.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}

pub(super) fn isolated(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    injection.attach(site);
    let response = site.get("/tools/diagnostics/sleep?seconds=0&runs=isolated");
    outcome.record("isolated", 200, response);
    // This request waits for its body.
    let target = "/tools/diagnostics/crash?how=panic&when=receiving&runs=isolated";
    outcome.record("isolated, with a body", 500, site.post(target, "a=b", ""));
    outcome
}

/// A web server runs the program for each of two requests, beside a process that keeps running.
fn cgi(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    for (what, method, target, body) in
        [("page", "GET", "/", ""), ("POST", "POST", "/tools/checksum", "text=abc&expected=")]
    {
        let trace = injection.trace.with_extension(method);
        let mut command = match injection.fault {
            Some(fault) => {
                let mut command = Command::new("/usr/bin/strace");
                command.arg("-D").args(fault.arguments(&trace)).arg(site.path("toolshed"));
                command
            }
            None => Command::new(site.path("toolshed")),
        };
        fs::write(site.path("body"), body).expect("a file");
        let output = command
            .current_dir(site.folder.path())
            .env_clear()
            .envs([("TOOLSHED_PUBLIC", "all"), ("GATEWAY_INTERFACE", "CGI/1.1")])
            .envs([("REQUEST_METHOD", method), ("REQUEST_URI", target), ("PATH_INFO", target)])
            .envs([("SCRIPT_NAME", ""), ("QUERY_STRING", ""), ("SERVER_PROTOCOL", "HTTP/1.1")])
            .envs([("SERVER_NAME", "tools.test"), ("SERVER_PORT", "80")])
            .env("CONTENT_TYPE", "application/x-www-form-urlencoded")
            .env("CONTENT_LENGTH", body.len().to_string())
            .stdin(File::open(site.path("body")).expect("it was written"))
            .output()
            .expect("it starts");
        site.append_log(&output.stderr);
        // The trace is complete: strace has exited, or the pipes would still be open.
        let traced = fs::read(&trace).unwrap_or_default();
        let mut traces = File::options().create(true).append(true).open(injection.trace);
        traces.as_mut().expect("a file").write_all(&traced).expect("it is written");
        let _ = fs::remove_file(&trace);
        let reply = match output.stdout.is_empty() {
            // A web server would send its own error page.
            true => {
                site.died = Some(output.status);
                Reply::Closed
            }
            false => Reply::Response(Response { stdout: output.stdout, ..Response::default() }),
        };
        outcome.record(what, 200, reply);
    }
    outcome
}

/// Requests over HTTP, to their own process.
pub(super) fn over_http(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let (pid, address) = site.over_http();
    injection.attach_to(pid);
    let form = "application/x-www-form-urlencoded";
    let text = Upload::Text(b"text=abc&expected=".to_vec());
    for (what, request) in [
        ("page", Request::get("/")),
        ("file", Request::get("/static/site.css")),
        ("POST", Request::post("/tools/checksum", text).header("Content-Type", form)),
    ] {
        let reply = request.send(address).map(|response| Response {
            stdout: format!("Status: {}\r\n\r\n{}", response.status, response.text()).into(),
            ..Response::default()
        });
        outcome.record(what, 200, reply.into());
    }
    if let Some(status) = site.http.as_mut().and_then(|http| http.0.ended().expect("it tells")) {
        site.died = Some(status);
    }
    outcome
}

/// The launcher is touched; a keep-alive connection is handed over.
fn touched(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.program = None;
    site.running();
    upgrade(site, injection, |_| {})
}

/// A new version arrives, is checked by a child, and replaces the old one.
fn replaced(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.program = None;
    site.running();
    upgrade(site, injection, |site| {
        let new = site.path("toolshed.new");
        copy_executable(&find("toolshed"), &new).expect("it is copied");
    })
}

pub(super) fn upgrade(site: &mut Site, injection: &mut Injection<'_>, more: fn(&Site)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut idle = site.connect().expect("it listens");
    idle.get(id(1), true, "/healthz").expect("a response arrives");
    let before = site.upgrades();
    injection.attach(site);
    more(site);
    touch(&site.path("dispatch.fcgi")).expect("the launcher is there");
    outcome.record("after the touch", 200, site.get("/healthz"));
    let deadline = Instant::now() + SETTLED;
    let is_upgraded = |site: &Site| site.upgrades() > before;
    while !is_upgraded(site) && site.died.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
        site.restart_if_ended();
    }
    outcome.is_done = is_upgraded(site);
    start_get(&mut idle, 1, "/healthz");
    outcome.record_on_idle(site.wait_for(&mut idle, 1));
    outcome
}

/// A tool crashes while another request is in flight and a keep-alive connection is idle.
pub(super) fn crash(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.program = None;
    let _ = fs::remove_file(site.path("data/crashes"));
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let mut idle = site.connect().expect("it listens");
    idle.get(id(1), true, "/healthz").expect("a response arrives");
    let mut other = site.connect().expect("it listens");
    start_get(&mut other, 1, "/tools/diagnostics/sleep?seconds=2");
    other.flush().expect("it is read");
    assert_eq!(site.get("/healthz").status(), Some(200), "the other has started");
    injection.attach(site);
    let culprit = site.post("/tools/diagnostics/crash?how=segv&runs=inline", "a=b", "");
    // Without the crash, the other request gets its normal response.
    let expected = if culprit.status() == Some(500) { 503 } else { 200 };
    outcome.record("the culprit", 500, culprit);
    outcome.record("another in flight", expected, site.wait_for(&mut other, 1));
    outcome.record("after it", 200, site.get("/healthz"));
    start_get(&mut idle, 1, "/healthz");
    outcome.record_on_idle(site.wait_for(&mut idle, 1));
    outcome
}

/// SIGTERM arrives in the middle of a request body.
pub(super) fn end(site: &mut Site, injection: &mut Injection<'_>) -> Outcome {
    site.program = None;
    site.running();
    let mut outcome = Outcome::default();
    let mut uploading = site.connect().expect("it listens");
    let more = [("CONTENT_TYPE", "application/octet-stream")];
    uploading.begin_with(id(1), false, "POST", "/tools/checksum", Some(6), &more);
    uploading.stdin(id(1), Bytes::from_static(b"abc"));
    uploading.flush().expect("it is read");
    assert_eq!(site.get("/healthz").status(), Some(200), "the upload has started");
    injection.attach(site);
    process_table::signal(site.pid(), libc::SIGTERM).expect("it runs");
    uploading.stdin(id(1), Bytes::from_static(b"def"));
    uploading.stdin_end(id(1));
    let uploaded = uploading.flush().and_then(|()| uploading.finish(id(1)));
    outcome.record("in flight", 200, uploaded.into());
    let ended = site.program.as_mut().expect("it was started").wait(BOUND);
    outcome.is_done = ended.is_ok_and(|status| status.success());
    site.program = None;
    site.start(None);
    outcome
}
