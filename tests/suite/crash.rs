//! Crashes of real processes: every client gets a response, the process keeps its id, and the next request is
//! served.
//!
//! The faults are in `end_to_end::faults`. Here: FastCGI and CGI; the modules below have the rest.

mod culprits;
mod http;
mod watchdog;
mod web_servers;

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::faults::FAULTS;
use end_to_end::fcgi_client::{FastCgi, Response, id};
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Setup};
use end_to_end::http_client::pattern;
use end_to_end::process_table;
use fastcgi_server::ProtocolStatus;

const COMPLETE: (u32, ProtocolStatus) = (0, ProtocolStatus::RequestComplete);
const CUT_OFF: (u32, ProtocolStatus) = (1, ProtocolStatus::RequestComplete);

/// The program behind a FastCGI socket.
fn program() -> External {
    external::start(&Setup::new(App::TestApp, "")).expect("the program starts")
}

/// Starts a GET without waiting for its response.
fn begin(connection: &mut FastCgi, number: u16, target: &str) {
    connection.begin(id(number), true, "GET", target, None);
    connection.stdin_end(id(number));
    connection.flush().expect("the program reads");
}

/// Sends a GET on a new connection and returns the body.
fn ask(program: &External, target: &str) -> String {
    let response = program.connect().and_then(|mut it| it.get(id(1), false, target));
    let response =
        response.unwrap_or_else(|error| panic!("{target}: {error}\n{}", program.app.output()));
    String::from_utf8_lossy(response.body()).into_owned()
}

/// Checks that the process has restarted in place since it was `image`.
fn check_restarted(program: &mut External, image: &str) {
    assert_eq!(ask(program, "/pid"), program.app.pid().to_string());
    assert_ne!(
        ask(program, "/image"),
        image,
        "it has restarted in place:\n{}",
        program.app.output()
    );
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// Checks that the page has a reference, and that the log has it in the line of the crash.
fn check_reference(program: &str, output: &str, response: &Response) {
    let body = String::from_utf8_lossy(response.body()).into_owned();
    let reference = body
        .split(|letter: char| letter.is_whitespace() || letter == '<')
        .find(|word| word.ends_with("-crash"))
        .unwrap_or_else(|| panic!("{program}: no reference in the page: {body}"));
    let line = output.lines().find(|line| line.contains(reference));
    let line =
        line.unwrap_or_else(|| panic!("{program}: {reference} is not in the log:\n{output}"));
    assert!(line.contains("/crash/"), "the path is missing: {line}");
}

#[test]
fn every_fault_is_answered_and_so_are_other_requests() {
    let mut program = program();
    for fault in FAULTS {
        let image = ask(&program, "/image");
        // In flight: another request, and an upload of which a part has arrived. And an idle connection.
        let mut other = program.connect().expect("it listens");
        begin(&mut other, 1, "/hang");
        let mut uploading = program.connect().expect("it listens");
        uploading.begin(id(1), true, "POST", "/echo", Some(1000));
        uploading.stdin(id(1), Bytes::from_static(b"the beginning"));
        uploading.flush().expect("the program reads");
        let mut idle = program.connect().expect("it listens");
        idle.get(id(1), true, "/healthz").expect("a response arrives");
        assert_eq!(ask(&program, "/healthz"), "ok", "all of these have been read");

        // The culprit's connection carries another request.
        let mut culprit = program.connect().expect("it listens");
        begin(&mut culprit, 7, "/hang");
        begin(&mut culprit, 300, &format!("/crash/{fault}"));
        let response = culprit.finish(id(300));
        let response =
            response.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", program.app.output()));
        assert_eq!((response.status(), response.end), (500, Some(COMPLETE)), "{fault}");
        check_reference(fault, &program.app.output(), &response);
        let neighbor = culprit.finish(id(7)).expect("a response arrives");
        assert_eq!((neighbor.status(), neighbor.end), (503, Some(COMPLETE)), "{fault}");

        assert_eq!(other.finish(id(1)).expect("a response arrives").status(), 503, "{fault}");
        // The client may continue to send the rest of its body.
        assert_eq!(uploading.finish(id(1)).expect("a response arrives").status(), 503, "{fault}");
        uploading.stdin(id(1), Bytes::from(vec![1; 987]));
        uploading.stdin_end(id(1));
        let _ = uploading.flush();
        // The restarted program has inherited these two.
        let response = idle.get(id(1), true, "/healthz").expect("idle connections are handed over");
        assert_eq!(response.body(), b"ok", "{fault}");
        let response = culprit.get(id(1), true, "/healthz").expect("so is this one");
        assert_eq!(response.body(), b"ok", "{fault}");
        check_restarted(&mut program, &image);
    }
    let output = program.app.output();
    for word in ["SIGABRT", "SIGSEGV", "SIGFPE", "SIGILL", "Stack overflow", "(memory)"] {
        assert!(output.contains(word), "the log says {word}:\n{output}");
    }
}

#[test]
fn a_started_response_is_visibly_truncated() {
    let mut program = program();
    for bytes in [1, 10_000, 100_000] {
        let image = ask(&program, "/image");
        // A single request on its connection: closing is the only signal.
        let mut single = program.connect().expect("it listens");
        begin(&mut single, 1, &format!("/crash/null?after={bytes}"));
        assert!(single.finish(id(1)).is_err(), "it is closed before the end");
        assert!(single.received(id(1)) > bytes, "everything that was sent has arrived");
        check_restarted(&mut program, &image);

        // Another request on the connection: it must not be closed.
        let image = ask(&program, "/image");
        let mut shared = program.connect().expect("it listens");
        begin(&mut shared, 2, "/hang");
        begin(&mut shared, 3, &format!("/crash/null?after={bytes}"));
        let cut = shared.finish(id(3)).expect("it is ended");
        assert_eq!(cut.end, Some(CUT_OFF));
        assert_eq!(shared.finish(id(2)).expect("a response arrives").status(), 503);
        check_restarted(&mut program, &image);
    }
}

#[test]
fn a_half_sent_record_is_completed_first() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut connection = program.connect().expect("it listens");
    begin(&mut connection, 1, "/large?mib=64");
    begin(&mut connection, 2, "/hang");
    // Nobody reads, so the socket fills up in the middle of a record. Then another request crashes.
    thread::sleep(Duration::from_millis(200));
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/abort");
    // The crash guard waits for the client to read, but not for long.
    let reader = thread::spawn(move || {
        let large = connection.finish(id(1)).expect("it is ended");
        assert_eq!(large.end, Some(CUT_OFF));
        assert!(large.body().len() < 64 << 20, "the rest never came");
        let hanging = connection.finish(id(2)).expect("a response arrives");
        assert_eq!((hanging.status(), hanging.end), (503, Some(COMPLETE)));
    });
    assert_eq!(culprit.finish(id(1)).expect("a response arrives").status(), 500);
    reader.join().expect("every record was complete");
    check_restarted(&mut program, &image);
}

