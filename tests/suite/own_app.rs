//! An application of somebody's own (`own-app`: axum, tokio, async state, one line in `main`) has everything that the site has.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::{App, Folder, Running, Setup, apache_fcgid, nginx, serve};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::program::{Start, find, listening_socket, touch};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn setup() -> Setup {
    Setup::new(App::OwnApp, "").with_upgrade()
}

/// Its `main` is `#[tokio::main]`.
fn in_its_own_runtime() -> Setup {
    setup().with_variable("OWN_APP_HAS_A_RUNTIME", "1")
}

fn get(running: &Running, target: &str) -> Response {
    Request::get(target).send(running.address).expect("a response")
}

/// When the process that answers was started.
fn started(running: &Running) -> String {
    let home = get(running, "/").text();
    home.split(' ').next().expect("a word").to_owned()
}

/// What `own-app` itself has logged.
fn own_log(running: &Running) -> String {
    fs::read_to_string(running.folder().join("logs/own-app.log")).unwrap_or_default()
}

fn answers_like_any_other(running: &Running) {
    assert!(get(running, "/?a=b").text().ends_with(" /?a=b\n"));
    assert_eq!(get(running, "/sleep/20").text(), "slept 20 ms\n");
    let first: u64 = get(running, "/count").text().trim().parse().expect("a number");
    assert!(first >= 1, "the task in the background answers");
    let echo = Request::post("/echo", Upload::Text(b"hello".to_vec())).send(running.address);
    assert_eq!(echo.expect("a response").text(), "hello");
    assert_eq!(get(running, "/nowhere").status, 404);
    let moved = get(running, "/fails/not-here");
    assert_eq!(
        (moved.status, moved.text()),
        (404, "404 Not Found\n\nIt has moved away.\n".to_owned())
    );
    let failed = get(running, "/fails/secret-name");
    let page = failed.text();
    assert!(failed.status == 500 && !page.contains("No such file"), "{page}");
    let (_, reference) = page.trim_end().split_once("Reference: ").expect("a reference");
    let log = own_log(running) + &running.program_logs();
    let line = log.lines().find(|line| line.contains(reference)).expect("it is in the log");
    assert!(line.contains("Request failed: No such file or directory"), "{line}");
    assert!(line.contains("/fails/secret-name"), "{line}");
    let failed = get(running, "/panic");
    assert!(failed.status == 500 && failed.text().contains("Reference: "), "{}", failed.text());
}

#[test]
fn behind_mod_fcgid_its_owner_finds_everything_in_its_log() {
    let running = apache_fcgid::start(&setup()).expect("Apache starts");
    answers_like_any_other(&running);
    assert_eq!(get(&running, "/log").text(), "logged\n");
    let log = own_log(&running);
    assert!(log.contains("what the author did not think of"), "{log}");
    assert!(log.contains("INFO A visitor was here.") && log.contains("\nprinted\n"), "{log}");
    let reference = get(&running, "/panic").text();
    let reference = reference.trim().rsplit(' ').next().expect("a word").to_owned();
    assert!(own_log(&running).contains(&reference), "{reference}");
}

#[test]
fn behind_mod_fcgid_a_touch_and_a_new_version_lose_no_request() {
    touched_and_replaced_it_loses_no_request(&setup());
}

#[test]
fn in_a_runtime_of_its_own_a_touch_and_a_new_version_lose_no_request() {
    touched_and_replaced_it_loses_no_request(&in_its_own_runtime());
}

