//! Counts the system calls of small requests, with strace.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Setup, external};
use end_to_end::process_table;

/// How many requests are counted: enough to notice one that differs.
const REQUESTS: usize = 20;

#[test]
fn a_small_request_on_a_keep_alive_connection_takes_three_system_calls() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    for _ in 0..3 {
        connection.get(id(1), true, "/healthz").expect("a response arrives");
    }
    let log = trace(&program, || {
        for _ in 0..REQUESTS {
            connection.get(id(1), true, "/healthz").expect("a response arrives");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let names: Vec<_> = parse(&log).iter().map(|call| call.name).collect();
    assert_eq!(names, ["read", "write", "epoll_wait"].repeat(REQUESTS), "{}", log.join("\n"));
}

#[test]
fn a_small_request_on_a_new_connection_takes_five_or_six_system_calls() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let ask = || {
        let mut connection = program.connect().expect("it listens");
        // Like a web server: sends everything at once, then waits.
        connection.get(id(1), false, "/healthz").expect("a response arrives");
        thread::sleep(Duration::from_millis(5));
    };
    (0..3).for_each(|_| ask());
    let log = trace(&program, || (0..REQUESTS).for_each(|_| ask()));
    let mut requests: Vec<(Vec<&str>, bool)> = Vec::new();
    for call in parse(&log) {
        if call.name == "accept4" && !call.found_nothing {
            requests.push((Vec::new(), true));
        }
        if let Some((names, was_whole)) = requests.last_mut() {
            names.push(call.name);
            // The program accepted the connection before the request had arrived.
            *was_whole &= !(call.name == "read" && call.found_nothing);
        }
    }
    assert_eq!(requests.len(), REQUESTS, "{}", log.join("\n"));
    requests.retain(|(_, was_whole)| *was_whole);
    assert!(!requests.is_empty(), "{}", log.join("\n"));
    for (request, _) in requests {
        // The sixth call is an accept that finds no connection: two are tried after one that found one.
        let five = ["accept4", "read", "write", "close", "epoll_wait"];
        let six = ["accept4", "read", "write", "close", "accept4", "epoll_wait"];
        // On a busy machine, the next connection may be waiting already.
        let four = ["accept4", "read", "write", "close"];
        let is_known = request == four || request == five || request == six;
        assert!(is_known, "{request:?} in\n{}", log.join("\n"));
    }
}

/// A program that watches its launcher looks at it once before each accept, and never for a request on a keep-alive
/// connection. What it checks once a second is not counted.
#[test]
fn watching_for_upgrades_costs_one_system_call_per_accept() {
    let setup = Setup::new(App::TestApp, "").with_upgrade();
    let program = external::start(&setup).expect("the program starts");
    let mut keep_alive = program.connect().expect("it listens");
    let mut ask_on_keep_alive = || {
        keep_alive.get(id(1), true, "/healthz").expect("a response arrives");
        thread::sleep(Duration::from_millis(5));
    };
    let ask_new = || {
        let mut connection = program.connect().expect("it listens");
        connection.get(id(1), false, "/healthz").expect("a response arrives");
        thread::sleep(Duration::from_millis(5));
    };
    ask_on_keep_alive();
    ask_new();
    let launcher = program.launcher();
    let launcher = launcher.to_str().expect("it is ASCII");
    let count = |log: &[String]| {
        let looks = log.iter().filter(|line| line.contains(launcher)).count();
        let accepts = log.iter().filter(|line| line.starts_with("accept4")).count();
        // The check once a second starts with the launcher and continues with the program.
        let all = log.iter().filter(|line| line.contains("test-app.new")).count();
        (looks - all, accepts, log.join("\n"))
    };
    let (looks, accepts, log) = count(&trace(&program, || (0..REQUESTS).for_each(|_| ask_new())));
    assert!(accepts >= REQUESTS, "{log}");
    assert_eq!(looks, accepts, "{log}");
    let (looks, accepts, log) =
        count(&trace(&program, || (0..REQUESTS).for_each(|_| ask_on_keep_alive())));
    assert_eq!((looks, accepts), (0, 0), "{log}");
}

/// Traces the program's system calls during `work`.
fn trace(program: &external::External, work: impl FnOnce()) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let strace = Strace::attach(program.app.pid(), log.path());
    work();
    // The last response may arrive before strace has logged the wait after it.
    thread::sleep(Duration::from_millis(100));
    drop(strace);
    let log = fs::read_to_string(log.path()).expect("strace wrote its log");
    log.lines().map(str::to_owned).collect()
}

/// Parses the calls, without the wait that was in progress at the beginning. The last call is a wait, too.
fn parse(log: &[String]) -> Vec<Call<'_>> {
    let mut calls: Vec<_> = log
        .iter()
        .filter(|line| !line.starts_with("---") && !line.starts_with("+++"))
        // In debug builds, std asserts that a descriptor is valid before it closes it.
        .filter(|line| !(cfg!(debug_assertions) && line.contains("F_GETFD")))
        .map(|line| Call {
            name: match line.split('(').next().unwrap_or("") {
                "epoll_pwait" => "epoll_wait",
                "recvfrom" => "read",
                "writev" | "sendto" | "sendmsg" => "write",
                name => name,
            },
            found_nothing: line.contains("EAGAIN"),
        })
        .collect();
    if calls.first().is_some_and(|call| call.name == "epoll_wait") {
        calls.remove(0);
    }
    calls
}

/// A system call in strace's log.
struct Call<'a> {
    name: &'a str,
    found_nothing: bool,
}

struct Strace(Child);

impl Strace {
    fn attach(pid: u32, log: &Path) -> Self {
        let child = Command::new("strace")
            .arg("-o")
            .arg(log)
            .arg("-p")
            .arg(pid.to_string())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed by tests/run");
        let deadline = Instant::now() + Duration::from_secs(10);
        // TracerPid shows that strace has attached.
        while !is_traced(pid) {
            assert!(Instant::now() < deadline, "strace follows the program");
            thread::sleep(Duration::from_millis(10));
        }
        // The program may not run again yet.
        thread::sleep(Duration::from_millis(100));
        Self(child)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // On SIGINT, strace detaches and writes the rest of its log.
        let _ = process_table::signal(self.0.id(), libc::SIGINT);
        let _ = self.0.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}
