//! The tool *diagnostics* behind real web servers: every culprit in a process of its own is one visitor's
//! page, and nobody else's; and what else the tool does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::time::{Duration, Instant};

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Kind, Running, external};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::process_table;
use end_to_end::program::{Limit, User};

use crate::servers::start_with;

/// How each breaks, and the status of its page.
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

fn start(way: &str) -> Running {
    start_with(way, |base| {
        end_to_end::fixtures::Setup::new(App::Toolshed, base)
            .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
            // The tool asks for 2 s.
            .with_variable("TOOLSHED_ISOLATED_CPU", "1 s")
            // A backtrace with all debugging symbols would take most of a small limit.
            .with_variable("TOOLSHED_ISOLATED_MEMORY", "256 MiB")
    })
}

fn post(running: &Running, path: &str, body: Upload) -> std::io::Result<Response> {
    let path = format!("/tools/diagnostics/{path}");
    Request::post(path, body).below(running.base).send(running.address)
}

/// Checks that the site answers, and that the processes that were there before are there still.
fn check_unharmed(running: &Running, before: &[u32], after: &str) {
    let answer = Request::get("/healthz").below(running.base).send(running.address);
    let answer =
        answer.unwrap_or_else(|error| panic!("after {after}: {error}\n{}", running.said()));
    assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()), "after {after}");
    let now = running.our_processes();
    for pid in before {
        assert!(now.contains(pid), "after {after} process {pid} is gone: {now:?}");
    }
}