fn touched_and_replaced_it_loses_no_request(setup: &Setup) {
    let running = apache_fcgid::start(setup).expect("Apache starts");
    let first = started(&running);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served, address) = (stop.clone(), served.clone(), running.address);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let response = Request::get("/sleep/5").send(address).expect("a response");
                    assert_eq!(response.text(), "slept 5 ms\n");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // mod_fcgid lets clients wait while it starts processes.
    let until_busy = || {
        let (begun, before) = (Instant::now(), served.load(Ordering::Relaxed));
        while served.load(Ordering::Relaxed) < before + 40 {
            assert!(begun.elapsed() < TIMEOUT, "there is no load\n{}", own_log(&running));
            thread::sleep(Duration::from_millis(10));
        }
    };
    let until_newer = |than: &str| {
        let begun = Instant::now();
        loop {
            let now = started(&running);
            if *now > *than {
                return now;
            }
            assert!(begun.elapsed() < TIMEOUT, "{now} is still served\n{}", own_log(&running));
            thread::sleep(Duration::from_millis(20));
        }
    };
    until_busy();
    touch(&running.launcher()).expect("the launcher is there");
    let second = until_newer(&first);
    until_busy();
    running.installed().install_version(&find("own-app"), "own-app.new", "two").expect("a copy");
    touch(&running.launcher()).expect("the launcher is there");
    // There are several processes: the first that looks installs it.
    let begun = Instant::now();
    while !running.folder().join("bin/own-app.previous").is_file() {
        assert!(begun.elapsed() < TIMEOUT, "it is not installed\n{}", own_log(&running));
        assert_eq!(get(&running, "/").status, 200);
    }
    until_newer(&second);
    until_busy();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request fails");
    }
}