#[test]
fn a_client_that_does_not_read_does_not_delay_the_restart() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut stalled = program.connect().expect("it listens");
    begin(&mut stalled, 1, "/large?mib=64");
    begin(&mut stalled, 2, "/hang");
    thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/abort");
    assert_eq!(culprit.finish(id(1)).expect("a response arrives").status(), 500);
    assert_eq!(ask(&program, "/healthz"), "ok");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(stalled);
    check_restarted(&mut program, &image);
}

#[test]
fn a_large_upload_still_gets_its_response() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut connection = program.connect().expect("it listens");
    let length = 64_u64 << 20;
    connection.begin(id(1), false, "POST", "/crash/null?read=100000", Some(length));
    // Like mod_fcgid: sends the whole body before it reads the response.
    for _ in 0..length / pattern().len() as u64 {
        connection.stdin(id(1), Bytes::from_static(pattern()));
        connection.flush().expect("the body is read to its end");
    }
    connection.stdin_end(id(1));
    connection.flush().expect("the body is read to its end");
    let response = connection.finish(id(1)).expect("the response is still there");
    assert_eq!(response.status(), 500);
    check_restarted(&mut program, &image);
}

fn is_asleep(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status.lines().any(|line| line.starts_with("State:\tS"))
}

#[test]
fn repeated_crashes_quarantine_a_part_in_all_processes() {
    let setup = Setup::new(App::TestApp, "");
    let mut first = external::start_with(&setup, |start, folder| {
        start.variable("TEST_APP_STATE", folder.join("run"))
    })
    .expect("the program starts");
    let state = first.folder().join("run");
    let mut second =
        external::start_with(&setup, |start, _| start.variable("TEST_APP_STATE", &state))
            .expect("the program starts");
    for program in [&first, &second, &first] {
        let mut connection = program.connect().expect("it listens");
        let response = connection.get(id(1), false, "/crash/null").expect("a response arrives");
        assert_eq!(response.status(), 500);
    }
    for program in [&mut first, &mut second] {
        // Each process checks once a second.
        thread::sleep(Duration::from_millis(1100));
        let mut connection = program.connect().expect("it listens");
        let response = connection.get(id(1), true, "/crash/null").expect("a response arrives");
        assert_eq!(response.status(), 503);
        let head = response.head().to_lowercase();
        let seconds = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect(&head);
        assert!((30..=60).contains(&seconds), "{seconds}");
        // The rest of the site, and other parts, are not affected.
        assert_eq!(program.check_unharmed(), Ok(()));
        let response = connection.get(id(1), true, "/crash/panic").expect("a response arrives");
        assert_eq!(response.status(), 500);
        let output = program.app.output();
        assert!(output.contains("3 crashes within 30 s. part=\"null\""), "{output}");
    }
}

