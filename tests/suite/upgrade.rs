//! A process upgrades to a newer version of its program under load, behind several web servers, without losing a
//! request. `test-app` reports its version, its configuration and its start time.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::{App, Folder, Running, Setup, external};
use end_to_end::http_client::Request;
use end_to_end::is_long;
use end_to_end::process_table;
use end_to_end::program::{Start, find, listening_socket, touch};

use crate::servers::start_with;

const CLIENTS: usize = 16;

/// Far more than an upgrade takes.
const TIMEOUT: Duration = Duration::from_secs(20);

fn touches() -> usize {
    if is_long() { 200 } else { 15 }
}

/// Clients that send requests without a pause, each on a new connection or, with `keep`, on a keep-alive connection.
struct Load {
    stop: Arc<AtomicBool>,
    responses: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, target: String, keep: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let responses = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..CLIENTS).map(|_| {
            let (stop, responses) = (stop.clone(), responses.clone());
            let (failures, target) = (failures.clone(), target.clone());
            thread::spawn(move || {
                let mut idle = None;
                while !stop.load(Ordering::Relaxed) {
                    let asked = if keep {
                        ask_on_keep_alive(&mut idle, address, &target)
                    } else {
                        ask(address, &target)
                    };
                    match asked {
                        Ok(_) => drop(responses.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failures.lock().expect("no panic").push(error),
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { stop, responses, failures, clients }
    }

    /// Stops the clients; checks that none of their requests failed.
    fn finish(self, running: &Running, what: &str) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let responses = self.responses.load(Ordering::Relaxed);
        let failures = self.failures.lock().expect("no panic");
        let some: Vec<_> = failures.iter().take(5).collect();
        assert!(
            failures.is_empty(),
            "{what}: {} of {} requests failed: {some:?}\n{}",
            failures.len(),
            responses as usize + failures.len(),
            tail(&running.output())
        );
        assert!(responses > CLIENTS as u64, "{what}: only {responses} responses");
        responses
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn ask(address: SocketAddr, target: &str) -> Result<String, String> {
    let response = Request::get(target).send(address).map_err(|error| error.to_string())?;
    match response.status {
        200 => Ok(response.text()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Sends a request on a keep-alive connection. A server may announce that it closes the connection after a response;
/// closing it without `Connection: close` is a failure.
fn ask_on_keep_alive(
    idle: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    target: &str,
) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = match idle.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(address).map_err(text)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(text)?;
            BufReader::new(stream)
        }
    };
    let head = format!("GET {target} HTTP/1.1\r\nHost: tools.test\r\n\r\n");
    connection.get_mut().write_all(head.as_bytes()).map_err(text)?;
    let mut line = String::new();
    connection.read_line(&mut line).map_err(text)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("{line:?}"));
    }
    let (mut length, mut closes) = (None, false);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).map_err(text)?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(": ") {
            None if line.is_empty() => break,
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("connection", "close")) => closes = true,
            _ => {}
        }
    }
    let mut body = vec![0; length.ok_or("no length")?];
    connection.read_exact(&mut body).map_err(text)?;
    if !closes {
        *idle = Some(connection);
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}

fn target(running: &Running) -> String {
    format!("{}/version", running.base)
}

/// What `/version` reports: the version with its start time, the configuration, the process id.
fn version(running: &Running) -> (String, String, String) {
    let output = ask(running.address, &target(running)).expect("a response");
    let mut words = output.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    (next(), next(), next())
}

/// Waits until `is_new` accepts the version that is served; returns how long that took.
fn until(
    running: &Running,
    what: &str,
    is_new: impl Fn(&(String, String, String)) -> bool,
) -> Duration {
    let started = Instant::now();
    loop {
        let found = version(running);
        if is_new(&found) {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < TIMEOUT,
            "{what}: {found:?} is still served\n{}",
            tail(&running.output())
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// A client that reads a large response slowly, until `hurry` is set.
struct Download {
    hurry: Arc<AtomicBool>,
    client: JoinHandle<Result<u64, String>>,
}

impl Download {
    fn start(running: &Running, mib: u64) -> Self {
        let hurry = Arc::new(AtomicBool::new(false));
        let head = format!(
            "GET {}/large?mib={mib} HTTP/1.1\r\nHost: tools.test\r\nConnection: close\r\n\r\n",
            running.base
        );
        let (address, quick) = (running.address, hurry.clone());
        let client = thread::spawn(move || {
            let text = |error: std::io::Error| error.to_string();
            let mut stream = TcpStream::connect(address).map_err(text)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(text)?;
            stream.write_all(head.as_bytes()).map_err(text)?;
            let mut buffer = vec![0; 64 * 1024];
            let mut got = 0;
            loop {
                match stream.read(&mut buffer).map_err(text)? {
                    0 => return Ok(got),
                    more => got += more as u64,
                }
                if !quick.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        });
        Self { hurry, client }
    }

    fn finish(self, mib: u64) {
        self.hurry.store(true, Ordering::Relaxed);
        let got = self.client.join().expect("no panic").expect("the download continues");
        assert!(got > mib << 20, "the download ended after {got} of {} bytes", mib << 20);
    }
}

fn start(deployment: &str) -> Running {
    start_with(deployment, |base| Setup::new(App::TestApp, base).with_upgrade())
}

/// Touches, replaces the program and edits the configuration, under load and with a download in flight all the time.
fn check_upgrades(deployment: &str, keep: bool) {
    let running = start(deployment);
    let mib = if is_long() { 1024 } else { 64 };
    let (first, _, process) = version(&running);
    assert!(first.starts_with("none@"), "{first}");
    let download = Download::start(&running, mib);
    let load = Load::start(running.address, target(&running), keep);
    let several = deployment.starts_with("mod_fcgid");

    let mut longest = Duration::ZERO;
    for round in 0..touches() {
        // Behind mod_fcgid there are several processes: what counts is when the one that responds was started.
        let since = now();
        touch(&running.launcher()).expect("the launcher is there");
        let took =
            until(&running, &format!("touch {round}"), |(found, ..)| start_time(found) > since);
        longest = longest.max(took);
    }
    for version in ["two", "three"] {
        let name = if version == "two" { "test-app.new" } else { "test-app" };
        let installed = running.installed();
        if name == "test-app" {
            // As done by hand: rename another file to the program's path.
            installed.install_version(&find("test-app"), "another", version).expect("it is copied");
            let bin = running.folder().join("bin");
            fs::rename(bin.join("another"), bin.join("test-app")).expect("it is renamed");
        } else {
            installed.install_version(&find("test-app"), name, version).expect("it is copied");
        }
        touch(&running.launcher()).expect("the launcher is there");
        until(&running, version, |(found, ..)| found.starts_with(&format!("{version}@")));
    }
    assert!(
        running.folder().join("bin/test-app.previous").is_file(),
        "the previous version is saved"
    );
    let configuration = running.folder().join("run/configuration");
    for text in ["first", "second"] {
        fs::write(&configuration, text).expect("it is written");
        until(&running, text, |(_, found, _)| *found == format!("[{text}]"));
    }
    // A configuration that does not pass changes nothing.
    fs::write(&configuration, "broken").expect("it is written");
    let started = Instant::now();
    while !running.program_logs().contains("the configuration is broken") {
        assert!(
            started.elapsed() < TIMEOUT,
            "the log does not say why\n{}",
            tail(&running.output())
        );
        thread::sleep(Duration::from_millis(10));
    }
    // Behind mod_fcgid, an idle process may still have the configuration from before the edits, and one that is
    // spawned now has the broken one: test-app saves no last good configuration. The program does (`versions.rs`).
    if !several {
        assert_eq!(version(&running).1, "[second]");
    }

    let responses = load.finish(&running, deployment);
    download.finish(mib);
    if !several {
        assert_eq!(version(&running).2, process, "it is the same process");
    }
    println!("{deployment}: {responses} responses, no failures; a touch took at most {longest:?}");
    let output = running.program_logs();
    assert!(!output.contains("panicked"), "{}", tail(&output));
    assert_eq!(running.stop(), Ok(()));
}

fn now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_nanos()
}

/// When a version was started, in nanoseconds since 1970.
fn start_time(version: &str) -> u128 {
    version.rsplit_once('@').and_then(|(_, started)| started.parse().ok()).unwrap_or(0)
}

#[test]
fn upgrades_behind_mod_fcgid_lose_no_request() {
    check_upgrades("mod_fcgid at /", false);
}

#[test]
fn upgrades_behind_nginx_with_keep_alive_lose_no_request() {
    check_upgrades("nginx, keep-alive", true);
}

#[test]
fn upgrades_behind_nginx_without_keep_alive_lose_no_request() {
    check_upgrades("nginx, one request per connection", false);
}

#[test]
fn upgrades_over_http_lose_no_request() {
    check_upgrades("serve", false);
}

#[test]
fn upgrades_over_http_with_keep_alive_lose_no_request() {
    check_upgrades("serve", true);
}

/// With a slow response in flight, an upgrade needs a draining child; if none can be created, the old version
/// continues until nothing is in flight.
#[test]
fn a_draining_child_completes_what_is_in_flight_or_the_upgrade_waits() {
    for can_fork in [true, false] {
        let running = start_with("serve", |base| {
            let setup = Setup::new(App::TestApp, base).with_upgrade();
            if can_fork { setup } else { setup.with_processes(1) }
        });
        if !can_fork && !end_to_end::program::is_root() {
            // The limit counts all processes of the account that runs the tests.
            continue;
        }
        let (before, _, process) = version(&running);
        let slow = Request::get("/slow?seconds=4").begin(running.address).expect("it is sent");
        thread::sleep(Duration::from_millis(100));
        touch(&running.launcher()).expect("the launcher is there");
        if can_fork {
            until(&running, "with a draining child", |(found, ..)| *found != before);
            assert_eq!(running.our_processes().len(), 2, "the process and its draining child");
        } else {
            thread::sleep(Duration::from_millis(1500));
            assert_eq!(version(&running).0, before, "the old version continues");
        }
        let response = slow.finish().expect("the slow response is complete");
        assert_eq!((response.status, response.text().as_str()), (200, "slow"));
        until(&running, "afterwards", |(found, ..)| *found != before);
        assert_eq!(version(&running).2, process);
        // The draining child has exited and was reaped: a zombie would count as a process of the account.
        let started = Instant::now();
        while running.our_processes().len() > 1 {
            assert!(started.elapsed() < TIMEOUT, "{:?}", running.our_processes());
            thread::sleep(Duration::from_millis(5));
        }
        let children = format!("/proc/{process}/task/{process}/children");
        let started = Instant::now();
        while !fs::read_to_string(&children).expect("it runs").is_empty() {
            assert!(started.elapsed() < TIMEOUT, "the draining child is not reaped");
            thread::sleep(Duration::from_millis(5));
        }
        let output = running.program_logs();
        assert_eq!(output.contains("no process could be created"), !can_fork, "{}", tail(&output));
        assert_eq!(running.stop(), Ok(()));
    }
}

/// Every request on an open connection gets a complete response, and the process exits soon, with its draining
/// children.
#[test]
fn sigterm_at_any_moment_of_an_upgrade_loses_no_request() {
    let rounds = if is_long() { 1_000 } else { 40 };
    // The same moments in every run.
    let mut state = 0x9e37_79b9_u32;
    for round in 0..rounds {
        let setup = Setup::new(App::TestApp, "").with_upgrade();
        let mut program = external::start(&setup).expect("the program starts");
        let launcher = program.launcher();
        let ask = |path: &str| {
            let mut connection = program.connect().expect("it listens");
            connection.begin(id(1), true, "GET", path, None);
            connection.stdin_end(id(1));
            connection.flush().expect("it is sent");
            connection
        };
        // An idle connection, some requests in flight, and some that have just started.
        let mut idle = program.connect().expect("it listens");
        idle.get(id(1), true, "/healthz").expect("a response arrives");
        let mut asked = vec![ask("/slow?milliseconds=60"), ask("/slow?milliseconds=5")];
        touch(&launcher).expect("the launcher is there");
        asked.push(ask("/version"));
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let moment = Duration::from_micros(u64::from(state % 90_000));
        let until = Instant::now() + moment;
        while Instant::now() < until {
            asked.push(ask("/version"));
            thread::sleep(Duration::from_millis(7));
        }
        program.app.signal(libc::SIGTERM).expect("it runs");
        for connection in &mut asked {
            let response = connection.finish(id(1));
            let response = response.unwrap_or_else(|error| {
                panic!("round {round}, {moment:?}: {error}\n{}", program.app.output())
            });
            assert_eq!(response.status(), 200, "round {round}");
        }
        let status = program.app.wait(TIMEOUT).expect("it ends");
        assert_eq!(status.code(), Some(0), "round {round}: {}", program.app.output());
        let started = Instant::now();
        while !process_table::running_from(&program.folder().join("bin")).is_empty() {
            assert!(started.elapsed() < TIMEOUT, "round {round}: a draining child is left");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// SIGHUP has the effect of a touch.
#[test]
fn sighup_starts_an_upgrade() {
    let setup = Setup::new(App::TestApp, "").with_upgrade();
    let mut program = external::start(&setup).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    let version = |connection: &mut FastCgi| {
        let response = connection.get(id(1), true, "/version").expect("a response arrives");
        String::from_utf8_lossy(response.body()).into_owned()
    };
    let first = version(&mut connection);
    program.app.signal(libc::SIGHUP).expect("it runs");
    let started = Instant::now();
    // The connection is handed over.
    while version(&mut connection) == first {
        assert!(started.elapsed() < TIMEOUT, "{}", program.app.output());
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// A spawned process exits after a time without requests.
#[test]
fn an_idle_spawned_process_exits() {
    let setup = Setup::new(App::Toolshed, "").with_upgrade();
    let folder = Folder::new(&setup).expect("a folder");
    let socket = folder.path().join("run/web-server.sock");
    let mut app = Start::new(folder.program(), folder.path().join("run/app.log"))
        .variable("TOOLSHED_IDLE_EXIT", "3 s")
        .variable("TOOLSHED_LOG", folder.path().join("run/app.log"))
        .stdin(listening_socket(&socket).expect("a socket"))
        .start()
        .expect("the program starts");
    // Requests postpone the exit.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let mut connection = FastCgi::connect(&socket).expect("it listens");
        let response = connection.get(id(1), false, "/healthz").expect("a response arrives");
        assert_eq!(response.body(), b"ok");
        thread::sleep(Duration::from_millis(200));
    }
    let status = app.wait(TIMEOUT).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(app.output().contains("idle_exit"), "{}", app.output());
}

/// Connections from before the signal are served even if their request comes after it.
#[test]
fn sigterm_waits_for_the_first_request_of_an_accepted_connection() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut late = program.connect().expect("it listens");
    // It has been accepted: a later connection was served.
    assert_eq!(program.check_unharmed(), Ok(()));
    program.app.signal(libc::SIGTERM).expect("it runs");
    while !program.app.output().contains("received; draining") {
        thread::sleep(Duration::from_millis(1));
    }
    let response = late.get(id(1), false, "/healthz").expect("a response arrives");
    assert_eq!(response.body(), b"ok");
    let status = program.app.wait(TIMEOUT).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// While the program is open for writing, it cannot be executed. The old version continues to serve until the file is
/// closed.
#[test]
fn an_upgrade_waits_until_the_program_is_written() {
    let running = start_with("serve", |base| Setup::new(App::TestApp, base).with_upgrade());
    let before = version(&running).0;
    // A file can be opened for writing while no process runs it.
    let bin = running.folder().join("bin");
    let installed = running.installed();
    installed.install_version(&find("test-app"), "another", "written").expect("it is copied");
    let writer = open_for_writing(&bin.join("another"));
    fs::rename(bin.join("another"), bin.join("test-app")).expect("it is renamed");
    touch(&running.launcher()).expect("the launcher is there");
    for _ in 0..20 {
        assert_eq!(version(&running).0, before);
        thread::sleep(Duration::from_millis(20));
    }
    drop(writer);
    until(&running, "closed", |(found, ..)| found.starts_with("written@"));
    assert_eq!(running.stop(), Ok(()));
}

fn open_for_writing(path: &Path) -> fs::File {
    fs::OpenOptions::new().append(true).open(path).expect("it can be written")
}