/// Waits until nothing of ours runs but what was there before.
fn until_only(running: &Running, before: &[u32]) {
    let start = Instant::now();
    while running.our_processes().iter().any(|pid| !before.contains(pid)) {
        let left = running.our_processes();
        assert!(start.elapsed() < Duration::from_secs(20), "{before:?} became {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn isolated_culprits(way: &str) {
    let running = start(way);
    check_unharmed(&running, &[], "the start");
    let before = running.our_processes();
    let body = || Upload::Counted(16 << 20);
    for (how, status) in CULPRITS {
        // Somebody is just being answered, and another in a process of his own.
        let others: Vec<_> = ["inline", "isolated"]
            .into_iter()
            .map(|runs| {
                let path = format!("/tools/diagnostics/sleep?seconds=1&runs={runs}");
                Request::get(path).below(running.base).begin(running.address).unwrap()
            })
            .collect();

        let answer = post(&running, &format!("crash?how={how}&runs=isolated"), Upload::Nothing);
        let answer = answer.unwrap_or_else(|error| panic!("{how}: {error}\n{}", running.said()));
        assert_eq!(answer.status, status, "{how}: {}", answer.text());
        assert!(answer.text().contains("quote this reference"), "{how}: {}", answer.text());
        check_unharmed(&running, &before, how);

        let answer =
            post(&running, &format!("crash?how={how}&runs=isolated&when=receiving"), body());
        let answer = answer.unwrap_or_else(|error| panic!("{how}: {error}\n{}", running.said()));
        assert_eq!(answer.status, status, "{how} while a body arrives: {}", answer.text());
        check_unharmed(&running, &before, how);

        for other in others {
            let answer = other.finish().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "Slept 1 s.\n".to_owned()), "{how}");
        }
    }
    // The head is out: what the web server makes of that is its own, but it is not the whole answer.
    for (how, _) in CULPRITS {
        let path = format!("crash?how={how}&runs=isolated&when=answering");
        if let Ok(answer) = post(&running, &path, body()) {
            assert!(!answer.text().contains("It survived."), "{how}: {}", answer.text());
        }
        check_unharmed(&running, &before, how);
    }
    let said = running.said();
    assert!(!said.contains("End of script output before headers"), "{said}");
    // The cause, and how to raise the limit.
    for words in ["SIGSEGV", "SIGABRT", "isolated_cpu raises", "isolated_memory raises"] {
        assert!(said.contains(words), "{words} is missing in\n{said}");
    }
    running.check_tasks().unwrap();
    if running.kind != Kind::ApacheFcgid {
        // Whoever leaves takes the process along.
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
    isolated_culprits("nginx, connections kept");
}

#[test]
fn isolated_culprits_over_http() {
    isolated_culprits("serve");
}

/// What is not a crash, behind each of the three.
#[test]
fn sleep_stream_child_and_stdout_work_on_each_transport() {
    for way in ["mod_fcgid at /", "nginx, connections kept", "serve"] {
        let running = start(way);
        let get = |path: &str| {
            let path = format!("/tools/diagnostics/{path}");
            Request::get(path).below(running.base).send(running.address).unwrap()
        };
        assert_eq!(get("sleep?seconds=0.5").text(), "Slept 0.5 s.\n", "{way}");
        for runs in ["inline", "isolated"] {
            let stream = get(&format!("stream?mib=64&runs={runs}"));
            assert_eq!((stream.status, stream.body_bytes), (200, 64 << 20), "{way} {runs}");
            let child = post(&running, &format!("child?runs={runs}"), Upload::Nothing).unwrap();
            assert!(child.text().contains("It exited: exit status: 0."), "{way}: {}", child.text());
            // 0, 1, 2 and what ls looks with: no socket of ours is inherited.
            let open = child.text().lines().filter(|line| line.contains(" -> ")).count();
            assert_eq!(open, 4, "{way} {runs}: {}", child.text());
            assert_eq!(child.text().matches("socket:").count(), 0, "{way}: {}", child.text());
            let said = post(&running, &format!("stdout?runs={runs}"), Upload::Nothing).unwrap();
            assert_eq!(said.status, 200, "{way} {runs}");
            assert!(!said.text().contains("not part of any response"), "{way} {runs}");
        }
        for pid in running.our_processes() {
            assert!(process_table::descriptors(pid).is_ok_and(|open| open < 30), "{way}");
        }
        running.stop().unwrap();
    }
}

/// What is in progress is finished by a copy of the process, which is not the parent of those that it
/// waits for.
#[test]
fn isolated_responses_continue_during_an_upgrade() {
    let running = start("nginx, connections kept");
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
    while !running.said().contains("Upgraded; serving") {
        check_unharmed(&running, &before, "the touch");
        assert!(start.elapsed() < Duration::from_secs(30), "{}", running.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(streaming.read_at_least(200 << 20).is_ok(), "{}", running.said());
    let slept = sleeping.finish().unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
    assert_eq!((slept.status, slept.text()), (200, "Slept 6 s.\n".to_owned()));
    drop(streaming);
    until_only(&running, &before);
    running.stop().unwrap();
}

/// A crash of the inline code ends the isolated ones too: nobody is left to hear their answers.
#[test]
fn a_crash_leaves_no_isolated_process_behind() {
    let running = start("nginx, connections kept");
    check_unharmed(&running, &[], "the start");
    let before = running.our_processes();
    let path = "/tools/diagnostics/sleep?seconds=600&runs=isolated";
    let sleeping = Request::get(path).below(running.base).begin(running.address).unwrap();
    let start = Instant::now();
    while running.our_processes().len() == before.len() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", running.said());
        std::thread::sleep(Duration::from_millis(5));
    }
    let crashed = post(&running, "crash?how=segv&runs=inline", Upload::Nothing).unwrap();
    assert_eq!(crashed.status, 500, "{}", running.said());
    let interrupted = sleeping.finish().unwrap();
    assert_eq!(interrupted.status, 503, "{}", interrupted.text());
    check_unharmed(&running, &before, "the crash");
    until_only(&running, &before);
    running.stop().unwrap();
}

/// Where no thread can be started, with the system calls of Linux 3.10 alone.
#[test]
fn isolation_works_on_an_old_kernel_without_threads() {
    let running = start_with("nginx, connections kept", |base| {
        end_to_end::fixtures::Setup::new(App::Toolshed, base)
            .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
            .without_threads()
            .on_an_old_kernel()
    });
    let path = "/tools/diagnostics/stream?mib=16&runs=isolated";
    let stream = Request::get(path).below(running.base).send(running.address).unwrap();
    assert_eq!((stream.status, stream.body_bytes), (200, 16 << 20), "{}", running.said());
    for runs in ["inline", "isolated"] {
        let child = post(&running, &format!("child?runs={runs}"), Upload::Nothing).unwrap();
        assert!(child.text().contains("It exited: exit status: 0."), "{}", child.text());
    }
    let answer = post(&running, "crash?how=overrun&runs=isolated", Upload::Nothing).unwrap();
    assert_eq!(answer.status, 500, "{}", running.said());
    running.check_tasks().unwrap();
    running.stop().unwrap();
}

/// Where the account may have one process: inline is served, the rest is told when to come back.
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
        let answer = connection.finish(id(1)).unwrap();
        (answer.status(), answer.head().to_lowercase())
    };
    for _ in 0..2 {
        assert_eq!(ask("GET", "/tools/diagnostics/sleep?seconds=0&runs=inline").0, 200);
        let (status, head) = ask("GET", "/tools/diagnostics/sleep?seconds=0&runs=isolated");
        assert_eq!(status, 503, "{head}");
        assert!(head.contains("retry-after: "), "{head}");
        assert_eq!(ask("POST", "/tools/diagnostics/child?runs=inline").0, 503);
    }
    let said = program.app.said();
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    assert_eq!(program.check_unharmed(), Ok(()));
}