#[test]
fn a_fatal_signal_ends_a_program_with_no_request_in_flight() {
    for signal in [libc::SIGSEGV, libc::SIGABRT] {
        for serves_first in [false, true] {
            let mut program = program();
            if serves_first {
                ask(&program, "/healthz");
                // The response may arrive before the program is idle.
                let pid = program.app.pid();
                program.app.wait_until("it sleeps", || is_asleep(pid)).expect("it does");
            }
            process_table::signal(program.app.pid(), signal).expect("it runs");
            let status = program.app.wait(Duration::from_secs(10)).expect("it ends");
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), Some(signal));
        }
    }
}

#[test]
fn panics_are_logged_with_location_and_backtrace() {
    let mut program = program();
    let mut connection = program.connect().expect("it listens");
    let response = connection.get(id(1), true, "/panic?secret=1").expect("a response arrives");
    assert_eq!(response.status(), 500);
    let body = String::from_utf8_lossy(response.body()).into_owned();
    let reference = body.split("Reference: ").nth(1).expect("it has one").trim();
    // A child symbolizes the backtrace, which takes a while.
    let log = program.socket().with_file_name("app.log");
    let has_backtrace =
        || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("test_app::panic"));
    program.app.wait_until("the backtrace is in the log", has_backtrace).expect("it is logged");
    let output = program.app.output();
    let lines: Vec<_> = output.lines().filter(|line| line.contains(reference)).collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert!(lines[0].contains("this handler panics, as the test wants"), "{output}");
    assert!(lines[0].contains("test_app.rs:") && lines[0].contains("/panic"), "{output}");
    assert!(lines[1].contains("Backtrace of panic"), "{output}");
    assert!(output.contains("test_app::panic"), "{output}");
    assert!(!output.contains("secret"), "{output}");
    // In the middle of a response, only the log can report it.
    begin(&mut connection, 1, "/crash/panic?after=10");
    assert!(connection.finish(id(1)).is_err());
    assert!(program.app.output().contains("Response truncated: panic: this code panics"));
}

#[test]
fn a_restart_in_place_runs_the_same_program_not_the_file_at_its_path() {
    let mut program = program();
    let image = ask(&program, "/image");
    // A partial upload: it is neither executable nor checked.
    let file = std::fs::read_link(format!("/proc/{}/exe", program.app.pid())).expect("it runs");
    std::fs::rename(&file, file.with_extension("former")).expect("it can be renamed");
    std::fs::write(&file, "half of a program").expect("it can be written");
    let mut connection = program.connect().expect("it listens");
    let response = connection.get(id(1), false, "/crash/null").expect("a response arrives");
    assert_eq!(response.status(), 500);
    check_restarted(&mut program, &image);
}

#[test]
fn a_crash_while_draining_is_answered_and_ends_the_process() {
    let mut program = program();
    let mut hanging = program.connect().expect("it listens");
    begin(&mut hanging, 1, "/hang");
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/hang");
    assert_eq!(ask(&program, "/healthz"), "ok", "these have been read");
    program.app.signal(libc::SIGTERM).expect("it runs");
    let socket = program.socket();
    program
        .app
        .wait_until("it drains", || std::os::unix::net::UnixStream::connect(&socket).is_err())
        .expect("it does");
    begin(&mut culprit, 2, "/crash/abort");
    assert_eq!(culprit.finish(id(2)).expect("a response arrives").status(), 500);
    assert_eq!(culprit.finish(id(1)).expect("a response arrives").status(), 503);
    assert_eq!(hanging.finish(id(1)).expect("a response arrives").status(), 503);
    let status = program.app.wait(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", program.app.output());
}

#[test]
fn over_cgi_a_crash_is_answered_unless_the_response_has_started() {
    for (query, expected) in [("", "Status: 500 "), ("after=10", "Status: 200 ")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_test-app"))
            .env_clear()
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("REQUEST_METHOD", "GET")
            .env("REQUEST_URI", format!("/crash/null?{query}"))
            .env("SCRIPT_NAME", "")
            .env("PATH_INFO", "/crash/null")
            .env("QUERY_STRING", query)
            .env("SERVER_PROTOCOL", "HTTP/1.1")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("it starts");
        let log = String::from_utf8_lossy(&output.stderr);
        let response = String::from_utf8_lossy(&output.stdout);
        assert!(response.starts_with(expected), "{query}: {response}\n{log}");
        assert_eq!(response.contains("-crash"), query.is_empty(), "{query}: {response}");
        assert!(log.contains("in null: GET /crash/null. 0 other requests in flight"), "{log}");
        assert_eq!(output.status.code(), Some(1));
    }
}
