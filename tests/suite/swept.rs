//! Fault injection: in each phase of the program's life the n-th call of each system call fails, n = 1, 2, 3 …
//! until the phase runs without a fault. strace's own trace proves that the last run injected nothing and every
//! one before it did. docs/faults.md has the table.
//!
//! Always run: one error per call, and some of the numbers. `tests/run --long`: all of them. With
//! `TOOLSHED_TESTS_CALL=openat`: the rows whose call contains that name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::fcgi_client::{Answer, FastCgi, id};
use end_to_end::fixtures::{free_port, project};
use end_to_end::http_client::{Request, Upload};
use end_to_end::injection::{self, Fault, Injected, Injector};
use end_to_end::program::{
    Program, Start, copy_executable, duplicate, find, listening_socket, touch,
};
use end_to_end::{is_long, process_table};

/// No conversation takes longer, whatever fails.
const BOUND: Duration = Duration::from_secs(10);

/// How long work behind the responses may take: reaping a child, an upgrade.
const SETTLED: Duration = Duration::from_secs(3);

/// Every phase makes at least this many of the calls: a request on a keep-alive connection reads, writes and
/// waits.
const LEAST_ROWS: u32 = 3;

/// A sweep that needs more would never end.
const MOST_CALLS: u32 = 600;

/// The errors that a call can really return, and the program encounter. Those of sockets and of files are not
/// told apart: what cannot happen in one place is survived there as well.
///
/// Not here: `EAGAIN` from a `read` or `write` that could make progress, because polling is edge-triggered and
/// the edge never comes; `close` and `munmap`, which strace skips but the real kernel performs even when it
/// returns an error; and calls that can only fail for wrong arguments. `brk` only where no program is executed:
/// the C library cannot start without it.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED", "EINTR", "EAGAIN"]),
    ("brk", &["ENOMEM"]),
    ("clone,clone3,fork,vfork", &["EAGAIN", "ENOMEM"]),
    ("copy_file_range,sendfile", &["EIO", "ENOSPC", "EINTR"]),
    ("dup2,dup3", &["EINTR"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait,epoll_pwait", &["EINTR"]),
    ("eventfd2", &["EMFILE", "ENOMEM"]),
    ("execve", &["ENOMEM", "EIO", "EMFILE", "EAGAIN"]),
    ("fchown", &["EIO", "EPERM"]),
    ("fcntl", &["EMFILE", "EINTR", "EAGAIN", "ENOLCK"]),
    ("flock", &["EINTR", "EAGAIN", "ENOLCK"]),
    ("fsync,fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("ftruncate", &["EIO", "EINTR"]),
    ("getdents64", &["EIO", "ENOMEM"]),
    ("getrandom", &["EINTR"]),
    ("linkat", &["EIO", "ENOSPC"]),
    ("mkdir", &["EIO", "ENOSPC"]),
    ("mmap", &["ENOMEM"]),
    ("mprotect", &["ENOMEM"]),
    ("newfstatat,fstat,stat,lstat,statx", &["EIO", "ENOMEM"]),
    ("openat", &["EMFILE", "ENOMEM", "ENOSPC", "EIO", "EINTR"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("pread64", &["EIO", "EINTR"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("read", &["EIO", "EINTR", "ENOMEM"]),
    ("readlink", &["EIO", "ENOMEM"]),
    ("rename", &["EIO", "ENOSPC"]),
    ("sigaltstack", &["ENOMEM"]),
    ("unlink", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("wait4,waitid", &["EINTR"]),
    ("write,writev", &["EIO", "ENOSPC", "EINTR"]),
];

/// Rows in which the fault persists: a full disk, no memory or a full table.
const LASTING: &[(&str, &[&str])] = &[
    ("brk,mmap", &["ENOMEM"]),
    ("openat", &["EMFILE", "ENFILE"]),
    ("pwrite64", &["ENOSPC"]),
    ("fsync,fdatasync", &["EIO"]),
];

/// The C library's text for an error; Rust's `io::Error` prints it, too.
fn words(errno: &str) -> &'static [&'static str] {
    match errno {
        "EAGAIN" => &["os error 11)", "temporarily unavailable"],
        "ECONNABORTED" => &["os error 103)"],
        "EINTR" => &["os error 4)", "Interrupted"],
        "EIO" => &["os error 5)", "disk I/O error"],
        "EMFILE" => &["os error 24)", "Too many open files"],
        "ENFILE" => &["os error 23)"],
        "ENOLCK" => &["os error 37)", "ENOLCK"],
        "ENOMEM" => &["os error 12)", "memory"],
        "ENOSPC" => &["os error 28)", "No space left", "is full"],
        "EPERM" => &["os error 1)"],
        other => panic!("{other} has no text here"),
    }
}

// ------------------------------------------------------------------------------------------------
// The program and what is asked of it.

/// An installation in its own folder, and the socket that its web server would have.
struct Site {
    folder: tempfile::TempDir,
    listener: OwnedFd,
    program: Option<Program>,
    /// How long [`Site::SAID`] were when this run started.
    said_before: [usize; 2],
    /// How this run's process exited early; another was then started.
    died: Option<ExitStatus>,
    /// The same program as an HTTP server, and where it listens.
    http: Option<(Program, SocketAddr)>,
}

const PASSWORD: &str = "a long password, for a sweep";

impl Site {
    fn new() -> Site {
        let folder =
            tempfile::Builder::new().prefix("toolshed-swept-").tempdir().expect("a folder");
        copy_executable(&find("toolshed"), &folder.path().join("toolshed")).expect("a copy");
        fs::write(folder.path().join("dispatch.fcgi"), "touch me\n").expect("a file");
        let listener = listening_socket(&folder.path().join("sock")).expect("a socket");
        Site { folder, listener, program: None, said_before: [0; 2], died: None, http: None }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn with_settings(&self, start: Start) -> Start {
        start
            .without_environment()
            .folder(self.folder.path())
            .variable("TOOLSHED_PUBLIC", "all,diagnostics")
            // So that a second one waits.
            .variable("TOOLSHED_MAX_ISOLATED", "1")
            .variable("TOOLSHED_LAUNCHER", self.path("dispatch.fcgi"))
            .variable("APP_PASSWORD", PASSWORD)
    }

    /// Starts the program, with a fault from its first call on if there is one.
    fn start(&mut self, fault: Option<(Fault, &Path)>) {
        let program = self.path("toolshed");
        let log = self.path("stderr");
        let start = match fault {
            Some((fault, trace)) => injection::start(&program, fault, trace, log),
            None => Start::new(program, log),
        };
        let stdin = duplicate(self.listener.as_fd()).expect("a descriptor");
        self.program = Some(self.with_settings(start).stdin(stdin).start().expect("it starts"));
    }

    /// The running program; started if there is none.
    fn running(&mut self) -> &mut Program {
        if self.has_ended().is_some() {
            self.program = None;
        }
        if self.program.is_none() {
            self.start(None);
            let answer = self.get("/healthz");
            assert_eq!(answer.status(), Some(200), "{answer:?}\n{}", self.said());
            self.until_checked();
        }
        self.program.as_mut().expect("it was started")
    }

    /// The running version is checked by a child a second after the first start, and kept as the last good one.
    fn until_checked(&self) {
        let deadline = Instant::now() + BOUND;
        while !self.path("toolshed.good").exists() {
            assert!(Instant::now() < deadline, "what runs was not checked: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.program.as_mut()?.ended().expect("the system can tell")
    }

    fn pid(&self) -> u32 {
        self.program.as_ref().expect("it runs").pid()
    }

    /// The program that serves HTTP, started if there is none: its process number and address.
    fn over_http(&mut self) -> (u32, SocketAddr) {
        if self.http.as_mut().is_some_and(|http| http.0.ended().is_ok_and(|ended| ended.is_some()))
        {
            self.http = None;
        }
        if self.http.is_none() {
            let address = free_port().expect("a port");
            let start = Start::new(self.path("toolshed"), self.path("stderr"));
            let start = start.argument("serve").argument("--listen").argument(address.to_string());
            let mut program = self.with_settings(start).start().expect("it starts");
            let listens = || TcpStream::connect(address).is_ok();
            program.wait_until("its port answered", listens).expect("it listens");
            self.http = Some((program, address));
        }
        let (program, address) = self.http.as_ref().expect("it was started");
        (program.pid(), *address)
    }

    /// Adds the output of a process that served one request.
    fn says(&self, text: &[u8]) {
        let file = File::options().create(true).append(true).open(self.path("stderr"));
        file.and_then(|mut file| file.write_all(text)).expect("it is written");
    }

    /// Ends the program and forgets everything it has written.
    fn begin_anew(&mut self) {
        self.program = None;
        self.http = None;
        for below in ["data", "logs"] {
            let _ = fs::remove_dir_all(self.path(below));
        }
        for below in ["stderr", "toolshed.good", "toolshed.previous", "toolshed.new"] {
            let _ = fs::remove_file(self.path(below));
        }
        self.said_before = [0; 2];
    }

    /// Where the program writes its messages.
    const SAID: [&str; 2] = ["stderr", "logs/toolshed.log"];

    fn all_said(&self) -> [String; 2] {
        let read = |below| fs::read(self.path(below)).unwrap_or_default();
        Self::SAID.map(|below| String::from_utf8_lossy(&read(below)).into_owned())
    }

    /// All messages since this run started.
    fn said(&self) -> String {
        let texts = self.all_said();
        let new =
            texts.iter().zip(self.said_before).filter_map(|(text, before)| text.get(before..));
        new.collect()
    }

    fn upgrades(&self) -> usize {
        self.all_said().concat().matches("Upgraded; serving").count()
    }

    fn connect(&self) -> io::Result<FastCgi> {
        let connection = FastCgi::connect(&self.path("sock"))?;
        connection.stream().set_read_timeout(Some(BOUND))?;
        Ok(connection)
    }

    fn get(&mut self, target: &str) -> Heard {
        self.ask("GET", target, "", "")
    }

    fn post(&mut self, target: &str, body: &str, cookies: &str) -> Heard {
        self.ask("POST", target, body, cookies)
    }

    fn ask(&mut self, method: &str, target: &str, body: &str, cookies: &str) -> Heard {
        let kind = ("CONTENT_TYPE", "application/x-www-form-urlencoded");
        let more = [kind, ("HTTP_COOKIE", cookies), ("HTTP_ACCEPT", "text/html")];
        let length = (!body.is_empty()).then_some(body.len() as u64);
        let mut connection = self.connect().expect("the socket is there whoever listens");
        connection.begin_with(id(1), false, method, target, length, &more);
        connection.stdin(id(1), Bytes::copy_from_slice(body.as_bytes()));
        connection.stdin_end(id(1));
        self.hear(&mut connection, 1)
    }

    /// Sends what is started and waits for the response, as a web server does: when the process exits, it
    /// starts another.
    fn hear(&mut self, connection: &mut FastCgi, number: u16) -> Heard {
        if let Err(error) = connection.flush() {
            return Heard::from(Err(error));
        }
        let deadline = Instant::now() + BOUND;
        connection.stream().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        loop {
            match Heard::from(connection.finish(id(number))) {
                Heard::Silence if Instant::now() < deadline => self.start_another_if_ended(),
                heard => return heard,
            }
        }
    }

    fn start_another_if_ended(&mut self) {
        if let Some(status) = self.has_ended() {
            self.died = Some(status);
            self.program = None;
            self.start(None);
        }
    }
}

/// How one conversation ended.
#[derive(Debug)]
enum Heard {
    /// With a complete response.
    Answer(Answer),
    /// With a connection that was closed or reset.
    Closed,
    /// Not within [`BOUND`].
    Silence,
    /// With something else.
    #[allow(dead_code, reason = "it is printed")]
    Trouble(io::Error),
}

impl From<io::Result<Answer>> for Heard {
    fn from(answer: io::Result<Answer>) -> Heard {
        use io::ErrorKind::{
            BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof, WouldBlock,
        };
        match answer {
            Ok(answer) => Heard::Answer(answer),
            Err(error) => match error.kind() {
                UnexpectedEof | ConnectionReset | BrokenPipe | NotConnected => Heard::Closed,
                TimedOut | WouldBlock => Heard::Silence,
                _ => Heard::Trouble(error),
            },
        }
    }
}

impl Heard {
    fn status(&self) -> Option<u16> {
        match self {
            Heard::Answer(answer) => Some(answer.status()),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Heard::Answer(answer) => String::from_utf8_lossy(&answer.stdout).into_owned(),
            _ => String::new(),
        }
    }
}

/// The outcome of a phase.
#[derive(Debug, Default)]
struct Outcome {
    conversations: Vec<Conversation>,
    /// The purpose of the phase, which no visitor sees, was achieved: the upgrade happened, the process exited.
    is_done: bool,
}

#[derive(Debug)]
struct Conversation {
    what: &'static str,
    expected: u16,
    heard: Heard,
    /// On a connection that was idle before: it may be closed at any time, and its web server tries again on
    /// another.
    was_idle: bool,
}

impl Outcome {
    fn heard(&mut self, what: &'static str, expected: u16, heard: Heard) {
        self.conversations.push(Conversation { what, expected, heard, was_idle: false });
    }

    fn heard_on_idle(&mut self, heard: Heard) {
        let what = "on a keep-alive connection";
        self.conversations.push(Conversation { what, expected: 200, heard, was_idle: true });
    }

    fn is_as_without_faults(&self) -> bool {
        let mut conversations = self.conversations.iter();
        let is_fine = |one: &Conversation| {
            one.heard.status() == Some(one.expected)
                || one.was_idle && matches!(one.heard, Heard::Closed)
        };
        self.is_done && conversations.all(is_fine)
    }
}

// ------------------------------------------------------------------------------------------------
// The phases.

/// A part of the program's life.
struct Phase {
    name: &'static str,
    drive: fn(&mut Site, &mut Sweeping<'_>) -> Outcome,
    /// It is repeated after each fault, by the same process.
    is_repeated: bool,
    /// A program is executed in it.
    executes: bool,
    /// Its children meet faults, too, each its own.
    in_children: bool,
}

/// The fault of one run, before and after it is injected.
struct Sweeping<'a> {
    /// `None`: to see how it goes without.
    fault: Option<Fault>,
    trace: &'a Path,
    injector: Option<Injector>,
}

impl Sweeping<'_> {
    /// From here on, calls of the running program count.
    fn begin(&mut self, site: &Site) {
        self.begin_with(site.pid());
    }

    fn begin_with(&mut self, pid: u32) {
        if let Some(fault) = self.fault {
            let injector = Injector::attach(pid, fault, self.trace);
            self.injector = Some(injector.expect("strace follows the program"));
        }
    }

    fn end(&mut self) -> Injected {
        match self.injector.take() {
            Some(injector) => injector.detach().expect("strace ends"),
            None => Injected::read(self.trace).unwrap_or_default(),
        }
    }
}

/// The program starts and answers its first request.
fn start(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.begin_anew();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    site.start(sweeping.fault.map(|fault| (fault, sweeping.trace)));
    outcome.heard("first request", 200, site.get("/"));
    outcome
}

fn on_a_kept_connection(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let mut kept = site.connect().expect("it listens");
    kept.get(id(1), true, "/healthz").expect("an answer comes");
    sweeping.begin(site);
    begin_get(&mut kept, 1, "/");
    outcome.heard("on a keep-alive connection", 200, site.hear(&mut kept, 1));
    outcome
}

fn begin_get(connection: &mut FastCgi, number: u16, target: &str) {
    connection.begin(id(number), true, "GET", target, None);
    connection.stdin_end(id(number));
}

fn on_new_connections(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    sweeping.begin(site);
    outcome.heard("page", 200, site.get("/"));
    outcome.heard("file", 200, site.get("/static/site.css"));
    outcome.heard("POST", 200, site.post("/tools/checksum", "text=abc&expected=", ""));
    outcome
}

/// A body that waits on disk: its request waits for another to end, and its connection carries that one, too.
fn with_a_body_on_disk(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    const PIECES: usize = 24;
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    sweeping.begin(site);
    let mut connection = site.connect().expect("it listens");
    begin_get(&mut connection, 1, "/tools/diagnostics/sleep?seconds=0.2&runs=isolated");
    let target = "/tools/diagnostics/sleep?seconds=0&runs=isolated";
    connection.begin(id(2), true, "GET", target, Some((PIECES << 15) as u64));
    for _ in 0..PIECES {
        connection.stdin(id(2), Bytes::from(vec![b'x'; 1 << 15]));
    }
    connection.stdin_end(id(2));
    outcome.heard("beside the body", 200, site.hear(&mut connection, 1));
    outcome.heard("with the body", 200, site.hear(&mut connection, 2));
    outcome
}

/// A process opens the store that another has created.
fn login_again(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    if let Some(fault) = sweeping.fault.take() {
        // Without the attempts of earlier runs, since their number is limited.
        forget_store(site);
        let outcome = log_in(site, sweeping);
        assert!(outcome.is_as_without_faults(), "{}", site.said());
        site.program = None;
        sweeping.fault = Some(fault);
    }
    log_in(site, sweeping)
}

/// The store's file is created.
fn login(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    if sweeping.fault.is_some() {
        forget_store(site);
    }
    log_in(site, sweeping)
}

fn forget_store(site: &mut Site) {
    site.program = None;
    for below in ["toolshed.db", "toolshed.db-journal", "secret.key"] {
        let _ = fs::remove_file(site.path("data").join(below));
    }
}

/// A session is started and viewed.
fn log_in(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    sweeping.begin(site);
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
    outcome.heard("form", 200, form);
    if has_form {
        let logged_in = site.post("/login", &body, &cookies);
        let cookies = self::cookies(&logged_in.text());
        // "See other", which is 303.
        outcome.heard("login", 303, logged_in);
        if !cookies.is_empty() {
            outcome.heard("session", 200, site.ask("GET", "/account", "", &cookies));
        }
    }
    outcome
}

/// The cookies that a response sets, as a browser sends them.
fn cookies(answer: &str) -> String {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let pairs =
        lines.filter(|line| !line.contains("Max-Age=0")).filter_map(|line| line.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}

fn isolated(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    sweeping.begin(site);
    let answer = site.get("/tools/diagnostics/sleep?seconds=0&runs=isolated");
    outcome.heard("isolated", 200, answer);
    // It waits for its body.
    let target = "/tools/diagnostics/crash?how=panic&when=receiving&runs=isolated";
    outcome.heard("isolated, with a body", 500, site.post(target, "a=b", ""));
    outcome
}

/// A web server runs the program for each of two requests, beside a process that keeps running.
fn cgi(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    for (what, method, target, body) in
        [("page", "GET", "/", ""), ("POST", "POST", "/tools/checksum", "text=abc&expected=")]
    {
        let trace = sweeping.trace.with_extension(method);
        let mut command = match sweeping.fault {
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
        site.says(&output.stderr);
        // strace has written everything: the pipes are closed with it.
        let traced = fs::read(&trace).unwrap_or_default();
        let mut traces = File::options().create(true).append(true).open(sweeping.trace);
        traces.as_mut().expect("a file").write_all(&traced).expect("it is written");
        let _ = fs::remove_file(&trace);
        let heard = match output.stdout.is_empty() {
            // The web server has its own page for it.
            true => {
                site.died = Some(output.status);
                Heard::Closed
            }
            false => Heard::Answer(Answer { stdout: output.stdout, ..Answer::default() }),
        };
        outcome.heard(what, 200, heard);
    }
    outcome
}

/// Requests over HTTP, to their own process.
fn over_http(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let (pid, address) = site.over_http();
    sweeping.begin_with(pid);
    let form = "application/x-www-form-urlencoded";
    let text = Upload::Text(b"text=abc&expected=".to_vec());
    for (what, request) in [
        ("page", Request::get("/")),
        ("file", Request::get("/static/site.css")),
        ("POST", Request::post("/tools/checksum", text).header("Content-Type", form)),
    ] {
        let heard = request.send(address).map(|answer| Answer {
            stdout: format!("Status: {}\r\n\r\n{}", answer.status, answer.text()).into(),
            ..Answer::default()
        });
        outcome.heard(what, 200, heard.into());
    }
    if let Some(status) = site.http.as_mut().and_then(|http| http.0.ended().expect("it tells")) {
        site.died = Some(status);
    }
    outcome
}

/// The launcher is touched; a keep-alive connection is handed over.
fn touched(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.program = None;
    site.running();
    upgrade(site, sweeping, |_| {})
}

/// A new program arrives, is checked by a child and takes its place.
fn replaced(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.program = None;
    site.running();
    upgrade(site, sweeping, |site| {
        let new = site.path("toolshed.new");
        copy_executable(&find("toolshed"), &new).expect("it is copied");
    })
}

fn upgrade(site: &mut Site, sweeping: &mut Sweeping<'_>, more: fn(&Site)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut kept = site.connect().expect("it listens");
    kept.get(id(1), true, "/healthz").expect("an answer comes");
    let before = site.upgrades();
    sweeping.begin(site);
    more(site);
    touch(&site.path("dispatch.fcgi")).expect("the launcher is there");
    outcome.heard("after the touch", 200, site.get("/healthz"));
    let deadline = Instant::now() + SETTLED;
    let is_upgraded = |site: &Site| site.upgrades() > before;
    while !is_upgraded(site) && site.died.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
        site.start_another_if_ended();
    }
    outcome.is_done = is_upgraded(site);
    begin_get(&mut kept, 1, "/healthz");
    outcome.heard_on_idle(site.hear(&mut kept, 1));
    outcome
}

/// A tool's code crashes while another request is in flight and a keep-alive connection idle.
fn crash(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.program = None;
    let _ = fs::remove_file(site.path("data/crashes"));
    site.running();
    let mut outcome = Outcome { is_done: true, ..Outcome::default() };
    let mut kept = site.connect().expect("it listens");
    kept.get(id(1), true, "/healthz").expect("an answer comes");
    let mut other = site.connect().expect("it listens");
    begin_get(&mut other, 1, "/tools/diagnostics/sleep?seconds=2");
    other.flush().expect("it is read");
    assert_eq!(site.get("/healthz").status(), Some(200), "the other has begun");
    sweeping.begin(site);
    let culprit = site.post("/tools/diagnostics/crash?how=segv&runs=inline", "a=b", "");
    // If there was no crash, the other is answered as usual.
    let due = if culprit.status() == Some(500) { 503 } else { 200 };
    outcome.heard("the culprit", 500, culprit);
    outcome.heard("another under way", due, site.hear(&mut other, 1));
    outcome.heard("after it", 200, site.get("/healthz"));
    begin_get(&mut kept, 1, "/healthz");
    outcome.heard_on_idle(site.hear(&mut kept, 1));
    outcome
}

/// SIGTERM with a body half sent.
fn end(site: &mut Site, sweeping: &mut Sweeping<'_>) -> Outcome {
    site.program = None;
    site.running();
    let mut outcome = Outcome::default();
    let mut uploading = site.connect().expect("it listens");
    let more = [("CONTENT_TYPE", "application/octet-stream")];
    uploading.begin_with(id(1), false, "POST", "/tools/checksum", Some(6), &more);
    uploading.stdin(id(1), Bytes::from_static(b"abc"));
    uploading.flush().expect("it is read");
    assert_eq!(site.get("/healthz").status(), Some(200), "the upload has begun");
    sweeping.begin(site);
    process_table::signal(site.pid(), libc::SIGTERM).expect("it runs");
    uploading.stdin(id(1), Bytes::from_static(b"def"));
    uploading.stdin_end(id(1));
    let uploaded = uploading.flush().and_then(|()| uploading.finish(id(1)));
    outcome.heard("under way", 200, uploaded.into());
    let ended = site.program.as_mut().expect("it was started").wait(BOUND);
    outcome.is_done = ended.is_ok_and(|status| status.success());
    site.program = None;
    site.start(None);
    outcome
}

// ------------------------------------------------------------------------------------------------
// What must hold after each.

/// One run that went wrong.
type Trouble = String;

/// Whether a fault hit the connection itself: then nobody can respond on it.
fn hit_a_connection(injected: &Injected) -> bool {
    let of_connections = ["read(", "write(", "writev(", "epoll_ctl(", "fcntl(", "brk(", "mmap("];
    injected.lines.iter().any(|line| {
        let is_socket = line.contains("<socket:") || line.contains("<UNIX");
        is_socket && of_connections.iter().any(|call| line.contains(call))
    })
}

/// Every conversation ends as expected, with a page that has a reference, or closed if its own socket failed;
/// none hangs.
fn check_conversations(site: &Site, outcome: &Outcome, injected: &Injected) -> Result<(), Trouble> {
    // A process that is gone takes its connections with it; so does a response that has started.
    let may_be_cut_off = hit_a_connection(injected)
        || site.died.is_some()
        || ["broke off", "Response truncated"].iter().any(|it| site.said().contains(it));
    for Conversation { what, expected, heard, was_idle } in &outcome.conversations {
        let is_fine = match heard {
            Heard::Answer(answer) => {
                let status = answer.status();
                let text = heard.text();
                // A page about a mistake in the request needs no reference.
                let has_reference = text.contains("eference") || status < 500;
                status == *expected || status >= 400 && has_reference
            }
            Heard::Closed => may_be_cut_off || *was_idle && !injected.is_nothing(),
            Heard::Silence | Heard::Trouble(_) => false,
        };
        if !is_fine {
            let text = heard.text();
            return Err(format!("{what}: {heard:.300?} where {expected} was due\n{text:.600}"));
        }
    }
    Ok(())
}

/// Everything that differs from a run without faults has its cause in the log.
fn check_log(
    site: &Site,
    fault: Fault,
    outcome: &Outcome,
    injected: &Injected,
) -> Result<(), Trouble> {
    let is_well = outcome.is_as_without_faults() && site.died.is_none();
    if is_well || is_of_the_log(injected) || hit_a_connection(injected) {
        return Ok(());
    }
    let said = site.said();
    // SQLite does not say why it could not open a file, nor std why an existing path is not a folder.
    let opened_store =
        injected.lines.iter().any(|line| line.contains("openat(") && line.contains("toolshed.db"));
    let is_told = opened_store && said.contains("SQLite: ")
        || injected.hit("statx(") && said.contains("File exists");
    if is_told || words(fault.errno).iter().any(|words| said.contains(words)) {
        return Ok(());
    }
    Err("the log does not name the error".to_owned())
}

/// Whether the log itself was what failed.
fn is_of_the_log(injected: &Injected) -> bool {
    injected.hit("toolshed.log") || injected.hit("/logs\"") || injected.hit("/stderr>")
}

/// A process that exited early says so by its exit code, and why; by a signal only if the runtime itself could
/// not start, or after a crash that could not be followed by another start.
fn check_end(site: &Site, phase: &Phase, fault: Fault) -> Result<(), Trouble> {
    // Plain CGI has no socket to lose.
    let listens = phase.name != "CGI";
    match site.died {
        Some(status) if listens && is_outlived(fault) => {
            Err(format!("the process ended with {status}"))
        }
        Some(status) if status.success() => Err("the process ended as if all were well".to_owned()),
        Some(status)
            if status.code().is_none()
                && !["fatal runtime error", "could not restart in place"]
                    .iter()
                    .any(|reason| site.said().contains(reason)) =>
        {
            Err(format!("the process ended with {status}"))
        }
        _ => Ok(()),
    }
}

/// Whether a fault is one of those that must not end a process, which may be the only one that listens: a brief
/// shortage, where another attempt is all that is needed.
fn is_outlived(fault: Fault) -> bool {
    let tried_again = ["epoll_create1", "eventfd2", "execve", "fcntl", "pipe2"];
    let is_short = ["EMFILE", "ENFILE", "ENOMEM"].contains(&fault.errno);
    !fault.lasting && tried_again.contains(&fault.call) && (is_short || fault.call == "execve")
}

/// The next request at the same socket is answered: by the same process or, if that could not start, by the
/// next one that the web server starts.
fn check_serves_on(site: &mut Site) -> Result<(), Trouble> {
    match site.get("/healthz") {
        heard if heard.status() == Some(200) => Ok(()),
        heard => Err(format!("the next request hears {heard:.300?}")),
    }
}

/// The same again without a fault goes as if there had been none.
fn check_once_more(site: &mut Site, phase: &Phase, trace: &Path) -> Result<(), Trouble> {
    if !phase.is_repeated {
        return Ok(());
    }
    let outcome = (phase.drive)(site, &mut Sweeping { fault: None, trace, injector: None });
    match outcome.is_as_without_faults() {
        true => Ok(()),
        false => {
            let heard = outcome.conversations.iter().map(|one| (one.what, one.heard.status()));
            Err(format!("afterwards, without a fault: {:?}", heard.collect::<Vec<_>>()))
        }
    }
}

fn check_one_task(site: &Site) -> Result<(), Trouble> {
    match process_table::tasks(site.pid()) {
        Ok(1) => Ok(()),
        tasks => Err(format!("{tasks:?} tasks, where 1 is promised")),
    }
}

/// No child and no descriptor is left behind.
fn check_nothing_left(site: &Site, before: Option<usize>) -> Result<(), Trouble> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let ours = [Some(site.pid()), site.http.as_ref().map(|http| http.0.pid())];
        let others = process_table::running_from(site.folder.path());
        let others: Vec<_> = others.into_iter().filter(|pid| !ours.contains(&Some(*pid))).collect();
        let open = held(site.pid())?;
        // What the start has opened lazily is no leak.
        let has_leaked = before.is_some_and(|before| open > before);
        if others.is_empty() && !has_leaked {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "left behind: processes {others:?}, {open} descriptors instead of {before:?}: {:?}",
                descriptors(site.pid())?
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// How many descriptors it has, without the source of randomness, which stays open once it was asked.
fn held(pid: u32) -> Result<usize, Trouble> {
    Ok(descriptors(pid)?.iter().filter(|path| *path != "/dev/urandom").count())
}

fn descriptors(pid: u32) -> Result<Vec<String>, Trouble> {
    let folder = format!("/proc/{pid}/fd");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{folder} cannot be read: {error}"))?;
    // One that was closed meanwhile is none.
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.map(|link| link.display().to_string()).collect())
}

#[test]
fn descriptors_that_cannot_be_counted_are_no_clean_run() {
    assert!(held(std::process::id()).is_ok_and(|open| open > 2));
    // No process has it.
    assert!(held(0).is_err());
}

fn check_store(site: &Site) -> Result<(), Trouble> {
    let file = site.path("data/toolshed.db");
    if !file.exists() {
        return Ok(());
    }
    let said = rusqlite::Connection::open(&file).and_then(|store| {
        store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    match said.as_deref() {
        Ok("ok") => Ok(()),
        said => Err(format!("the store is damaged: {said:?}")),
    }
}

// ------------------------------------------------------------------------------------------------
// The sweep.

/// The outcome of a row of the table.
#[derive(Debug, Default)]
struct Row {
    injections: u32,
    failures: Vec<String>,
}

/// Lets the n-th call fail, n = 1, 2, 3 … until a run is clean.
fn sweep(
    phase: &Phase,
    site: &mut Site,
    before: &mut Option<usize>,
    (call, errno, lasting): (&'static str, &'static str, bool),
) -> Row {
    let trace = &site.path("trace");
    let mut row = Row::default();
    for nth in numbers() {
        if before.is_none() {
            *before = Some(without_fault(phase, site, trace));
        }
        let fault = Fault { call, errno, nth, lasting, in_children: phase.in_children };
        site.died = None;
        site.said_before = site.all_said().map(|text| text.len());
        let _ = fs::remove_file(trace);
        let mut sweeping = Sweeping { fault: Some(fault), trace, injector: None };
        let outcome = (phase.drive)(site, &mut sweeping);
        let injected = sweeping.end();
        if injected.is_nothing() {
            if !outcome.is_as_without_faults() {
                row.failures.push(format!("{fault}, not met: {outcome:?}\n{}", site.said()));
            }
            return row;
        }
        if injected.lines.iter().any(|line| is_impossible(line)) {
            (site.program, site.http) = (None, None);
            continue;
        }
        row.injections += 1;
        let checked = check_conversations(site, &outcome, &injected)
            .and_then(|()| check_end(site, phase, fault))
            .and_then(|()| check_log(site, fault, &outcome, &injected))
            .and_then(|()| check_serves_on(site))
            .and_then(|()| check_once_more(site, phase, trace))
            .and_then(|()| check_one_task(site))
            .and_then(|()| check_nothing_left(site, *before))
            .and_then(|()| check_store(site));
        if let Err(trouble) = checked {
            let lines = injected.lines.join("\n    ");
            let said = indented(&site.said());
            row.failures.push(format!("{fault}: {trouble}\n    {lines}\n{said}"));
            // What it left behind does not count for the next one.
            site.begin_anew();
            *before = None;
        }
    }
    if is_long() {
        row.failures.push(format!("{errno} from {call}: no run is clean"));
    }
    row
}

/// How many descriptors are open after the phase when nothing fails.
fn without_fault(phase: &Phase, site: &mut Site, trace: &Path) -> usize {
    let outcome = (phase.drive)(site, &mut Sweeping { fault: None, trace, injector: None });
    assert!(outcome.is_as_without_faults(), "{}: {outcome:?}\n{}", phase.name, site.said());
    assert_eq!(site.get("/healthz").status(), Some(200), "{}", phase.name);
    check_nothing_left(site, None).expect("nothing is left without a fault");
    held(site.pid()).expect("it runs")
}

/// What the kernel never returns: reading and setting flags needs nothing that could run out, nor does changing
/// an entry in a poll set, and our own pipe accepts a byte while it is not full.
fn is_impossible(line: &str) -> bool {
    let certain = ["F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL", "EPOLL_CTL_MOD", "EPOLL_CTL_DEL"];
    certain.iter().any(|what| line.contains(what)) || line.contains("\"!\", 1)")
}

fn indented(text: &str) -> String {
    text.lines()
        .rev()
        .take(25)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .map(|line| format!("      {line:.300}\n"))
        .collect()
}

/// The calls of each row that fail when not all do.
const SOME: [u32; 3] = [1, 3, 8];

/// Which calls fail: all, or some of them.
fn numbers() -> impl Iterator<Item = u32> {
    let every = is_long();
    (1..=MOST_CALLS).filter(move |number| every || SOME.contains(number))
}

fn sweep_all(name: &str) {
    let phase = PHASES.iter().find(|phase| phase.name == name).expect("it is in the table");
    let only = std::env::var("TOOLSHED_TESTS_CALL").ok();
    let mut site = Site::new();
    let mut before = None;
    let mut failures = Vec::new();
    let mut rows_met = 0;
    let rows = ERRORS.iter().map(|row| (row, false)).chain(LASTING.iter().map(|row| (row, true)));
    for ((call, errors), lasting) in rows {
        if phase.executes && call.contains("brk") {
            continue;
        }
        if only.as_ref().is_some_and(|only| !call.contains(only.as_str())) {
            continue;
        }
        // Otherwise one of them, not the same in every phase.
        let chosen = (call.len() + name.len()) % errors.len();
        for errno in if is_long() { *errors } else { &errors[chosen..=chosen] } {
            let row = sweep(phase, &mut site, &mut before, (call, errno, lasting));
            let on = if lasting { ", and all later ones" } else { "" };
            if row.injections > 0 {
                println!("| {name} | {call}{on} | {errno} | {} |", row.injections);
            }
            rows_met += u32::from(row.injections > 0);
            for failure in &row.failures {
                println!("FAILED {name}: {failure}");
            }
            failures.extend(row.failures);
            if row.injections == 0 {
                // The call is not made here.
                break;
            }
        }
    }
    // An strace that injects nothing finds nothing.
    assert!(rows_met >= LEAST_ROWS || only.is_some(), "{name}: {rows_met} rows were met");
    assert!(failures.is_empty(), "{name}: {} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The phases, in the order of the page's columns.
const PHASES: &[Phase] = &[
    Phase { name: "start", drive: start, is_repeated: false, executes: true, in_children: true },
    Phase {
        name: "keep-alive connection",
        drive: on_a_kept_connection,
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

/// docs/faults.md lists exactly what is covered.
#[test]
fn the_page_has_every_row_and_every_phase() {
    let page = fs::read_to_string(project().join("docs/faults.md")).expect("the page is there");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect();
    let head = rows.iter().find(|row| row[0] == "call").expect("the table's head");
    let phases: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
    assert_eq!(head[2..], phases);
    let documented: Vec<_> = rows
        .iter()
        .filter(|row| row.len() == head.len() && row[0].starts_with('`'))
        .map(|row| (row[0].replace('`', ""), row[1].to_owned()))
        .collect();
    let calls = ERRORS
        .iter()
        .map(|row| (row, ""))
        .chain(LASTING.iter().map(|row| (row, " and all later ones")));
    let here: Vec<_> = calls
        .map(|((call, errors), on)| (format!("{}{on}", call.replace(',', ", ")), errors.join(", ")))
        .collect();
    assert_eq!(documented, here);
}

#[test]
fn faults_at_the_start() {
    sweep_all("start");
}

#[test]
fn faults_of_a_request_on_a_kept_connection() {
    sweep_all("keep-alive connection");
}

#[test]
fn faults_of_requests_on_new_connections() {
    sweep_all("new connections");
}

#[test]
fn faults_of_a_body_on_disk() {
    sweep_all("body on disk");
}

#[test]
fn faults_of_a_login() {
    sweep_all("login");
}

#[test]
fn faults_of_a_login_in_another_process() {
    sweep_all("login, store there");
}

#[test]
fn faults_of_an_isolated_request() {
    sweep_all("isolated");
}

/// If a call fails in both parent and child, it does not show how each handles it.
#[test]
fn faults_of_an_isolated_request_in_its_parent() {
    sweep_all("isolated, parent");
}

#[test]
fn faults_of_requests_over_cgi() {
    sweep_all("CGI");
}

#[test]
fn faults_of_requests_over_http() {
    sweep_all("HTTP");
}

#[test]
fn faults_of_a_touch() {
    sweep_all("touch");
}

#[test]
fn faults_of_a_new_version() {
    sweep_all("new version");
}

#[test]
fn faults_of_a_crash() {
    sweep_all("crash");
}

#[test]
fn faults_at_the_end() {
    sweep_all("SIGTERM");
}

/// For example without /proc: a touch then has no effect, and the log says why.
#[test]
fn a_process_that_cannot_find_its_own_path_says_what_it_will_not_notice() {
    let mut site = Site::new();
    let trace = site.path("trace");
    site.start(Some((
        Fault { call: "readlink", errno: "ENOENT", nth: 1, lasting: true, in_children: false },
        &trace,
    )));
    assert_eq!(site.get("/").status(), Some(200), "{}", site.said());
    let said = site.said();
    assert!(said.contains("New versions will not be noticed"), "{said}");
    assert!(said.contains("Is /proc mounted?"), "{said}");
}
