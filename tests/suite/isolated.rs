//! The tool *diagnostics* behind real web servers: an isolated crash affects only its own request. And what else the
//! tool does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::time::{Duration, Instant};

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Kind, Running, external};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::process_table;
use end_to_end::program::{Limit, User};

use crate::servers::start_with;

/// The tool's faults, and the status of the response to each.
const CULPRITS: [(&str, u16); 9] = [
    ("panic", 500),
    ("abort", 500),
    ("segv", 500),
    ("stack", 500),
    ("memory", 500),
    ("loop", 504),
    ("double-free", 500),
    ("overrun", 500),
    ("malloc", 500),
];

fn start(deployment: &str) -> Running {
    start_with(deployment, |base| {
        end_to_end::fixtures::Setup::new(App::Toolshed, base)
            .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
            // The tool's own limit is 2 s.
            .with_variable("TOOLSHED_ISOLATED_CPU", "1 s")
            // A backtrace with all debugging symbols would take most of a small limit.
            .with_variable("TOOLSHED_ISOLATED_MEMORY", "256 MiB")
    })
}

fn post(running: &Running, path: &str, body: Upload) -> std::io::Result<Response> {
    let path = format!("/tools/diagnostics/{path}");
    Request::post(path, body).below(running.base).send(running.address)
}

/// Checks that the site answers, and that all processes of `before` still run.
fn check_unharmed(running: &Running, before: &[u32], after: &str) {
    let response = Request::get("/healthz").below(running.base).send(running.address);
    let response =
        response.unwrap_or_else(|error| panic!("after {after}: {error}\n{}", running.output()));
    assert_eq!((response.status, response.text()), (200, "ok".to_owned()), "after {after}");
    let now = running.our_processes();
    for pid in before {
        assert!(now.contains(pid), "after {after} process {pid} is gone: {now:?}");
    }
}