#[test]
fn a_version_that_cannot_serve_is_not_taken() {
    let running = apache_fcgid::start(&setup()).expect("Apache starts");
    assert_eq!(get(&running, "/").status, 200);
    let program = running.folder().join("bin/own-app");
    let before = fs::read(&program).expect("it is there");
    running.installed().write("bin/own-app.new", "#!/bin/sh\nexit 1\n").expect("it is written");
    let new = running.folder().join("bin/own-app.new");
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    touch(&running.launcher()).expect("the launcher is there");
    let begun = Instant::now();
    while !own_log(&running).contains("New version rejected; the running version continues") {
        assert_eq!(get(&running, "/").status, 200);
        assert!(begun.elapsed() < TIMEOUT, "{}", own_log(&running));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(get(&running, "/").status, 200);
    assert!(fs::read(&program).expect("it is there") == before, "the program has changed");
    assert!(!running.folder().join("bin/own-app.previous").exists());
}

#[test]
fn its_error_pages_may_look_as_its_author_likes() {
    let setup = setup().with_variable("OWN_APP_HAS_A_LOOK", "1");
    for running in [
        nginx::start(&setup, true).expect("nginx starts"),
        serve::start(&setup).expect("it starts"),
        apache_fcgid::start(&setup).expect("Apache starts"),
    ] {
        for (path, status, words) in [
            ("/fails/not-here", 404, "<h1>My own 404 Not Found</h1><p>It has moved away.<p>"),
            ("/fails/x", 500, "<h1>My own 500 Internal Server Error</h1><p>It is our fault.<p>"),
            ("/panic", 500, "<h1>My own 500 Internal Server Error</h1><p>It is our fault.<p>"),
        ] {
            let failed = get(&running, path);
            let page = failed.text();
            assert!(failed.status == status && page.starts_with(words), "{path}: {page}");
            assert_eq!(failed.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        }
    }
    // Also what only the server can answer: an endless loop.
    let watched = setup.with_variable("OWN_APP_WATCHDOG", "1");
    let running = nginx::start(&watched, true).expect("nginx starts");
    let stalled = get(&running, "/loop");
    assert!(
        stalled.text().starts_with("<h1>My own 504 Gateway Timeout</h1>"),
        "{}",
        stalled.text()
    );
}

#[test]
fn behind_nginx_as_cgi_and_over_http_it_is_the_same() {
    for setup in [setup(), in_its_own_runtime()] {
        for running in [
            nginx::start(&setup, true).expect("nginx starts"),
            serve::start(&setup).expect("it starts"),
            apache_fcgid::start_cgi(&setup).expect("Apache starts"),
        ] {
            answers_like_any_other(&running);
            assert_eq!(get(&running, "/log").status, 200);
            running.stop().expect("it ends");
        }
    }
}

#[test]
fn where_threads_are_refused_only_what_needs_one_fails() {
    for setup in [setup(), in_its_own_runtime()] {
        let refused = Setup { no_threads: true, ..setup };
        let running = nginx::start(&refused, true).expect("nginx starts");
        answers_like_any_other(&running);
        assert_eq!(get(&running, "/thread").status, 500);
        assert_eq!(get(&running, "/").status, 200, "it goes on");
        let log = running.program_logs();
        assert!(log.contains("OS can't spawn worker thread"), "{log}");
        assert!(log.contains("The host refuses threads, as many do"), "{log}");
    }
}

#[test]
fn an_abort_in_a_thread_is_no_end_of_the_site() {
    for setup in [setup(), in_its_own_runtime()] {
        is_contained(&setup);
    }
}

fn is_contained(setup: &Setup) {
    let running = serve::start(setup).expect("it starts");
    let process = |text: &str| text.split(' ').nth(1).map(str::to_owned);
    let before = process(&get(&running, "/").text());
    let waiting = Request::get("/sleep/30000").begin(running.address).expect("it listens");
    // The same process answers this one later.
    assert_eq!(get(&running, "/sleep/1").status, 200);
    let aborted = get(&running, "/abort-in-a-thread");
    assert!([500, 503].contains(&aborted.status), "{}", aborted.text());
    let interrupted = waiting.finish().expect("a response");
    assert_eq!(interrupted.status, 503, "{}", interrupted.text());
    assert_eq!(process(&get(&running, "/").text()), before, "it has restarted in place");
    let log = running.program_logs();
    assert!(log.contains("SIGABRT (abort) in a thread of the application's;"), "{log}");
}

#[test]
fn an_endless_loop_is_interrupted_and_waiting_is_not() {
    for setup in [setup(), in_its_own_runtime()] {
        let setup = setup.with_variable("OWN_APP_WATCHDOG", "1 s");
        let running = serve::start(&setup).expect("it starts");
        assert_eq!(get(&running, "/sleep/4000").text(), "slept 4000 ms\n");
        assert_eq!(get(&running, "/loop").status, 504, "{}", running.program_logs());
        assert_eq!(get(&running, "/sleep/1").text(), "slept 1 ms\n");
    }
}

#[test]
fn what_it_needs_may_come_later() {
    for needed in ["database", "panic", "hang"] {
        let folder = Folder::new(&setup()).expect("a folder");
        let needs = folder.path().join("run").join(needed);
        let socket = folder.path().join("run/app.sock");
        // As a web server starts it.
        let _app = Start::new(folder.path().join("bin/own-app"), folder.path().join("run/app.log"))
            .folder(folder.path())
            .variable("OWN_APP_NEEDS", &needs)
            .stdin(listening_socket(&socket).expect("a socket"))
            .start()
            .expect("it starts");
        let log = || fs::read_to_string(folder.path().join("logs/own-app.log")).unwrap_or_default();
        let get = || {
            let mut client = FastCgi::connect(&socket).expect("it listens");
            let response = client.get(id(1), false, "/").expect("a response");
            (response.status(), String::from_utf8_lossy(response.body()).into_owned())
        };
        if needed == "hang" {
            let begun = Instant::now();
            while !log().contains("could not be made: it took longer than 30 s") {
                assert!(begun.elapsed() < 3 * TIMEOUT, "{}", log());
                thread::sleep(Duration::from_millis(100));
            }
        }
        let (status, text) = get();
        assert!(
            status == 503 && text.contains("its owner can find the cause in the log"),
            "{text}"
        );
        let why = match needed {
            "hang" => {
                "Visitors get a 503: The application could not be made: it took longer than 30 s."
            }
            "panic" => {
                "Visitors get a 503: The application could not be made: it panicked: no such thing."
            }
            _ => {
                "Visitors get a 503: The application could not be made: its database is not there."
            }
        };
        assert!(log().contains(why), "{}", log());
        fs::write(&needs, "").expect("it is written");
        let begun = Instant::now();
        while get().0 != 200 {
            assert!(begun.elapsed() < TIMEOUT, "{}", log());
            thread::sleep(Duration::from_millis(100));
        }
        assert!(log().contains("The application is available again."), "{}", log());
    }
    // As CGI, each request is an attempt.
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let variables = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/"),
        ("OWN_APP_NEEDS", "/nowhere/database"),
    ];
    let answered = text(&run(&folder, &[], &variables));
    assert!(answered.starts_with("Status: 503"), "{answered}");
    // What it prints meanwhile is no part of the response.
    let variables = variables.map(|(name, value)| match name {
        "OWN_APP_NEEDS" => ("OWN_APP_PRINTS", "1"),
        _ => (name, value),
    });
    let answered = run(&folder, &[], &variables);
    let response = String::from_utf8_lossy(&answered.stdout);
    assert!(response.starts_with("Status: 200"), "{response}");
    let said = String::from_utf8_lossy(&answered.stderr);
    assert!(said.contains("printed while the router is made"), "{said}");
}

#[test]
fn events_arrive_one_by_one_and_a_websocket_is_refused_in_words() {
    for running in [
        nginx::start(&setup(), true).expect("nginx starts"),
        serve::start(&setup()).expect("it starts"),
    ] {
        let events = Request::get("/events").begin(running.address).expect("it listens");
        events.read_until(b"data: one").expect("the first event");
        assert_eq!(get(&running, "/next-event").status, 200);
        events.read_until(b"data: two").expect("the second event");

        let websocket = Request::get("/events").header("Upgrade", "websocket");
        let websocket = websocket.header("Connection", "Upgrade");
        assert_eq!(websocket.send(running.address).expect("a response").status, 501);
        let log = running.program_logs();
        assert!(log.contains("server-sent events (SSE) and ordinary requests work"), "{log}");
    }
}

#[test]
fn it_may_be_mounted_below_a_folder() {
    let folder = Folder::new(&setup()).expect("a folder");
    let app = folder.start_external(|start| start.variable("OWN_APP_BASE", "/project"));
    let _app = app.expect("it starts");
    let mut client = FastCgi::connect(&folder.path().join("run/app.sock")).expect("it listens");
    // A proxy may remove the base, or leave it.
    for (number, path) in ["/project/?a=b", "/?a=b", "/project?a=b"].into_iter().enumerate() {
        let number = u16::try_from(number + 1).expect("it is small");
        let response = client.get(id(number), true, path).expect("a response");
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(text.ends_with(" /?a=b\n"), "{path}: {text}");
    }
    let moved = client.get(id(1), true, "/project/old").expect("a response");
    let head = moved.head().to_lowercase();
    assert!(head.contains("location: /project/count\r\n"), "{head}");
    assert!(head.contains("set-cookie: visited=1; path=/project\r\n"), "{head}");
}

/// Many libraries start one as soon as they are used.
#[test]
fn with_a_thread_of_its_own_it_still_reloads_and_ends() {
    let folder = Folder::new(&setup()).expect("a folder");
    let launcher = folder.path().join("run/launcher");
    let start = |start: Start| {
        let start = start.variable("OWN_APP_STARTS_A_THREAD", "1");
        start.variable("OWN_APP_LAUNCHER", &launcher)
    };
    let mut program = folder.start_external(start).expect("it starts");
    let socket = folder.path().join("run/app.sock");
    let started = || {
        let mut client = FastCgi::connect(&socket).expect("it listens");
        let home = client.get(id(1), false, "/").expect("a response");
        let home = String::from_utf8_lossy(home.body()).into_owned();
        home.split(' ').next().expect("a word").to_owned()
    };
    let mut before = started();
    for round in 0..3 {
        if round == 2 {
            let new = folder.install_version(&find("own-app"), "own-app.new", "two");
            new.expect("a copy");
        }
        touch(&launcher).expect("the launcher is there");
        let begun = Instant::now();
        loop {
            let now = started();
            if now > before {
                before = now;
                break;
            }
            assert!(begun.elapsed() < TIMEOUT, "round {round}: {}", program.output());
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(folder.path().join("bin/own-app.previous").is_file(), "{}", program.output());
    let begun = Instant::now();
    while !program.output().contains("The program has started threads.") {
        assert!(begun.elapsed() < TIMEOUT, "{}", program.output());
        started();
        thread::sleep(Duration::from_millis(100));
    }
    let said = program.output();
    assert!(said.contains("names=\"a-pool\""), "{said}");
    assert!(said.lines().count() < 60, "it says the same again and again: {said}");
    program.signal(libc::SIGTERM).expect("it runs");
    program.wait(TIMEOUT).expect("SIGTERM ends it");
}

/// Runs the program as in a shell, in an installation of its own.
pub(crate) fn run(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(folder.path().join("bin/own-app"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(folder.path())
        .output()
        .expect("it starts")
}

pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).expect("text")
}

#[test]
fn upgrades_can_be_left_out() {
    let without = setup().with_variable("OWN_APP_WITHOUT", "upgrades");
    let running = apache_fcgid::start(&without).expect("Apache starts");
    let first = started(&running);
    touch(&running.launcher()).expect("the launcher is there");
    running.installed().install_version(&find("own-app"), "own-app.new", "two").expect("a copy");
    // Otherwise it is noticed in the second in which somebody asks.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(started(&running), first, "{}", own_log(&running));
        thread::sleep(Duration::from_millis(100));
    }
    assert!(running.folder().join("bin/own-app.new").exists());
}

#[test]
fn the_log_file_can_be_left_out() {
    let without = setup().with_variable("OWN_APP_WITHOUT", "log-file");
    let running = apache_fcgid::start(&without).expect("Apache starts");
    assert_eq!(get(&running, "/log").text(), "logged\n");
    assert!(!running.folder().join("logs/own-app.log").exists());
    let begun = Instant::now();
    while !running.program_logs().contains("INFO A visitor was here.") {
        assert!(begun.elapsed() < TIMEOUT, "{}", running.program_logs());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_command_line_can_be_left_out() {
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let socket = folder.path().join("own.sock");
    let without = [("OWN_APP_WITHOUT", "command-line")];
    let mut served = Command::new(folder.path().join("bin/own-app"))
        .args(["--help", "of", "its own"])
        .envs(without)
        .env("OWN_APP_LISTEN", format!("unix:{}", socket.display()))
        .current_dir(folder.path())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < TIMEOUT, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    stream.write_all(b"GET /count HTTP/1.0\r\n\r\n").expect("it is sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it is text");
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    served.kill().expect("it runs");
    served.wait().expect("it ends");
    // A running process still can ask.
    let checked = text(&run(&folder, &["check", "--upgrade"], &without));
    assert!(checked.contains("This version can serve."), "{checked}");
}

/// Whoever counts visitors in memory is told why there are several counts.
#[test]
fn several_processes_are_said_to_be_several() {
    let running = apache_fcgid::start(&in_its_own_runtime()).expect("Apache starts");
    let said = "Several processes serve this site";
    assert_eq!(get(&running, "/sleep/0").status, 200);
    assert!(!own_log(&running).contains(said), "{}", own_log(&running));
    let deadline = Instant::now() + TIMEOUT;
    while !own_log(&running).contains(said) {
        assert!(Instant::now() < deadline, "{}", own_log(&running));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(get(&running, "/sleep/300").status, 200));
            }
        });
    }
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let check = text(&run(&folder, &["check", "--upgrade"], &[("OWN_APP_HAS_A_RUNTIME", "1")]));
    assert!(!check.contains(said), "{check}");
}

