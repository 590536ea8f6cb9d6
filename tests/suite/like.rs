//! `serve --like HOST`: what fails on the host fails here, with a line that says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, serve};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::program::find;

const TIMEOUT: Duration = Duration::from_secs(20);

fn setup() -> Setup {
    Setup::new(App::OwnApp, "").with_upgrade()
}

fn like(host: &str, arguments: &[&str]) -> Running {
    serve::start_like(&setup(), host, arguments).expect("it starts")
}

fn get(running: &Running, target: &str) -> Response {
    Request::get(target).send(running.address).expect("a response")
}

/// Waits until this is at the terminal.
fn until_said(running: &Running, text: &str) {
    let begun = Instant::now();
    while !running.output().contains(text) {
        assert!(begun.elapsed() < TIMEOUT, "{text:?} is not in\n{}", running.output());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Requests, and the statuses that mod_fcgid and CGI answer with.
fn cases() -> Vec<(&'static str, Request, u16, u16)> {
    let echo = |upload| Request::post("/echo", upload);
    let chunks = |bytes| Request::post("/what-it-sees/it", Upload::Chunked(bytes));
    let long = "n".repeat(256);
    vec![
        ("a page", Request::get("/count"), 200, 200),
        ("no page", Request::get("/nowhere"), 404, 404),
        ("as long as allowed", echo(Upload::Text(vec![b'a'; 131_072])), 200, 200),
        ("longer", echo(Upload::Text(vec![b'a'; 131_073])), 500, 200),
        ("longer, in chunks", chunks(200_000), 500, 200),
        ("in chunks", chunks(100_000), 200, 200),
        ("silence", Request::get("/sleep/5000"), 500, 504),
        ("an encoded slash", Request::get("/a%2Fb"), 404, 404),
        ("a long name", Request::get(format!("/{long}")), 403, 403),
        ("a long name deeper down", Request::get(format!("/a/{long}")), 404, 404),
    ]
}

#[test]
fn apache_and_its_emulation_answer_alike() {
    let lines = "FcgidMaxRequestLen 131072\nFcgidIOTimeout 2";
    let apache = apache_fcgid::start(&setup().with_server_lines(lines)).expect("Apache starts");
    let emulated = like("mod_fcgid", &["--rule", "FcgidIOTimeout=2"]);
    for running in [&apache, &emulated] {
        for (name, request, fcgid, _) in cases() {
            let response = request.send(running.address).expect("a response");
            assert_eq!(response.status, fcgid, "{:?}: {name}", running.kind);
        }
    }
    for line in [
        "Apache would answer 500 to POST /echo: the body has 131073 bytes, and FcgidMaxRequestLen is 131072. Send it",
        "Apache would answer 500 to GET /sleep/5000: nothing came from the program for 2 s (FcgidIOTimeout), so",
        "Apache would answer 404 to GET /a%2Fb: the path contains %2F, and AllowEncodedSlashes is Off. Put",
        "FcgidOutputBufferSize      65536 bytes",
    ] {
        assert!(emulated.output().contains(line), "{line}\n{}", emulated.output());
    }
    emulated.stop().expect("it ends, and its processes");
}

#[test]
fn the_program_sees_what_it_sees_behind_apache() {
    let emulated = like("mod_fcgid", &[]);
    let request = Request::post("/what-it-sees/a%20b?c=d", Upload::Text(b"abc".to_vec()));
    let seen = request.header("X-A", "b").send(emulated.address).expect("a response").text();
    for fact in [
        "uri: /what-it-sees/a%20b?c=d",
        "base: ",
        "x-a: b",
        "SCRIPT_NAME=/dispatch.fcgi",
        "CONTENT_LENGTH=3",
    ] {
        assert!(seen.lines().any(|line| line == fact), "{fact}\n{seen}");
    }
}

#[test]
fn output_is_held_back_and_the_terminal_says_so() {
    let running = like("mod_fcgid", &["--rule", "FcgidIOTimeout=4"]);
    let events = Request::get("/events").begin(running.address).expect("it listens");
    until_said(&running, "Apache would hold this back: GET /events has sent ");
    // No event came before the host gave up: only its own page.
    let response = events.finish().expect("a response");
    assert_eq!(response.status, 500, "{}", response.text());
    assert!(!response.text().contains("data: one"), "{}", response.text());

    // Where the host has set it to 0, they come one by one.
    let running = like("mod_fcgid", &["--rule", "FcgidOutputBufferSize=0"]);
    let events = Request::get("/events").begin(running.address).expect("it listens");
    events.read_until(b"data: one").expect("the first event");
}

#[test]
fn processes_serve_one_request_at_a_time_and_share_no_memory() {
    let running = like("mod_fcgid", &["--rule", "FcgidMaxProcessesPerClass=2"]);
    let words = |response: Response| -> Vec<String> {
        response.text().split(' ').map(str::to_owned).collect()
    };
    let first = words(get(&running, "/"));
    let second = words(get(&running, "/"));
    assert_eq!((&first[1], &*second[2]), (&second[1], "2"), "one process");
    let busy = Request::get("/sleep/4000").begin(running.address).expect("it listens");
    // The first is busy: after a second another one is started, which knows of no visitor.
    thread::sleep(Duration::from_millis(200));
    let other = words(get(&running, "/"));
    assert_ne!(other[1], first[1]);
    assert_eq!(other[2], "1", "it has a memory of its own");
    assert!(running.output().contains("Process 2 of at most 2 started"), "{}", running.output());
    assert_eq!(busy.finish().expect("a response").text(), "slept 4000 ms\n");
    let pids = [&first[1], &other[1]].map(|pid| pid.parse::<u32>().expect("a number"));
    assert!(pids.iter().all(|pid| running.our_processes().contains(pid)));
}

#[test]
fn an_idle_process_is_ended() {
    let running = like("mod_fcgid", &["--rule", "FcgidIdleTimeout=1"]);
    let before = get(&running, "/").text();
    until_said(&running, "Process ended after 1 s without a request (FcgidIdleTimeout).");
    let after = get(&running, "/").text();
    assert_ne!(before.split(' ').nth(1), after.split(' ').nth(1));
}

#[test]
fn as_cgi_each_request_has_a_process() {
    let apache = apache_fcgid::start_cgi(&setup().with_server_lines("Timeout 2"));
    let apache = apache.expect("Apache starts");
    let emulated = like("cgi", &["--rule", "Timeout=2"]);
    for running in [&apache, &emulated] {
        for (name, request, _, cgi) in cases() {
            let response = request.send(running.address).expect("a response");
            assert_eq!(response.status, cgi, "{:?}: {name}", running.kind);
        }
    }
    assert_eq!(get(&emulated, "/count").text(), "1\n");
    assert_eq!(get(&emulated, "/count").text(), "1\n");
    let events = Request::get("/events").begin(emulated.address).expect("it listens");
    events.read_until(b"data: one").expect("what it writes is sent at once");
    drop(events);
    emulated.stop().expect("it ends, and its processes");
}

#[test]
fn sighup_reloads_without_a_lost_request() {
    let mut running = like("mod_fcgid", &[]);
    let started = |running: &Running| {
        let home = get(running, "/").text();
        home.split(' ').next().expect("a word").to_owned()
    };
    let before = started(&running);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (stop, address) = (stop.clone(), running.address);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let response = Request::get("/sleep/5").send(address).expect("a response");
                    assert_eq!(response.text(), "slept 5 ms\n");
                }
            })
        })
        .collect();
    running.installed().install_version(&find("own-app"), "own-app", "two").expect("a copy");
    running.signal(libc::SIGHUP).expect("it runs");
    let begun = Instant::now();
    while started(&running) <= before {
        assert!(begun.elapsed() < TIMEOUT, "{}", running.output());
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request fails");
    }
}