/// Waits until none of our processes run except those of `before`.
fn until_only(running: &Running, before: &[u32]) {
    let start = Instant::now();
    while running.our_processes().iter().any(|pid| !before.contains(pid)) {
        let left = running.our_processes();
        assert!(start.elapsed() < Duration::from_secs(20), "{before:?} became {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn isolated_culprits(deployment: &str) {
    let running = start(deployment);
    check_unharmed(&running, &[], "the start");
    let before = running.our_processes();
    let body = || Upload::Counted(16 << 20);
    for (how, status) in CULPRITS {
        // In flight: an inline request, and another isolated one.
        let others: Vec<_> = ["inline", "isolated"]
            .into_iter()
            .map(|runs| {
                let path = format!("/tools/diagnostics/sleep?seconds=1&runs={runs}");
                Request::get(path).below(running.base).begin(running.address).unwrap()
            })
            .collect();

        let response = post(&running, &format!("crash?how={how}&runs=isolated"), Upload::Nothing);
        let response =
            response.unwrap_or_else(|error| panic!("{how}: {error}\n{}", running.output()));
        assert_eq!(response.status, status, "{how}: {}", response.text());
        assert!(response.text().contains("quote this reference"), "{how}: {}", response.text());
        check_unharmed(&running, &before, how);

        let response =
            post(&running, &format!("crash?how={how}&runs=isolated&when=receiving"), body());
        let response =
            response.unwrap_or_else(|error| panic!("{how}: {error}\n{}", running.output()));
        assert_eq!(response.status, status, "{how} while a body arrives: {}", response.text());
        check_unharmed(&running, &before, how);

        for other in others {
            let response = other.finish().unwrap();
            assert_eq!(
                (response.status, response.text()),
                (200, "Slept 1 s.\n".to_owned()),
                "{how}"
            );
        }
    }
    // The head is out: what arrives depends on the web server, but it is not a complete response.
    for (how, _) in CULPRITS {
        let path = format!("crash?how={how}&runs=isolated&when=answering");
        if let Ok(response) = post(&running, &path, body()) {
            assert!(!response.text().contains("It survived."), "{how}: {}", response.text());
        }
        check_unharmed(&running, &before, how);
    }
    let output = running.output();
    assert!(!output.contains("End of script output before headers"), "{output}");
    // The log has the cause, and how to raise the limit.
    for text in ["SIGSEGV", "SIGABRT", "isolated_cpu raises", "isolated_memory raises"] {
        assert!(output.contains(text), "{text} is missing in\n{output}");
    }
    running.check_tasks().unwrap();
    if running.kind != Kind::ApacheFcgid {
        // If the client hangs up, the process ends.
        let path = "/tools/diagnostics/stream?mib=4096&runs=isolated";
        let gone = Request::get(path).below(running.base).begin(running.address).unwrap();
        gone.read_at_least(1 << 20).unwrap();
        drop(gone);
        until_only(&running, &before);
    }
    running.stop().unwrap();
}

#[test]
fn isolated_culprits_behind_mod_fcgid() {
    isolated_culprits("mod_fcgid at /");
}

#[test]
fn isolated_culprits_behind_nginx_with_keep_alive() {
    isolated_culprits("nginx, keep-alive");
}

#[test]
fn isolated_culprits_over_http() {
    isolated_culprits("serve");
}

#[test]
fn sleep_stream_child_and_stdout_work_on_each_transport() {
    for deployment in ["mod_fcgid at /", "nginx, keep-alive", "serve"] {
        let running = start(deployment);
        let get = |path: &str| {
            let path = format!("/tools/diagnostics/{path}");
            Request::get(path).below(running.base).send(running.address).unwrap()
        };
        assert_eq!(get("sleep?seconds=0.5").text(), "Slept 0.5 s.\n", "{deployment}");
        for runs in ["inline", "isolated"] {
            let stream = get(&format!("stream?mib=64&runs={runs}"));
            assert_eq!((stream.status, stream.body_bytes), (200, 64 << 20), "{deployment} {runs}");
            let child = post(&running, &format!("child?runs={runs}"), Upload::Nothing).unwrap();
            assert!(
                child.text().contains("It exited: exit status: 0."),
                "{deployment}: {}",
                child.text()
            );
            // 0, 1, 2 and the one that ls opens: no socket of ours is inherited.
            let open = child.text().lines().filter(|line| line.contains(" -> ")).count();
            assert_eq!(open, 4, "{deployment} {runs}: {}", child.text());
            assert_eq!(
                child.text().matches("socket:").count(),
                0,
                "{deployment}: {}",
                child.text()
            );
            let stdout = post(&running, &format!("stdout?runs={runs}"), Upload::Nothing).unwrap();
            assert_eq!(stdout.status, 200, "{deployment} {runs}");
            assert!(!stdout.text().contains("not part of any response"), "{deployment} {runs}");
        }
        // An isolated process may end while it is looked at.
        let ours = running.our_processes().into_iter();
        let open: Vec<_> = ours.filter_map(|pid| process_table::descriptors(pid).ok()).collect();
        assert!(!open.is_empty() && open.iter().all(|open| *open < 30), "{deployment}: {open:?}");
        running.stop().unwrap();
    }
}

/// A draining child completes what is in flight, although it is not the parent of the isolated processes.
#[test]
fn isolated_responses_continue_during_an_upgrade() {
    let running = start("nginx, keep-alive");
    check_unharmed(&running, &[], "the start");
    let before = running.our_processes();
    let begin = |path: &str| {
        let path = format!("/tools/diagnostics/{path}");
        Request::get(path).below(running.base).begin(running.address).unwrap()
    };
    let sleeping = begin("sleep?seconds=6&runs=isolated");
    let streaming = begin("stream?mib=256&runs=isolated");
    streaming.read_at_least(1 << 20).unwrap();

    let program = std::fs::File::open(running.folder().join("bin/toolshed"));
    program.unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let start = Instant::now();
    while !running.output().contains("Upgraded; serving") {
        check_unharmed(&running, &before, "the touch");
        assert!(start.elapsed() < Duration::from_secs(30), "{}", running.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(streaming.read_at_least(200 << 20).is_ok(), "{}", running.output());
    let slept = sleeping.finish().unwrap_or_else(|error| panic!("{error}\n{}", running.output()));
    assert_eq!((slept.status, slept.text()), (200, "Slept 6 s.\n".to_owned()));
    drop(streaming);
    until_only(&running, &before);
    running.stop().unwrap();
}

/// An inline crash ends isolated processes, too: no process is left to read their responses.
#[test]
fn a_crash_leaves_no_isolated_process_behind() {
    let running = start("nginx, keep-alive");
    check_unharmed(&running, &[], "the start");
    let before = running.our_processes();
    let path = "/tools/diagnostics/sleep?seconds=600&runs=isolated";
    let sleeping = Request::get(path).below(running.base).begin(running.address).unwrap();
    let start = Instant::now();
    while running.our_processes().len() == before.len() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", running.output());
        std::thread::sleep(Duration::from_millis(5));
    }
    let crashed = post(&running, "crash?how=segv&runs=inline", Upload::Nothing).unwrap();
    assert_eq!(crashed.status, 500, "{}", running.output());
    let interrupted = sleeping.finish().unwrap();
    assert_eq!(interrupted.status, 503, "{}", interrupted.text());
    check_unharmed(&running, &before, "the crash");
    until_only(&running, &before);
    running.stop().unwrap();
}

/// Without threads, and with only the system calls of Linux 3.10.
#[test]
fn isolation_works_on_an_old_kernel_without_threads() {
    let running = start_with("nginx, keep-alive", |base| {
        end_to_end::fixtures::Setup::new(App::Toolshed, base)
            .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
            .without_threads()
            .on_an_old_kernel()
    });
    let path = "/tools/diagnostics/stream?mib=16&runs=isolated";
    let stream = Request::get(path).below(running.base).send(running.address).unwrap();
    assert_eq!((stream.status, stream.body_bytes), (200, 16 << 20), "{}", running.output());
    for runs in ["inline", "isolated"] {
        let child = post(&running, &format!("child?runs={runs}"), Upload::Nothing).unwrap();
        assert!(child.text().contains("It exited: exit status: 0."), "{}", child.text());
    }
    let response = post(&running, "crash?how=overrun&runs=isolated", Upload::Nothing).unwrap();
    assert_eq!(response.status, 500, "{}", running.output());
    running.check_tasks().unwrap();
    running.stop().unwrap();
}

/// With one process per account, inline requests are served, and isolated ones get 503 with Retry-After.
#[test]
fn without_processes_inline_requests_are_served() {
    let user = User::with_nothing_running();
    let setup = end_to_end::fixtures::Setup::new(App::Toolshed, "")
        .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
        .with_variable("TOOLSHED_ISOLATED_WAIT", "1 s");
    let mut program = external::start_limited(&setup, Limit::Processes, 1, user).unwrap();
    let ask = |method: &str, target: &str| {
        let mut connection = program.connect().unwrap();
        connection.begin(id(1), false, method, target, None);
        connection.stdin_end(id(1));
        connection.flush().unwrap();
        let response = connection.finish(id(1)).unwrap();
        (response.status(), response.head().to_lowercase())
    };
    for _ in 0..2 {
        assert_eq!(ask("GET", "/tools/diagnostics/sleep?seconds=0&runs=inline").0, 200);
        let (status, head) = ask("GET", "/tools/diagnostics/sleep?seconds=0&runs=isolated");
        assert_eq!(status, 503, "{head}");
        assert!(head.contains("retry-after: "), "{head}");
        assert_eq!(ask("POST", "/tools/diagnostics/child?runs=inline").0, 503);
    }
    let output = program.app.output();
    assert!(output.contains("Resource temporarily unavailable"), "{output}");
    assert_eq!(program.check_unharmed(), Ok(()));
}