#[test]
fn its_command_line_is_named_after_it() {
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let help = text(&run(&folder, &["--help"], &[]));
    assert!(help.contains("Usage: own-app [OPTIONS] [COMMAND]"), "{help}");
    for command in
        ["serve", "fastcgi", "request", "check", "install", "launcher", "settings", "completions"]
    {
        let help = text(&run(&folder, &[command, "--help"], &[]));
        assert!(help.contains(&format!("own-app {command}")), "{help}");
        let all = help.to_lowercase();
        assert!(!all.contains("toolshed") && !all.contains('{'), "{help}");
    }
    let home = run(&folder, &["request", "GET", "/?a=b"], &[]);
    let said = String::from_utf8(home.stdout).expect("text");
    assert!(home.status.success() && said.trim_end().ends_with(" /?a=b"), "{said}");
    let failed = run(&folder, &["request", "GET", "/panic"], &[]);
    assert_eq!(failed.status.code(), Some(5));
    assert!(text(&failed).contains("what the author did not think of"), "{}", text(&failed));

    let settings = text(&run(&folder, &["settings"], &[("OWN_APP_LISTEN", "127.0.0.1:1234")]));
    assert!(
        settings.contains("127.0.0.1:1234") && settings.contains("(OWN_APP_LISTEN)"),
        "{settings}"
    );
    let wrong = run(&folder, &["serve"], &[("OWN_APP_LISTEN", "here")]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = text(&wrong);
    assert!(said.starts_with("own-app: OWN_APP_LISTEN is \"here\"; write an address"), "{said}");
    let failed = run(&folder, &["serve"], &[("OWN_APP_NEEDS", "/nowhere/database")]);
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed);
    assert!(
        said.contains("own-app: The application could not be made: its database is not there.\n"),
        "{said}"
    );
}