#[test]
fn what_a_host_would_not_have_is_said() {
    let variables = setup().with_variable("OWN_APP_WATCHDOG", "20");
    let running = serve::start_like(&variables, "mod_fcgid", &[]).expect("it starts");
    assert_eq!(get(&running, "/").status, 200);
    until_said(&running, "Variable OWN_APP_WATCHDOG is set here, but a host starts the program");
}

#[test]
fn on_cloudlinux_no_thread_can_be_started_and_the_terminal_says_why() {
    let running = like("cloudlinux", &["--rule", "EP=2"]);
    assert_eq!(get(&running, "/thread").status, 500);
    until_said(&running, "CloudLinux would refuse the thread: NPROC counts threads like processes");
    assert_eq!(get(&running, "/count").status, 200, "it goes on");
    // Of three at the same time, one is too many.
    let busy: Vec<_> = (0..2)
        .map(|_| Request::get("/sleep/3000").begin(running.address).expect("it listens"))
        .collect();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(get(&running, "/count").status, 508);
    for busy in busy {
        assert_eq!(busy.finish().expect("a response").status, 200);
    }
    assert_eq!(get(&running, "/count").status, 200);
    assert!(running.output().contains("(EP), and CloudLinux refuses more"), "{}", running.output());
    // It is not the program: elsewhere it has its thread.
    assert_eq!(get(&like("mod_fcgid", &[]), "/thread").status, 200);
}
