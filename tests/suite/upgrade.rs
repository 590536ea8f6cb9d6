//! A process becomes a newer version of its program under load, behind every kind of web server, and nobody
//! notices but by the version: `test-app` is told apart by its file, its configuration and when it began.

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

/// Far more than a change takes: it is an error then.
const PATIENCE: Duration = Duration::from_secs(20);

fn touches() -> usize {
    if is_long() { 200 } else { 15 }
}

/// Clients that ask without a pause, each on a connection a request, or on one that is kept as long as the
/// server keeps it.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, target: String, keep: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..CLIENTS).map(|_| {
            let (stop, answers) = (stop.clone(), answers.clone());
            let (failures, target) = (failures.clone(), target.clone());
            thread::spawn(move || {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let asked = if keep {
                        ask_kept(&mut kept, address, &target)
                    } else {
                        ask(address, &target)
                    };
                    match asked {
                        Ok(_) => drop(answers.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failures.lock().expect("no panic").push(error),
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { stop, answers, failures, clients }
    }

    /// Ends the clients; none of their requests may have failed.
    fn finish(self, running: &Running, what: &str) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let answers = self.answers.load(Ordering::Relaxed);
        let failures = self.failures.lock().expect("no panic");
        let some: Vec<_> = failures.iter().take(5).collect();
        assert!(
            failures.is_empty(),
            "{what}: {} of {} requests failed: {some:?}\n{}",
            failures.len(),
            answers as usize + failures.len(),
            tail(&running.said())
        );
        assert!(answers > CLIENTS as u64, "{what}: only {answers} answers");
        answers
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn ask(address: SocketAddr, target: &str) -> Result<String, String> {
    let answer = Request::get(target).send(address).map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(answer.text()),
        status => Err(format!("{status}: {}", answer.text())),
    }
}

/// Asks on a connection that is kept. A server may say that it closes after an answer; a connection that it
/// closes without a word while we ask is a failure.
fn ask_kept(
    kept: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    target: &str,
) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(address).map_err(text)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
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
        *kept = Some(connection);
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}

fn target(running: &Running) -> String {
    format!("{}/version", running.base)
}

/// What `/version` says: the version with its beginning, the configuration, the process.
fn version(running: &Running) -> (String, String, String) {
    let said = ask(running.address, &target(running)).expect("an answer");
    let mut words = said.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    (next(), next(), next())
}

/// Waits until a version is served that `is_new` takes for one; returns how long that took.
fn until(
    running: &Running,
    what: &str,
    is_new: impl Fn(&(String, String, String)) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let found = version(running);
        if is_new(&found) {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: {found:?} is still served\n{}",
            tail(&running.said())
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// A visitor who takes a large answer slowly, until told to hurry.
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
            stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
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
        let got = self.client.join().expect("no panic").expect("the download goes on");
        assert!(got > mib << 20, "the download broke off after {got} of {} bytes", mib << 20);
    }
}

fn start(way: &str) -> Running {
    start_with(way, |base| Setup::new(App::TestApp, base).with_upgrade())
}

/// Touches, swaps of the binary and edits of the configuration, under load and with a download running
/// through all of it.
fn check_upgrades(way: &str, keep: bool) {
    let running = start(way);
    let mib = if is_long() { 1024 } else { 64 };
    let (first, _, process) = version(&running);
    assert!(first.starts_with("none@"), "{first}");
    let download = Download::start(&running, mib);
    let load = Load::start(running.address, target(&running), keep);
    let several = way.starts_with("mod_fcgid");

    let mut longest = Duration::ZERO;
    for round in 0..touches() {
        // Behind mod_fcgid several processes answer: what counts is the moment in which one began.
        let since = now();
        touch(&running.launcher()).expect("the launcher is there");
        let took = until(&running, &format!("touch {round}"), |(found, ..)| begun(found) > since);
        longest = longest.max(took);
    }
    for version in ["two", "three"] {
        let name = if version == "two" { "test-app.new" } else { "test-app" };
        let installed = running.installed();
        if name == "test-app" {
            // As by hand: another file is renamed into its place.
            installed.install_version(&find("test-app"), "another", version).expect("it is copied");
            let bin = running.folder().join("bin");
            fs::rename(bin.join("another"), bin.join("test-app")).expect("it is renamed");
        } else {
            installed.install_version(&find("test-app"), name, version).expect("it is copied");
        }
        touch(&running.launcher()).expect("the launcher is there");
        until(&running, version, |(found, ..)| found.starts_with(&format!("{version}@")));
    }
    assert!(running.folder().join("bin/test-app.previous").is_file(), "the one before is kept");
    let configuration = running.folder().join("run/configuration");
    for text in ["first", "second"] {
        fs::write(&configuration, text).expect("it is written");
        until(&running, text, |(_, found, _)| *found == format!("[{text}]"));
    }
    // One that does not pass changes nothing.
    fs::write(&configuration, "broken").expect("it is written");
    let said = Instant::now();
    while !running.log_of_programs().contains("the configuration is broken") {
        assert!(said.elapsed() < PATIENCE, "the log says why\n{}", tail(&running.said()));
        thread::sleep(Duration::from_millis(10));
    }
    // Behind mod_fcgid one that had little to do may be as it was before the edits, and one that is spawned
    // now knows no other: test-app keeps no last good configuration. The program does (`versions.rs`).
    if !several {
        assert_eq!(version(&running).1, "[second]");
    }

    let answers = load.finish(&running, way);
    download.finish(mib);
    if !several {
        assert_eq!(version(&running).2, process, "it is the same process");
    }
    println!("{way}: {answers} answers, none failed; a touch took {longest:?} at the longest");
    let said = running.log_of_programs();
    assert!(!said.contains("panicked"), "{}", tail(&said));
    assert_eq!(running.stop(), Ok(()));
}

fn now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_nanos()
}

