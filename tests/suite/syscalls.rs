//! Counts the system calls of small requests from outside, with strace.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Setup, external};
use end_to_end::process_table;

/// How many requests are counted: enough for one that is different to show.
const REQUESTS: usize = 20;

#[test]
fn a_small_request_on_a_kept_connection_costs_three() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    for _ in 0..3 {
        connection.get(id(1), true, "/healthz").expect("an answer comes");
    }
    let calls = trace(&program, || {
        for _ in 0..REQUESTS {
            connection.get(id(1), true, "/healthz").expect("an answer comes");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let counted = without_the_edges(&calls);
    assert_eq!(counted.len(), 3 * REQUESTS, "{}", calls.join("\n"));
    for (number, name) in counted.iter().enumerate() {
        let wanted: &[&str] =
            [&["read", "recvfrom"][..], &["write", "writev", "sendto"], &["epoll_wait"]]
                [number % 3];
        assert!(wanted.contains(&name.as_str()), "{}", calls.join("\n"));
    }
}

#[test]
fn a_small_request_on_a_new_connection_costs_five_or_six() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let ask = || {
        let mut connection = program.connect().expect("it listens");
        // As web servers send it: all at once, and then they wait.
        connection.get(id(1), false, "/healthz").expect("an answer comes");
        thread::sleep(Duration::from_millis(5));
    };
    (0..3).for_each(|_| ask());
    let calls = trace(&program, || (0..REQUESTS).for_each(|_| ask()));
    let counted = without_the_edges(&calls);
    let all = counted.len();
    assert!((5 * REQUESTS..=6 * REQUESTS).contains(&all), "{all} calls:\n{}", calls.join("\n"));
    // The sixth is an accept that finds nobody: after one that found somebody, two are tried.
    let wanted = ["accept4", "read", "write", "close", "epoll_wait"];
    let others: Vec<_> = counted.iter().filter(|name| !wanted.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{others:?} in\n{}", calls.join("\n"));
}

/// Follows the program's system calls while `work` goes on.
fn trace(program: &external::External, work: impl FnOnce()) -> Vec<String> {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let strace = Strace::attach(program.app.pid(), log.path());
    work();
    // The last write's answer is here before strace has seen the wait after it.
    thread::sleep(Duration::from_millis(100));
    drop(strace);
    let log = fs::read_to_string(log.path()).expect("strace wrote its log");
    log.lines().map(str::to_owned).collect()
}

/// The calls' names without the wait that was going on before and the one that goes on after.
fn without_the_edges(calls: &[String]) -> Vec<String> {
    let mut names: Vec<_> = calls
        .iter()
        .filter(|line| !line.starts_with("---") && !line.starts_with("+++"))
        .filter_map(|line| line.split('(').next())
        .map(str::to_owned)
        .collect();
    // Both edges are the same wait, seen from its two ends: one is counted.
    if names.first().is_some_and(|name| name.starts_with("epoll_")) {
        names.remove(0);
    }
    names.iter().map(|name| name.replace("epoll_pwait", "epoll_wait")).collect()
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
        // TracerPid is the kernel's word for it.
        while !is_traced(pid) {
            assert!(Instant::now() < deadline, "strace follows the program");
            thread::sleep(Duration::from_millis(10));
        }
        // Attached is not yet running again.
        thread::sleep(Duration::from_millis(100));
        Self(child)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // On SIGINT it lets the program go and writes the rest of its log.
        let _ = process_table::signal(self.0.id(), libc::SIGINT);
        let _ = self.0.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}
