//! One start of the program for one case: what it responds, and what has become of the process.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::http_client::Request;
use end_to_end::program::{Program, Start, listening_socket, touch};
use free_port::FreePort;
use tempfile::TempDir;

use crate::Case;
use crate::servers::Servers;

/// How long a response may take. The longest patience of a case is 5 s, before its own error.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Seconds after which the event loop counts as stalled: no case computes for that long.
const WATCHDOG: &str = "5";

/// What the log then says.
const STALLED: &str = "Event loop stalled for 5 s (watchdog)";

/// How long the request takes that is in flight while the program reloads. Changes are looked for once a second.
const IN_FLIGHT: Duration = Duration::from_secs(4);

/// How a host runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) in_tokio: bool,
    pub(crate) has_threads: bool,
    /// As the web server starts it; otherwise over HTTP.
    pub(crate) is_fastcgi: bool,
}

impl Way {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Way> {
        let both = [true, false];
        both.into_iter().flat_map(move |in_tokio| {
            both.into_iter().flat_map(move |has_threads| {
                both.into_iter().map(move |is_fastcgi| Way { in_tokio, has_threads, is_fastcgi })
            })
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtime = if self.in_tokio { "in tokio" } else { "on the bare loop" };
        let threads = if self.has_threads { "threads allowed" } else { "threads refused" };
        let transport = if self.is_fastcgi { "FastCGI" } else { "HTTP" };
        write!(formatter, "{runtime}, {threads}, {transport}")
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The response has what is expected.
    Works {
        /// The names of the threads that were there then, but for the first.
        threads: Vec<String>,
    },
    /// It does not, or there is none.
    Fails {
        /// What the response or the log says, whichever says more.
        message: String,
        /// Whether the server reports it, in the log or at a terminal, and names no cure.
        lacks_cure: bool,
        /// What should not happen to any application.
        fault: Option<String>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Works { threads } if threads.is_empty() => formatter.write_str("works"),
            Outcome::Works { threads } => write!(formatter, "works, threads {threads:?}"),
            Outcome::Fails { message, lacks_cure, fault } => {
                let cure = if *lacks_cure { " without a cure" } else { "" };
                write!(formatter, "fails{cure}: {message}")?;
                fault.iter().try_for_each(|fault| write!(formatter, " FAULT: {fault}"))
            }
        }
    }
}

/// How a reload goes while a request is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The new version serves meanwhile.
    AtOnce,
    /// It waits for the request, because of a thread.
    Waits,
    /// The case does not work on the bare loop.
    NotTried,
}

/// Starts the program as often as it takes.
pub(crate) struct Attempts<'a> {
    program: &'a Path,
    variables: Vec<(&'static str, String)>,
    no_threads: PathBuf,
}

/// The program, started for one case, in an installation of its own.
struct Started {
    program: Program,
    address: At,
    folder: TempDir,
}

/// Where it is reached.
enum At {
    Socket(PathBuf),
    Port(FreePort),
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(program: &'a Path, servers: &Servers) -> io::Result<Attempts<'a>> {
        let this = std::env::current_exe()?;
        let no_threads = this.with_file_name("no-threads");
        Ok(Attempts { program, variables: servers.variables().into(), no_threads })
    }

    /// Shows that the filter refuses threads, and that there are some without it.
    pub(crate) fn check_filter(&self) -> Result<(), String> {
        let starts = self.no_threads.with_file_name("starts-a-thread");
        let status = |command: &mut Command| {
            let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
            Ok::<_, String>(output.status.success())
        };
        let is_refused = !status(Command::new(&self.no_threads).arg(&starts))?;
        let is_started = status(&mut Command::new(&starts))?;
        if is_refused && is_started { Ok(()) } else { Err("the filter does not work".to_owned()) }
    }

    /// Asks for the case once.
    pub(crate) fn attempt(&self, case: &Case, way: Way) -> io::Result<Outcome> {
        let mut started = match self.start(case, way)? {
            Ok(started) => started,
            Err(said) => return Ok(failed("", &said, None)),
        };
        let begun = Instant::now();
        let response = started.get(&case.name);
        let took = begun.elapsed();
        let threads = threads(started.program.pid());
        let text = response.unwrap_or_else(|error| format!("there is no response: {error}"));
        if text.starts_with("200\n") && text.to_lowercase().contains(&case.expects.to_lowercase()) {
            return Ok(Outcome::Works { threads });
        }
        let mut fault = None;
        if took >= TIMEOUT {
            fault = Some(format!("it hangs for {} s", took.as_secs()));
        } else if let Some(status) = started.program.ended()? {
            fault = Some(format!("the process ended: {status}"));
        } else if started.get("").is_ok_and(|home| !home.starts_with("200\n"))
            && !text.starts_with("503\n")
        {
            fault = Some("another page fails afterwards".to_owned());
        }
        Ok(failed(&text, &started.said(), fault))
    }

    /// Reloads the program while a request is in flight, on the bare loop: in tokio, it waits for it anyway.
    pub(crate) fn reload(&self, case: &Case) -> io::Result<Reload> {
        let way = Way { in_tokio: false, has_threads: true, is_fastcgi: true };
        let Ok(started) = self.start(case, way)? else { return Ok(Reload::NotTried) };
        let works = |text: String| text.starts_with("200\n");
        if !started.get(&case.name).is_ok_and(works) {
            return Ok(Reload::NotTried);
        }
        let At::Socket(socket) = &started.address else { unreachable!("FastCGI has a socket") };
        let (socket, wait) = (socket.clone(), format!("/wait/{}", IN_FLIGHT.as_millis()));
        let in_flight = thread::spawn(move || FastCgi::connect(&socket)?.get(id(1), false, &wait));
        // It is in flight when the next one is answered.
        thread::sleep(Duration::from_millis(100));
        started.get("")?;
        touch(&started.folder.path().join("launcher"))?;
        let is_upgraded = || started.said().contains("Upgraded; serving");
        let begun = Instant::now();
        let mut at_once = false;
        while !in_flight.is_finished() {
            at_once |= is_upgraded();
            thread::sleep(Duration::from_millis(20));
        }
        let waited = in_flight.join().map_err(|_| io::Error::other("it panicked"))??;
        if waited.status() != 200 {
            return Err(io::Error::other("a reload lost a request"));
        }
        while !is_upgraded() {
            if begun.elapsed() > 3 * TIMEOUT {
                let said = started.said();
                return Err(io::Error::other(format!("it never reloads; it said:\n{said}")));
            }
            started.get("")?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(if at_once { Reload::AtOnce } else { Reload::Waits })
    }

    /// Starts the program; the inner error is what it says if it ends before it listens.
    fn start(&self, case: &Case, way: Way) -> io::Result<Result<Started, String>> {
        // Beside the program, of which it gets a link; a copy of it would be large.
        let beside = self.program.parent().unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new().prefix("try-").tempdir_in(beside)?;
        let linked = folder.path().join("popular-crates");
        fs::hard_link(self.program, &linked)?;
        let log = folder.path().join("log");
        fs::write(folder.path().join("launcher"), "touch me\n")?;
        let mut start = if way.has_threads {
            Start::new(&linked, &log)
        } else {
            Start::new(&self.no_threads, &log).argument(&linked)
        };
        start = start
            .folder(folder.path())
            .variable("TRY_CASE", &case.name)
            .variable("TRY_RUNTIME", if way.in_tokio { "tokio" } else { "bare" })
            .variable("POPULAR_CRATES_LOG", &log)
            .variable("POPULAR_CRATES_WATCHDOG", WATCHDOG)
            .variable("POPULAR_CRATES_LAUNCHER", folder.path().join("launcher"));
        for (name, value) in &self.variables {
            start = start.variable(name, value);
        }
        let address = if way.is_fastcgi {
            let socket = folder.path().join("socket");
            start = start.stdin(listening_socket(&socket)?);
            At::Socket(socket)
        } else {
            let port = FreePort::reserve()?;
            start =
                start.argument("serve").argument("--listen").argument(port.address().to_string());
            At::Port(port)
        };
        let mut program = start.start()?;
        if let At::Port(port) = &address {
            let listens = || std::net::TcpStream::connect(port.address()).is_ok();
            if program.wait_until("it listened", listens).is_err() {
                return Ok(Err(program.output()));
            }
        }
        Ok(Ok(Started { program, address, folder }))
    }
}

impl Started {
    /// Returns the status, head and body of a response.
    fn get(&self, name: &str) -> io::Result<String> {
        let path = format!("/{name}");
        match &self.address {
            At::Socket(socket) => {
                let mut client = FastCgi::connect(socket)?;
                client.stream().set_read_timeout(Some(TIMEOUT))?;
                client.begin_with(
                    id(1),
                    false,
                    "GET",
                    &path,
                    None,
                    &[
                        ("HTTP_HOST", "localhost"),
                        ("HTTP_ACCEPT_ENCODING", "gzip"),
                        ("HTTP_ORIGIN", "https://example.org"),
                    ],
                );
                client.stdin_end(id(1));
                client.flush()?;
                let response = client.finish(id(1))?;
                let body = String::from_utf8_lossy(response.body()).into_owned();
                Ok(format!("{}\n{}\n\n{body}", response.status(), response.head()))
            }
            At::Port(port) => {
                let request = Request::get(path).header("Accept-Encoding", "gzip");
                let response =
                    request.header("Origin", "https://example.org").send(port.address())?;
                let head: String = response
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\n"))
                    .collect();
                Ok(format!("{}\n{head}\n{}", response.status, response.text()))
            }
        }
    }

    /// Everything that the program has logged or printed.
    fn said(&self) -> String {
        self.program.output()
    }
}

/// Says why an attempt failed: the log knows more than a visitor, unless the response is the case's own error.
fn failed(response: &str, said: &str, fault: Option<String>) -> Outcome {
    let cures = [
        ". It needs tokio",
        ". The server has one thread",
        ". The host refuses",
        ". Often this is",
    ];
    let (_, body) = response.split_once("\n\n").unwrap_or_default();
    let causes = [
        "Request failed: the application panicked: ",
        "The application could not be made: it panicked: ",
        "The application could not be made: ",
    ];
    let cause = causes.iter().find_map(|cause| said.split_once(cause).map(|(_, cause)| cause));
    let message = match cause {
        // What follows is the same for all.
        Some(cause) => {
            let line = crate::first_line(cause);
            [". The first visitor", ". reference="]
                .iter()
                .find_map(|end| Some(line.split_once(end)?.0))
                .unwrap_or(line)
        }
        None if said.contains(STALLED) => STALLED,
        None if !body.is_empty() => crate::first_line(body),
        None if !response.is_empty() => crate::first_line(response),
        None => crate::first_line(said),
    };
    let lacks_cure = cause.is_some() && !cures.iter().any(|cure| said.contains(cure));
    Outcome::Fails { message: message.to_owned(), lacks_cure, fault }
}

/// Returns the names of a process's threads, but for the first.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let others = tasks.filter(|task| task.file_name() != *pid.to_string());
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    let mut names: Vec<_> =
        others.filter_map(|task| name(task).ok()).map(|name| name.trim_end().to_owned()).collect();
    names.sort();
    names
}