/// When a version began, by what it says.
fn begun(version: &str) -> u128 {
    version.rsplit_once('@').and_then(|(_, begun)| begun.parse().ok()).unwrap_or(0)
}

#[test]
fn upgrades_behind_mod_fcgid_lose_no_request() {
    check_upgrades("mod_fcgid at /", false);
}

#[test]
fn upgrades_behind_nginx_with_keep_alive_lose_no_request() {
    check_upgrades("nginx, connections kept", true);
}

#[test]
fn upgrades_behind_nginx_without_keep_alive_lose_no_request() {
    check_upgrades("nginx, a connection a request", false);
}

#[test]
fn upgrades_over_http_lose_no_request() {
    check_upgrades("serve", false);
}

#[test]
fn upgrades_over_http_with_keep_alive_lose_no_request() {
    check_upgrades("serve", true);
}

/// With an answer in progress that takes longer than the moment it gets, each upgrade needs a copy of the
/// process; where none can be made, the old version goes on until nothing is in progress.
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
            until(&running, "with a copy", |(found, ..)| *found != before);
            assert_eq!(running.our_processes().len(), 2, "the process and its copy");
        } else {
            thread::sleep(Duration::from_millis(1500));
            assert_eq!(version(&running).0, before, "the old version goes on");
        }
        let answer = slow.finish().expect("the slow answer comes whole");
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
        until(&running, "afterwards", |(found, ..)| *found != before);
        assert_eq!(version(&running).2, process);
        // The copy is gone and reaped: a zombie would count as a process of the account.
        let begun = Instant::now();
        while running.our_processes().len() > 1 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", running.our_processes());
            thread::sleep(Duration::from_millis(5));
        }
        let children = format!("/proc/{process}/task/{process}/children");
        let begun = Instant::now();
        while !fs::read_to_string(&children).expect("it runs").is_empty() {
            assert!(begun.elapsed() < PATIENCE, "the copy is not reaped");
            thread::sleep(Duration::from_millis(5));
        }
        let said = running.log_of_programs();
        assert_eq!(said.contains("no process could be created"), !can_fork, "{}", tail(&said));
        assert_eq!(running.stop(), Ok(()));
    }
}

/// SIGTERM at any moment of an upgrade: every request on a connection that was made is answered whole, and
/// the process ends well and soon, with its copies.
#[test]
fn sigterm_at_any_moment_of_an_upgrade_loses_no_request() {
    let rounds = if is_long() { 1_000 } else { 40 };
    // The same moments in each run.
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
        // One kept and idle, some in progress, some that only begin.
        let mut idle = program.connect().expect("it listens");
        idle.get(id(1), true, "/healthz").expect("an answer comes");
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
            let answer = connection.finish(id(1));
            let answer = answer.unwrap_or_else(|error| {
                panic!("round {round}, {moment:?}: {error}\n{}", program.app.said())
            });
            assert_eq!(answer.status(), 200, "round {round}");
        }
        let status = program.app.wait(PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(0), "round {round}: {}", program.app.said());
        let begun = Instant::now();
        while !process_table::running_from(&program.folder().join("bin")).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "round {round}: a copy is left");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// SIGHUP asks for what a touch asks for.
#[test]
fn sighup_starts_an_upgrade() {
    let setup = Setup::new(App::TestApp, "").with_upgrade();
    let mut program = external::start(&setup).expect("the program starts");
    let mut kept = program.connect().expect("it listens");
    let version = |connection: &mut FastCgi| {
        let answer = connection.get(id(1), true, "/version").expect("an answer comes");
        String::from_utf8_lossy(answer.body()).into_owned()
    };
    let first = version(&mut kept);
    program.app.signal(libc::SIGHUP).expect("it runs");
    let begun = Instant::now();
    // The connection goes along.
    while version(&mut kept) == first {
        assert!(begun.elapsed() < PATIENCE, "{}", program.app.said());
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// A process that a web server has started and that nobody asks ends by itself.
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
    // Requests put it off.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let mut connection = FastCgi::connect(&socket).expect("it listens");
        let answer = connection.get(id(1), false, "/healthz").expect("an answer comes");
        assert_eq!(answer.body(), b"ok");
        thread::sleep(Duration::from_millis(200));
    }
    let status = app.wait(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(app.said().contains("idle_exit"), "{}", app.said());
}

/// Connections that were made before the signal and bring their request only after it are served, too.
#[test]
fn sigterm_waits_for_the_first_request_of_an_accepted_connection() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut late = program.connect().expect("it listens");
    // Accepted for sure: the next one is answered.
    assert_eq!(program.check_unharmed(), Ok(()));
    program.app.signal(libc::SIGTERM).expect("it runs");
    while !program.app.said().contains("received; draining") {
        thread::sleep(Duration::from_millis(1));
    }
    let answer = late.get(id(1), false, "/healthz").expect("an answer comes");
    assert_eq!(answer.body(), b"ok");
    let status = program.app.wait(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// While somebody has the program open for writing the system refuses to run it: the old version serves
/// on, and the new one comes when the file is closed.
#[test]
fn an_upgrade_waits_until_the_program_is_written() {
    let running = start_with("serve", |base| Setup::new(App::TestApp, base).with_upgrade());
    let before = version(&running).0;
    // A file that nobody runs can be opened for writing.
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