#[test]
fn check_finds_what_its_owner_forgot() {
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let written = run(&folder, &["launcher", "www"], &[]);
    assert!(
        written.status.success() && text(&written).contains("Written: www/.htaccess"),
        "{}",
        text(&written)
    );
    let launcher = folder.path().join("www/dispatch.fcgi");
    fs::set_permissions(&launcher, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("chmod");
    let checked = text(&run(&folder, &["check", "www"], &[]));
    assert!(checked.contains("dispatch.fcgi is not executable"), "{checked}");
    fs::set_permissions(&launcher, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("chmod");
    let again = text(&run(&folder, &["launcher", "www"], &[]));
    assert!(again.starts_with("Both files are in www already."), "{again}");
    std::os::unix::fs::symlink(folder.path().join("bin"), folder.path().join("own-app-home"))
        .expect("a link");
    let checked = run(&folder, &["check", "www"], &[]);
    let said = text(&checked);
    assert!(checked.status.success(), "{said}");
    assert!(
        said.contains("it starts this program") && said.contains("from this version"),
        "{said}"
    );
    assert!(!said.to_lowercase().contains("toolshed.toml"), "{said}");
    folder.write("www/.htaccess", "# mine\n").expect("it is written");
    let refused = run(&folder, &["launcher", "www"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("is another one"), "{}", text(&refused));
    assert_eq!(
        fs::read_to_string(folder.path().join("www/.htaccess")).expect("it is there"),
        "# mine\n"
    );
}

#[test]
fn a_wrong_setting_is_a_page_for_visitors_and_a_line_for_the_owner() {
    let folder_setup = setup();
    let running = apache_fcgid::start(&folder_setup).expect("Apache starts");
    assert_eq!(get(&running, "/").status, 200);
    running.installed().write("own-app.toml", "idle_timeuot = 5\n").expect("it is written");
    // A process that serves goes on with the settings before.
    let begun = Instant::now();
    while !own_log(&running).contains("did you mean `idle_timeout`?") {
        assert_eq!(get(&running, "/").status, 200);
        assert!(begun.elapsed() < TIMEOUT, "{}", own_log(&running));
        touch(&running.launcher()).expect("the launcher is there");
        thread::sleep(Duration::from_millis(200));
    }
    drop(running);

    let folder = Folder::new(&folder_setup).expect("a folder");
    folder.write("own-app.toml", "idle_timeuot = 5\n").expect("it is written");
    let app = folder.start_external(|start| start).expect("it starts");
    let socket = folder.path().join("run/app.sock");
    let mut client = FastCgi::connect(&socket).expect("it listens");
    let page = client.get(id(1), false, "/").expect("a response");
    let text = String::from_utf8_lossy(page.body()).into_owned();
    assert!(page.status() == 503 && text.contains("This site is being set up"), "{text}");
    // The owner mends the file.
    folder.write("own-app.toml", "idle_timeout = 5\n").expect("it is written");
    let begun = Instant::now();
    loop {
        let mut client = FastCgi::connect(&socket).expect("it listens");
        if client.get(id(1), false, "/").expect("a response").status() == 200 {
            break;
        }
        assert!(begun.elapsed() < TIMEOUT, "{}", app.output());
        thread::sleep(Duration::from_millis(100));
    }
}
