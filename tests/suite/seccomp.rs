//! Everything works without threads and on old kernels: shared hosts refuse threads and run Linux 3.10.

use std::process::Command;
use std::time::Duration;

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Setup, apache_fcgid, external, serve};
use end_to_end::process_table;
use end_to_end::program::{Limit, Start, User, find};

use crate::cases::{Case, Expect, run_all, table};
use crate::servers::start_with;
use end_to_end::http_client::{Request, Upload};

#[test]
fn the_filter_refuses_threads() {
    let free = Command::new(find("starts-a-thread")).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&free.stdout), "started\n", "{free:?}");
    let refused =
        Command::new(find("no-threads")).arg(find("starts-a-thread")).output().expect("it runs");
    let output = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(output.contains("Resource temporarily unavailable"), "{output}");
}

#[test]
fn the_filter_allows_processes() {
    let output = Command::new(find("no-threads"))
        .args(["sh", "-c", "echo $(echo from a process)"])
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from a process\n", "{output:?}");
}

#[test]
fn all_cases_pass_behind_mod_fcgid_without_threads() {
    let start = |app| start_with("mod_fcgid at /", |base| Setup::new(app, base).without_threads());
    run_all(start(App::TestApp), table());
    run_all(start(App::Toolshed), site());
}

#[test]
fn all_cases_pass_behind_nginx_without_threads() {
    let name = "nginx, keep-alive";
    let start = |app| start_with(name, |base| Setup::new(app, base).without_threads());
    run_all(start(App::TestApp), table());
    run_all(start(App::Toolshed), site());
}

#[test]
fn all_cases_pass_over_http_without_threads() {
    let start = |app| start_with("serve", |base| Setup::new(app, base).without_threads());
    run_all(start(App::TestApp), table());
    run_all(start(App::Toolshed), site());
}

#[test]
fn the_filter_refuses_newer_system_calls() {
    let new = Command::new(find("asks-an-old-kernel")).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&new.stdout), "random\n", "{new:?}");
    let old =
        Command::new(find("old-kernel")).arg(find("asks-an-old-kernel")).output().expect("it runs");
    let output = String::from_utf8_lossy(&old.stdout).into_owned();
    assert!(output.contains("Function not implemented"), "{output}");
}

#[test]
fn all_cases_pass_on_an_old_kernel() {
    for name in ["mod_fcgid at /", "nginx, keep-alive", "serve"] {
        let start = |app| start_with(name, |base| Setup::new(app, base).on_an_old_kernel());
        run_all(start(App::TestApp), table());
        run_all(start(App::Toolshed), site());
    }
}

fn site() -> Vec<Case> {
    let upload = Request::post("/tools/checksum?alg=sha256", Upload::Counted(1 << 20))
        .header("Content-Type", "application/octet-stream");
    vec![
        Case::ask("healthz", Request::get("/healthz"), Expect::Text("ok")),
        Case::ask(
            "the front page",
            Request::get("/"),
            Expect::Response(|_, response| crate::cases::same("status", response.status, 200)),
        ),
        Case::ask(
            "a checksum",
            upload,
            Expect::Response(|_, response| {
                let sum = Upload::Counted(1 << 20).sha256();
                crate::cases::same("response", response.text(), format!("{sum}\n"))
            }),
        ),
    ]
}

#[test]
fn the_program_serves_at_the_process_limit() {
    // The limit counts all of the user's tasks. As root, the tests start the program as a user without other
    // processes, and 1 is exactly enough; for any other user, 1 is less than there are. In both cases, another
    // process is refused.
    let user = User::with_nothing_running();
    let log = tempfile::NamedTempFile::new().expect("a file");
    let refused = Start::new("/bin/sh", log.path())
        .argument("-c")
        .argument("/bin/true & wait")
        .limit(Limit::Processes, 1)
        .user(user)
        .start()
        .and_then(|mut shell| {
            shell.wait(Duration::from_secs(5)).map(|status| (status, shell.output()))
        })
        .expect("the shell itself starts");
    assert!(!refused.0.success() && refused.1.contains("fork"), "fork is refused: {refused:?}");

    for app in [App::TestApp, App::Toolshed] {
        let user = User::with_nothing_running();
        let mut program = external::start_limited(&Setup::new(app, ""), Limit::Processes, 1, user)
            .unwrap_or_else(|error| panic!("{app:?} starts: {error}"));
        assert_eq!(program.check_unharmed(), Ok(()));
        let mut connection = program.connect().expect("it listens");
        let front = connection.get(id(1), true, "/").expect("a response arrives");
        assert_eq!(front.status(), 200);
        assert_eq!(process_table::tasks(program.app.pid()).expect("it runs"), 1);
    }
}

#[test]
fn the_program_serves_at_the_process_limit_behind_mod_fcgid() {
    // The web server's user already has processes, so with a limit of 1 no fork succeeds.
    for app in [App::TestApp, App::Toolshed] {
        let running =
            apache_fcgid::start(&Setup::new(app, "").with_processes(1)).expect("Apache starts");
        run_all(running, vec![Case::ask("healthz", Request::get("/healthz"), Expect::Text("ok"))]);
    }
    let running = serve::start(&Setup::new(App::TestApp, "").with_processes(1)).expect("it starts");
    run_all(running, vec![Case::ask("one task", Request::get("/tasks"), Expect::Text("1"))]);
}
