//! The program under test: its installation, its requests and its log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::fcgi_client::{FastCgi, Response, id};
use end_to_end::fixtures::start_on_free_port;
use end_to_end::injection::{self, Fault};
use end_to_end::program::{Program, Start, copy_executable, duplicate, find, listening_socket};

/// The longest that any conversation may take.
pub(super) const BOUND: Duration = Duration::from_secs(10);

/// The longest that work after the response may take: reaping a child, an upgrade.
pub(super) const SETTLED: Duration = Duration::from_secs(3);

/// An installation in its own folder, and the socket that its web server would have.
pub(super) struct Site {
    pub(super) folder: tempfile::TempDir,
    listener: OwnedFd,
    pub(super) program: Option<Program>,
    /// The lengths of [`Site::LOGS`] when this run started.
    pub(super) log_lengths: [usize; 2],
    /// The status with which this run's process exited early; another was then started.
    pub(super) died: Option<ExitStatus>,
    /// The same program as an HTTP server, and where it listens.
    pub(super) http: Option<(Program, SocketAddr)>,
}

pub(super) const PASSWORD: &str = "a long password, for a sweep";

impl Site {
    pub(super) fn new() -> Site {
        let folder =
            tempfile::Builder::new().prefix("toolshed-faults-").tempdir().expect("a folder");
        copy_executable(&find("toolshed"), &folder.path().join("toolshed")).expect("a copy");
        fs::write(folder.path().join("dispatch.fcgi"), "touch me\n").expect("a file");
        let listener = listening_socket(&folder.path().join("sock")).expect("a socket");
        Site { folder, listener, program: None, log_lengths: [0; 2], died: None, http: None }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn with_settings(&self, start: Start) -> Start {
        start
            .without_environment()
            .folder(self.folder.path())
            .variable("TOOLSHED_PUBLIC", "all,diagnostics")
            // A second isolated request is queued.
            .variable("TOOLSHED_MAX_ISOLATED", "1")
            .variable("TOOLSHED_LAUNCHER", self.path("dispatch.fcgi"))
            .variable("APP_PASSWORD", PASSWORD)
    }

    /// Starts the program; a fault counts from its first call.
    pub(super) fn start(&mut self, fault: Option<(Fault, &Path)>) {
        let program = self.path("toolshed");
        let log = self.path("stderr");
        let start = match fault {
            Some((fault, trace)) => injection::start(&program, fault, trace, log),
            None => Start::new(program, log),
        };
        let stdin = duplicate(self.listener.as_fd()).expect("a descriptor");
        self.program = Some(self.with_settings(start).stdin(stdin).start().expect("it starts"));
    }

    /// The running program; starts it if necessary.
    pub(super) fn running(&mut self) -> &mut Program {
        if self.exit_status().is_some() {
            self.program = None;
        }
        if self.program.is_none() {
            self.start(None);
            let response = self.get("/healthz");
            assert_eq!(response.status(), Some(200), "{response:?}\n{}", self.log());
            self.wait_until_checked();
        }
        self.program.as_mut().expect("it was started")
    }

    /// Waits until the running version is saved as the last good one: a child checks it one second after the first
    /// start.
    fn wait_until_checked(&self) {
        let deadline = Instant::now() + BOUND;
        while !self.path("toolshed.good").exists() {
            assert!(
                Instant::now() < deadline,
                "the running version was not checked: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.program.as_mut()?.ended().expect("the system can tell")
    }

    pub(super) fn pid(&self) -> u32 {
        self.program.as_ref().expect("it runs").pid()
    }

    /// The process id and address of the HTTP server; starts it if necessary.
    pub(super) fn over_http(&mut self) -> (u32, SocketAddr) {
        if self.http.as_mut().is_some_and(|http| http.0.ended().is_ok_and(|ended| ended.is_some()))
        {
            self.http = None;
        }
        if self.http.is_none() {
            let started = start_on_free_port(|address| {
                let start = Start::new(self.path("toolshed"), self.path("stderr"));
                let start = start.argument("serve").argument("--listen");
                self.with_settings(start.argument(address.to_string())).start()
            });
            let (address, program) = started.expect("it starts");
            self.http = Some((program, address));
        }
        let (program, address) = self.http.as_ref().expect("it was started");
        (program.pid(), *address)
    }

    /// Appends to the log the output of a process that served one request.
    pub(super) fn append_log(&self, text: &[u8]) {
        let file = File::options().create(true).append(true).open(self.path("stderr"));
        file.and_then(|mut file| file.write_all(text)).expect("it is written");
    }

    /// Ends the program and removes everything it has written.
    pub(super) fn reset(&mut self) {
        self.program = None;
        self.http = None;
        for below in ["data", "logs"] {
            let _ = fs::remove_dir_all(self.path(below));
        }
        for below in ["stderr", "toolshed.good", "toolshed.previous", "toolshed.new"] {
            let _ = fs::remove_file(self.path(below));
        }
        self.log_lengths = [0; 2];
    }

    /// The files with the program's messages.
    const LOGS: [&str; 2] = ["stderr", "logs/toolshed.log"];

    pub(super) fn all_logs(&self) -> [String; 2] {
        let read = |below| fs::read(self.path(below)).unwrap_or_default();
        Self::LOGS.map(|below| String::from_utf8_lossy(&read(below)).into_owned())
    }

    /// The messages since this run started.
    pub(super) fn log(&self) -> String {
        let texts = self.all_logs();
        let new =
            texts.iter().zip(self.log_lengths).filter_map(|(text, before)| text.get(before..));
        new.collect()
    }

    pub(super) fn upgrades(&self) -> usize {
        self.all_logs().concat().matches("Upgraded; serving").count()
    }

    pub(super) fn connect(&self) -> io::Result<FastCgi> {
        let connection = FastCgi::connect(&self.path("sock"))?;
        connection.stream().set_read_timeout(Some(BOUND))?;
        Ok(connection)
    }

    pub(super) fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, "", "")
    }

    pub(super) fn post(&mut self, target: &str, body: &str, cookies: &str) -> Reply {
        self.ask("POST", target, body, cookies)
    }

    pub(super) fn ask(&mut self, method: &str, target: &str, body: &str, cookies: &str) -> Reply {
        let kind = ("CONTENT_TYPE", "application/x-www-form-urlencoded");
        let more = [kind, ("HTTP_COOKIE", cookies), ("HTTP_ACCEPT", "text/html")];
        let length = (!body.is_empty()).then_some(body.len() as u64);
        let mut connection = self.connect().expect("the socket exists as long as the test");
        connection.begin_with(id(1), false, method, target, length, &more);
        connection.stdin(id(1), Bytes::copy_from_slice(body.as_bytes()));
        connection.stdin_end(id(1));
        self.wait_for(&mut connection, 1)
    }

    /// Sends what is queued and waits for the response. Like a web server, starts another process if this one exits.
    pub(super) fn wait_for(&mut self, connection: &mut FastCgi, number: u16) -> Reply {
        if let Err(error) = connection.flush() {
            return Reply::from(Err(error));
        }
        let deadline = Instant::now() + BOUND;
        connection.stream().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        loop {
            match Reply::from(connection.finish(id(number))) {
                Reply::Silence if Instant::now() < deadline => self.restart_if_ended(),
                reply => return reply,
            }
        }
    }

    pub(super) fn restart_if_ended(&mut self) {
        if let Some(status) = self.exit_status() {
            self.died = Some(status);
            self.program = None;
            self.start(None);
        }
    }
}

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Reply {
    /// A complete response.
    Response(Response),
    /// The connection was closed or reset.
    Closed,
    /// No response within [`BOUND`].
    Silence,
    /// Another error.
    #[allow(dead_code, reason = "printed by Debug")]
    Failure(io::Error),
}

impl From<io::Result<Response>> for Reply {
    fn from(response: io::Result<Response>) -> Reply {
        use io::ErrorKind::{
            BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof, WouldBlock,
        };
        match response {
            Ok(response) => Reply::Response(response),
            Err(error) => match error.kind() {
                UnexpectedEof | ConnectionReset | BrokenPipe | NotConnected => Reply::Closed,
                TimedOut | WouldBlock => Reply::Silence,
                _ => Reply::Failure(error),
            },
        }
    }
}

impl Reply {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Reply::Response(response) => Some(response.status()),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Reply::Response(response) => String::from_utf8_lossy(&response.stdout).into_owned(),
            _ => String::new(),
        }
    }
}
