//! Shell scripts in the place of a program, as its launcher: what the host makes of what they do.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use app_server::Body;
use case_runner::{Case, Ending};
use host_emulator::{Emulated, Emulator, Host, Rules};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower_service::Service;

const CASES: &[Case] = &[
    ("a_script_gets_only_its_variables", a_script_gets_only_its_variables, Ending::Success),
    ("what_is_not_a_response_is_a_500", what_is_not_a_response_is_a_500, Ending::Success),
    ("silence_is_a_504_and_ends_the_script", silence_is_a_504_and_ends_the_script, Ending::Success),
    ("a_script_sends_at_once", a_script_sends_at_once, Ending::Success),
    ("a_launcher_that_fails_is_a_500", a_launcher_that_fails_is_a_500, Ending::Success),
    ("who_ignores_sigterm_is_killed", who_ignores_sigterm_is_killed, Ending::Success),
    ("processes_on_cloudlinux_are_limited", processes_on_cloudlinux_are_limited, Ending::Success),
];

fn main() -> ExitCode {
    case_runner::main(CASES, &[])
}

/// A host with this script as the launcher.
fn emulate(host: Host, rules: &[&str], script: &str) -> Emulator {
    let emulated = Emulated {
        name: "app".to_owned(),
        program: "/bin/true".into(),
        launcher: format!("#!/bin/sh\n{script}\n"),
        log: None,
        variables: Box::new(|request| {
            let pair = |name: &str, value: &str| (name.into(), value.into());
            let path = format!("/srv/site{}", request.uri().path());
            vec![pair("DOCUMENT_ROOT", "/srv/site"), pair("PATH_TRANSLATED", &path)]
        }),
    };
    let mut all = Rules::of(host);
    rules.iter().for_each(|rule| all.set(rule).unwrap());
    Emulator::begin(emulated, all).unwrap()
}

/// Asks for `/page`. Returns the status and the body, as far as it came.
async fn ask(emulator: &Emulator) -> (StatusCode, String) {
    let request = Request::get("/page").body(Body::empty()).unwrap();
    let response: Response<_> = emulator.service().call(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.into()).unwrap())
}

fn run(future: impl Future<Output = ()>) {
    event_loop::run(future).unwrap();
}

fn a_script_gets_only_its_variables() {
    run(async {
        let script = "printf 'Status: 201 Created\\nA: b\\n\\n'; env | sort; pwd";
        let emulator = emulate(Host::Cgi, &[], script);
        let (status, body) = ask(&emulator).await;
        assert_eq!(status, StatusCode::CREATED);
        let lines: Vec<_> = body.lines().collect();
        let names: Vec<_> = lines.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        // The shell adds PWD, and perhaps these.
        let of_the_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
        let names: Vec<_> = names.into_iter().filter(|name| !of_the_shell.contains(name)).collect();
        assert_eq!(names, ["DOCUMENT_ROOT", "PATH", "PATH_TRANSLATED"], "{body}");
        let site = lines.last().unwrap();
        assert!(lines.contains(&&*format!("DOCUMENT_ROOT={site}")), "{body}");
        assert!(lines.contains(&&*format!("PATH_TRANSLATED={site}/page")), "{body}");
    });
}

fn what_is_not_a_response_is_a_500() {
    run(async {
        for script in ["true", "echo Hello, world; echo", "printf 'A: b\\n'", "exit 3"] {
            let emulator = emulate(Host::Cgi, &[], script);
            assert_eq!(ask(&emulator).await.0, StatusCode::INTERNAL_SERVER_ERROR, "{script}");
        }
    });
}

fn silence_is_a_504_and_ends_the_script() {
    run(async {
        let emulator = emulate(Host::Cgi, &["Timeout=1"], "echo $$ >pid; exec sleep 30");
        let begun = Instant::now();
        assert_eq!(ask(&emulator).await.0, StatusCode::GATEWAY_TIMEOUT);
        assert!((1..5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    });
    // What the loop has started has ended with it.
    let children = std::fs::read_to_string("/proc/self/task/self/children");
    assert!(children.is_err() || children.is_ok_and(|children| children.is_empty()));
}

fn a_script_sends_at_once() {
    run(async {
        let script = "printf 'A: b\\n\\none'; exec sleep 30";
        let emulator = emulate(Host::Cgi, &[], script);
        let request = Request::get("/page").body(Body::empty()).unwrap();
        let response = emulator.service().call(request).await.unwrap();
        let first = response.into_body().frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "one");
    });
}

fn a_launcher_that_fails_is_a_500() {
    run(async {
        // Over FastCGI: it ends without having accepted the connection.
        let emulator = emulate(Host::ModFcgid, &[], "exit 127");
        let begun = Instant::now();
        assert_eq!(ask(&emulator).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        emulator.end().await;
    });
}

fn who_ignores_sigterm_is_killed() {
    run(async {
        let script = "trap '' TERM; while :; do sleep 1; done";
        let emulator = emulate(Host::ModFcgid, &["FcgidIOTimeout=1"], script);
        assert_eq!(ask(&emulator).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        // It is being ended already; another one is started, and has the same 4 s.
        assert_eq!(ask(&emulator).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        let begun = Instant::now();
        emulator.end().await;
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        event_loop::time::sleep(Duration::from_millis(4500)).await;
        assert_eq!(process::running(), 0, "all have ended");
    });
}

fn processes_on_cloudlinux_are_limited() {
    run(async {
        // It serves no FastCGI: what the shell finds is in the file.
        let found = tempfile::NamedTempFile::new().unwrap();
        let script = format!(
            "exec >{}; ulimit -d; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; true | true && echo forks",
            found.path().display()
        );
        let emulator = emulate(Host::CloudLinux, &["PMEM=64"], &script);
        assert_eq!(ask(&emulator).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        emulator.end().await;
        let found = std::fs::read_to_string(found.path()).unwrap();
        assert_eq!(found, "65536\nNoNewPrivs:\t1\nSeccomp:\t2\nforks\n");
    });
}
