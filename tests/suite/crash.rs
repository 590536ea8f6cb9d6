//! Code that goes wrong for good takes nobody's answer along: real faults against real processes.
//!
//! What every visitor got, that the process stayed the same, that the next request is served. The faults
//! are in `end_to_end::faults`; here the ways in are ours, behind web servers see `servers.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::faults::FAULTS;
use end_to_end::fcgi_client::{Answer, FastCgi, id};
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Kind, Running, Setup, apache_fcgid, nginx, serve};
use end_to_end::http_client::{Request, Upload, pattern};
use end_to_end::process_table;
use fastcgi_server::ProtocolStatus;

use crate::servers::start_with;

const COMPLETE: (u32, ProtocolStatus) = (0, ProtocolStatus::RequestComplete);
const CUT_OFF: (u32, ProtocolStatus) = (1, ProtocolStatus::RequestComplete);

/// The program behind a FastCGI socket.
fn program() -> External {
    external::start(&Setup::new(App::TestApp, "")).expect("the program starts")
}

/// Begins a GET and does not wait for its answer.
fn begin(connection: &mut FastCgi, number: u16, target: &str) {
    connection.begin(id(number), true, "GET", target, None);
    connection.stdin_end(id(number));
    connection.flush().expect("the program reads");
}

/// Asks on a connection of its own.
fn ask(program: &External, target: &str) -> String {
    let answer = program.connect().and_then(|mut it| it.get(id(1), false, target));
    let answer = answer.unwrap_or_else(|error| panic!("{target}: {error}\n{}", program.app.said()));
    String::from_utf8_lossy(answer.body()).into_owned()
}

/// Checks that the program went on, as another image in the same process, since it was this one.
fn check_went_on(program: &mut External, image: &str) {
    assert_eq!(ask(program, "/pid"), program.app.pid().to_string());
    assert_ne!(ask(program, "/image"), image, "it has started anew:\n{}", program.app.said());
    assert_eq!(program.check_unharmed(), Ok(()));
}

/// The reference in a page; the log has it too, in the line of the crash.
fn check_reference(program: &str, said: &str, answer: &Answer) {
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    let reference = body
        .split(|letter: char| letter.is_whitespace() || letter == '<')
        .find(|word| word.ends_with("-crash"))
        .unwrap_or_else(|| panic!("{program}: the page has a reference: {body}"));
    let line = said.lines().find(|line| line.contains(reference));
    let line = line.unwrap_or_else(|| panic!("{program}: {reference} is in the log:\n{said}"));
    assert!(line.contains("/crash/"), "it names the path: {line}");
}

#[test]
fn every_fault_is_answered_and_so_are_the_others() {
    let mut program = program();
    for fault in FAULTS {
        let image = ask(&program, "/image");
        // Another connection, one that waits for its body, one of which a part has come, and an idle one.
        let mut other = program.connect().expect("it listens");
        begin(&mut other, 1, "/hang");
        let mut uploading = program.connect().expect("it listens");
        uploading.begin(id(1), true, "POST", "/echo", Some(1000));
        uploading.stdin(id(1), Bytes::from_static(b"the beginning"));
        uploading.flush().expect("the program reads");
        let mut idle = program.connect().expect("it listens");
        idle.get(id(1), true, "/healthz").expect("an answer comes");
        assert_eq!(ask(&program, "/healthz"), "ok", "all these have been read");

        // The culprit's own connection carries others too.
        let mut culprit = program.connect().expect("it listens");
        begin(&mut culprit, 7, "/hang");
        begin(&mut culprit, 300, &format!("/crash/{fault}"));
        let answer = culprit.finish(id(300));
        let answer =
            answer.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", program.app.said()));
        assert_eq!((answer.status(), answer.end), (500, Some(COMPLETE)), "{fault}");
        check_reference(fault, &program.app.said(), &answer);
        let neighbour = culprit.finish(id(7)).expect("an answer comes");
        assert_eq!((neighbour.status(), neighbour.end), (503, Some(COMPLETE)), "{fault}");

        assert_eq!(other.finish(id(1)).expect("an answer comes").status(), 503, "{fault}");
        // It may go on sending what nobody wants any more.
        assert_eq!(uploading.finish(id(1)).expect("an answer comes").status(), 503, "{fault}");
        uploading.stdin(id(1), Bytes::from(vec![1; 987]));
        uploading.stdin_end(id(1));
        let _ = uploading.flush();
        // These two were kept for the program that came after.
        let answer = idle.get(id(1), true, "/healthz").expect("an idle connection is kept");
        assert_eq!(answer.body(), b"ok", "{fault}");
        let answer = culprit.get(id(1), true, "/healthz").expect("an answered one is kept too");
        assert_eq!(answer.body(), b"ok", "{fault}");
        check_went_on(&mut program, &image);
    }
    let said = program.app.said();
    for word in ["SIGABRT", "SIGSEGV", "SIGFPE", "SIGILL", "Stack overflow", "(memory)"] {
        assert!(said.contains(word), "the log says {word}:\n{said}");
    }
}

#[test]
fn an_answer_that_has_begun_is_cut_off_where_it_can_be_seen() {
    let mut program = program();
    for bytes in [1, 10_000, 100_000] {
        let image = ask(&program, "/image");
        // Alone on its connection: only the end of that tells.
        let mut alone = program.connect().expect("it listens");
        begin(&mut alone, 1, &format!("/crash/null?after={bytes}"));
        assert!(alone.finish(id(1)).is_err(), "it is closed before the end");
        assert!(alone.received(id(1)) > bytes, "what was sent has arrived");
        check_went_on(&mut program, &image);

        // Not alone: the others' answers would go with it.
        let image = ask(&program, "/image");
        let mut shared = program.connect().expect("it listens");
        begin(&mut shared, 2, "/hang");
        begin(&mut shared, 3, &format!("/crash/null?after={bytes}"));
        let cut = shared.finish(id(3)).expect("it is ended");
        assert_eq!(cut.end, Some(CUT_OFF));
        assert_eq!(shared.finish(id(2)).expect("an answer comes").status(), 503);
        check_went_on(&mut program, &image);
    }
}

#[test]
fn a_record_that_is_half_sent_is_completed_before_others_are_answered() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut connection = program.connect().expect("it listens");
    begin(&mut connection, 1, "/large?mib=64");
    begin(&mut connection, 2, "/hang");
    // Nobody reads: the socket is full, in the middle of a record. Then somebody else crashes.
    thread::sleep(Duration::from_millis(200));
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/abort");
    // The handler waits for us to read, but not for long.
    let reader = thread::spawn(move || {
        let large = connection.finish(id(1)).expect("it is ended");
        assert_eq!(large.end, Some(CUT_OFF));
        assert!(large.body().len() < 64 << 20, "the rest never came");
        let hanging = connection.finish(id(2)).expect("an answer comes");
        assert_eq!((hanging.status(), hanging.end), (503, Some(COMPLETE)));
    });
    assert_eq!(culprit.finish(id(1)).expect("an answer comes").status(), 500);
    reader.join().expect("every record was whole");
    check_went_on(&mut program, &image);
}

#[test]
fn whoever_does_not_read_is_not_waited_for() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut deaf = program.connect().expect("it listens");
    begin(&mut deaf, 1, "/large?mib=64");
    begin(&mut deaf, 2, "/hang");
    thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/abort");
    assert_eq!(culprit.finish(id(1)).expect("an answer comes").status(), 500);
    assert_eq!(ask(&program, "/healthz"), "ok");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(deaf);
    check_went_on(&mut program, &image);
}

#[test]
fn a_large_upload_does_not_take_the_answer_back() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut connection = program.connect().expect("it listens");
    let length = 64_u64 << 20;
    connection.begin(id(1), false, "POST", "/crash/null?read=100000", Some(length));
    // As mod_fcgid does: all of the body first, then the answer is read.
    for _ in 0..length / pattern().len() as u64 {
        connection.stdin(id(1), Bytes::from_static(pattern()));
        connection.flush().expect("it is read to its end");
    }
    connection.stdin_end(id(1));
    connection.flush().expect("it is read to its end");
    let answer = connection.finish(id(1)).expect("the answer has not been taken back");
    assert_eq!(answer.status(), 500);
    check_went_on(&mut program, &image);
}

#[test]
fn a_loop_is_ended_by_the_watchdog() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut other = program.connect().expect("it listens");
    begin(&mut other, 1, "/hang");
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/loop");
    assert_eq!(culprit.finish(id(1)).expect("an answer comes").status(), 504);
    assert_eq!(other.finish(id(1)).expect("an answer comes").status(), 503);
    check_went_on(&mut program, &image);
    let said = program.app.said();
    assert!(said.contains("(watchdog) in loop: GET /crash/loop"), "{said}");
}

/// The program on each of the two event loops.
fn on_each_loop() -> [(&'static str, External); 2] {
    let setup = Setup::new(App::TestApp, "");
    let in_tokio = external::start_with(&setup, |start, _| start.variable("TEST_APP_TOKIO", "1"));
    [("our own", program()), ("tokio's", in_tokio.expect("the program starts"))]
}

#[test]
fn waiting_and_quiet_are_no_stall_on_either_loop() {
    // The watchdog's limit is 30 s by default, 2 s in the test application.
    let time = Duration::from_secs(if end_to_end::is_long() { 40 } else { 5 });
    let each = on_each_loop().map(|(name, mut program)| {
        thread::spawn(move || {
            let image = ask(&program, "/image");
            let seconds = time.as_secs();
            assert_eq!(ask(&program, &format!("/slow?seconds={seconds}")), "slow", "{name}");
            thread::sleep(time);
            assert_eq!(ask(&program, "/image"), image, "{name}: {}", program.app.said());
            assert_eq!(program.check_unharmed(), Ok(()), "{name}");
            wait_until_nothing_wakes_it(&mut program);
        })
    });
    for checked in each {
        checked.join().expect("it goes on");
    }
}

#[test]
fn a_busy_task_of_tokios_is_no_stall_and_a_loop_is() {
    let [_, (_, mut program)] = on_each_loop();
    let image = ask(&program, "/image");
    assert_eq!(ask(&program, "/busy?seconds=5"), "busy");
    assert_eq!(ask(&program, "/image"), image, "{}", program.app.said());
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/loop");
    assert_eq!(culprit.finish(id(1)).expect("an answer comes").status(), 504);
    check_went_on(&mut program, &image);
}

#[test]
fn a_stopped_process_is_nobodys_fault_and_an_idle_one_is_left_asleep() {
    let mut program = program();
    let image = ask(&program, "/image");
    let pid = program.app.pid();
    let mut waiting = program.connect().expect("it listens");
    begin(&mut waiting, 1, "/slow?seconds=5");
    process_table::signal(pid, libc::SIGSTOP).expect("it runs");
    // Longer than the watchdog's limit.
    thread::sleep(Duration::from_secs(4));
    process_table::signal(pid, libc::SIGCONT).expect("it runs");
    let answer = waiting.finish(id(1)).expect("an answer comes");
    assert_eq!(answer.body(), b"slow");
    assert_eq!(ask(&program, "/image"), image, "nothing has started anew");
    wait_until_nothing_wakes_it(&mut program);
}

/// Waits until the watchdog's timer stops: a few seconds after the last request.
fn wait_until_nothing_wakes_it(program: &mut External) {
    let pid = program.app.pid();
    program
        .app
        .wait_until("its timer stood still", || {
            let before = process_table::processor_time(pid).expect("it runs");
            let switches = switches(pid);
            thread::sleep(Duration::from_millis(1500));
            let same = process_table::processor_time(pid).expect("it runs") == before;
            same && self::switches(pid) == switches
        })
        .expect("it sleeps");
}

fn is_asleep(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status.lines().any(|line| line.starts_with("State:\tS"))
}

/// How often a process has gone to sleep.
fn switches(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.expect("Linux tells").to_owned()
}

#[test]
fn what_crashes_again_and_again_is_left_alone_in_all_processes() {
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
        let answer = connection.get(id(1), false, "/crash/null").expect("an answer comes");
        assert_eq!(answer.status(), 500);
    }
    for program in [&mut first, &mut second] {
        // Each looks once a second.
        thread::sleep(Duration::from_millis(1100));
        let mut connection = program.connect().expect("it listens");
        let answer = connection.get(id(1), true, "/crash/null").expect("an answer comes");
        assert_eq!(answer.status(), 503);
        let head = answer.head().to_lowercase();
        let seconds = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect(&head);
        assert!((30..=60).contains(&seconds), "{seconds}");
        // The rest of the site, and other parts, go on.
        assert_eq!(program.check_unharmed(), Ok(()));
        let answer = connection.get(id(1), true, "/crash/panic").expect("an answer comes");
        assert_eq!(answer.status(), 500);
        let said = program.app.said();
        assert!(said.contains("null quarantined for"), "{said}");
    }
}

#[test]
fn a_signal_from_outside_ends_an_idle_program_and_a_crash_at_the_start_too() {
    for signal in [libc::SIGSEGV, libc::SIGABRT] {
        for serves_first in [false, true] {
            let mut program = program();
            if serves_first {
                ask(&program, "/healthz");
                // The answer is here before the program has done with it.
                let pid = program.app.pid();
                program.app.wait_until("it slept", || is_asleep(pid)).expect("it does");
            }
            process_table::signal(program.app.pid(), signal).expect("it runs");
            let status = program.app.wait(Duration::from_secs(10)).expect("it ends");
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), Some(signal));
        }
    }
}

#[test]
fn panics_are_told_with_place_and_way() {
    let mut program = program();
    let mut connection = program.connect().expect("it listens");
    let answer = connection.get(id(1), true, "/panic?secret=1").expect("an answer comes");
    assert_eq!(answer.status(), 500);
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    let reference = body.split("Reference: ").nth(1).expect("it has one").trim();
    // The names are found by a child, which takes its time.
    let log = program.socket().with_file_name("app.log");
    let way = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("test_app::panic"));
    program.app.wait_until("the way to the panic is in the log", way).expect("it comes");
    let said = program.app.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(reference)).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("this handler panics, as the test wants"), "{said}");
    assert!(lines[0].contains("test_app.rs:") && lines[0].contains("/panic"), "{said}");
    assert!(lines[1].contains("Backtrace of panic"), "{said}");
    assert!(said.contains("test_app::panic"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    // In the middle of an answer only the log is left to tell.
    begin(&mut connection, 1, "/crash/panic?after=10");
    assert!(connection.finish(id(1)).is_err());
    assert!(program.app.said().contains("Response truncated: panic: this code panics"));
}

#[test]
fn the_program_that_runs_starts_anew_and_not_what_lies_in_its_place() {
    let mut program = program();
    let image = ask(&program, "/image");
    // An upload in progress: nothing that could run, and nobody has checked it.
    let file = std::fs::read_link(format!("/proc/{}/exe", program.app.pid())).expect("it runs");
    std::fs::rename(&file, file.with_extension("former")).expect("it can be renamed");
    std::fs::write(&file, "half of a program").expect("it can be written");
    let mut connection = program.connect().expect("it listens");
    let answer = connection.get(id(1), false, "/crash/null").expect("an answer comes");
    assert_eq!(answer.status(), 500);
    check_went_on(&mut program, &image);
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
        .wait_until("it drained", || std::os::unix::net::UnixStream::connect(&socket).is_err())
        .expect("it does");
    begin(&mut culprit, 2, "/crash/abort");
    assert_eq!(culprit.finish(id(2)).expect("an answer comes").status(), 500);
    assert_eq!(culprit.finish(id(1)).expect("an answer comes").status(), 503);
    assert_eq!(hanging.finish(id(1)).expect("an answer comes").status(), 503);
    let status = program.app.wait(Duration::from_secs(10)).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", program.app.said());
}

#[test]
fn over_cgi_a_crash_is_answered_where_nothing_is_out_yet() {
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
        let said = String::from_utf8_lossy(&output.stderr);
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with(expected), "{query}: {answer}\n{said}");
        assert_eq!(answer.contains("-crash"), query.is_empty(), "{query}: {answer}");
        assert!(said.contains("in null: GET /crash/null. 0 other requests in flight"), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
}

// ------------------------------------------------------------------------------------------------
// The same over HTTP.

fn server() -> Running {
    serve::start(&Setup::new(App::TestApp, "")).expect("the program starts")
}

fn get(server: &Running, target: &str) -> String {
    let answer = Request::get(target).send(server.address);
    answer.unwrap_or_else(|error| panic!("{target}: {error}\n{}", server.said())).text()
}

fn check_server_went_on(server: &Running, pid: &str, image: &str) {
    assert_eq!(get(server, "/pid"), pid);
    assert_ne!(get(server, "/image"), image, "it has started anew");
    assert_eq!(get(server, "/healthz"), "ok");
    assert_eq!(server.check_tasks(), Ok(()));
}

/// Begins a GET of whoever reads until the server closes, and counts no bytes.
fn ask_to_close(server: &Running, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is open");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    stream
}

fn read_until_closed(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is closed");
    answer
}

#[test]
fn over_http_every_fault_is_answered_and_so_are_the_others() {
    let server = server();
    let pid = get(&server, "/pid");
    for fault in FAULTS {
        let image = get(&server, "/image");
        let hanging = Request::get("/hang").begin(server.address).expect("it listens");
        let upload = Request::post("/echo", Upload::Counted(1 << 20));
        let uploading = upload.begin_upload(server.address, 1000).expect("it listens");
        let mut half = TcpStream::connect(server.address).expect("it listens");
        half.write_all(b"GET /healthz HTTP/1.1\r\nHo").expect("it reads");
        let mut idle = TcpStream::connect(server.address).expect("it listens");
        let healthz = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let read = |stream: &mut TcpStream| {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).expect("an answer comes");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        idle.write_all(healthz).expect("it reads");
        assert!(read(&mut idle).ends_with("ok"));
        let mut reader = ask_to_close(&server, "/hang");
        assert_eq!(get(&server, "/healthz"), "ok", "all these have been read");

        let answer = Request::get(format!("/crash/{fault}")).send(server.address);
        let answer = answer.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.said()));
        assert_eq!(answer.status, 500, "{fault}");
        assert!(answer.text().contains("-crash"), "{fault}: {}", answer.text());
        assert_eq!(hanging.finish().expect("an answer comes").status, 503, "{fault}");
        assert_eq!(uploading.finish().expect("an answer comes").status, 503, "{fault}");
        assert!(read(&mut half).starts_with("HTTP/1.1 503 "), "{fault}");
        assert!(read_until_closed(&mut reader).starts_with("HTTP/1.1 503 "), "{fault}");
        idle.write_all(healthz).expect("an idle connection is kept");
        assert!(read(&mut idle).ends_with("ok"), "{fault}");
        check_server_went_on(&server, &pid, &image);
    }
    let image = get(&server, "/image");
    let answer = read_until_closed(&mut ask_to_close(&server, "/crash/null"));
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    check_server_went_on(&server, &pid, &image);
    // No body where none is to be.
    let image = get(&server, "/image");
    let answer = Request::with_method("HEAD", "/crash/null").send(server.address);
    assert_eq!(answer.expect("an answer comes").status, 500);
    check_server_went_on(&server, &pid, &image);
}

#[test]
fn over_http_an_answer_that_has_begun_breaks_off_and_uploads_are_read_to_their_end() {
    let server = server();
    let pid = get(&server, "/pid");
    for bytes in [1, 10_000, 10_000_000] {
        let image = get(&server, "/image");
        let answer = Request::get(format!("/crash/null?after={bytes}")).send(server.address);
        assert!(answer.is_err(), "it ends early: {answer:?}");
        check_server_went_on(&server, &pid, &image);
    }
    let image = get(&server, "/image");
    let upload = Request::post("/crash/null?read=100000", Upload::Counted(64 << 20));
    // All of it first, then the answer is read.
    let answer = upload.begin(server.address).expect("it is read to its end").finish();
    assert_eq!(answer.expect("the answer has not been taken back").status, 500);
    check_server_went_on(&server, &pid, &image);
    let image = get(&server, "/image");
    assert_eq!(Request::get("/crash/loop").send(server.address).expect("in the end").status, 504);
    check_server_went_on(&server, &pid, &image);
}

// ------------------------------------------------------------------------------------------------
// Behind real web servers.

/// Faults of each kind, behind a web server: what the visitors got, that the process stayed, that the
/// web server noticed nothing.
fn check_behind(server: &Running) {
    let pid = get(server, "/pid");
    for fault in ["null", "stack", "double-free", "malloc", "memory", "loop"] {
        let image = get(server, "/image");
        // Behind mod_fcgid it may be another process that is asked now.
        let target = format!("/crash/{fault}");
        let answer = Request::get(&*target).send(server.address);
        let answer = answer.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.said()));
        let expected = if fault == "loop" { 504 } else { 500 };
        assert_eq!(answer.status, expected, "{fault}: {}\n{}", answer.text(), server.said());
        assert!(answer.text().contains("-crash"), "{fault}: {}", answer.text());
        check_server_went_on(server, &pid, &image);
    }
    // In the middle of the response: the client can see that it is incomplete.
    let image = get(server, "/image");
    let answer = Request::get("/crash/null?after=1000000").send(server.address);
    // mod_fcgid ends an answer without a length as if it were whole, whatever the program does. One with a
    // length is too short.
    let looks_whole = answer.is_ok();
    assert_eq!(looks_whole, server.kind == Kind::ApacheFcgid, "{}", server.said());
    check_server_went_on(server, &pid, &image);
    let image = get(server, "/image");
    let answer = Request::get("/crash/null?after=1000000&length=2000000").send(server.address);
    assert!(answer.is_err(), "it ends early");
    check_server_went_on(server, &pid, &image);
    // With a large upload arriving.
    let image = get(server, "/image");
    let upload = Request::post("/crash/null?read=100000", Upload::Counted(64 << 20));
    let answer = upload.send(server.address).expect("an answer comes");
    assert_eq!(answer.status, 500, "{}\n{}", answer.text(), server.said());
    check_server_went_on(server, &pid, &image);
}

#[test]
fn behind_apache_mod_fcgid_no_process_ends() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("FcgidMaxProcessesPerClass 1\n");
    let server = apache_fcgid::start(&setup).expect("Apache starts");
    check_behind(&server);
    let said = server.said();
    for word in ["End of script output before headers", "Premature end", "exit(", "graceful kill"] {
        assert!(!said.contains(word), "Apache says {word}:\n{said}");
    }
    let spawned = said.matches("dispatch.fcgi(").count() - said.matches(") exit(").count();
    assert_eq!(spawned, 1, "one process was spawned:\n{said}");
}

#[test]
fn behind_nginx_with_kept_connections_all_are_answered() {
    let server = nginx::start(&Setup::new(App::TestApp, ""), true).expect("nginx starts");
    check_behind(&server);
    // Others in flight meanwhile.
    let image = get(&server, "/image");
    let pid = get(&server, "/pid");
    let hanging: Vec<_> =
        (0..8).map(|_| Request::get("/hang").begin(server.address).expect("it listens")).collect();
    assert_eq!(get(&server, "/healthz"), "ok");
    let answer = Request::get("/crash/abort").send(server.address).expect("an answer comes");
    assert_eq!(answer.status, 500);
    for hanging in hanging {
        assert_eq!(hanging.finish().expect("an answer comes").status, 503);
    }
    check_server_went_on(&server, &pid, &image);
}

// ------------------------------------------------------------------------------------------------
// The real program, with its own tool for it.

/// Culprits of the tool *diagnostics* that run inline, no more of a group than a tool may crash.
const INLINE: [&[(&str, u16)]; 3] = [
    &[("abort", 500), ("segv", 500), ("stack", 500)],
    &[("memory", 500), ("double-free", 500), ("overrun", 500)],
    &[("malloc", 500), ("loop", 504)],
];

fn inline_culprits(way: &str) {
    for group in INLINE {
        let server = start_with(way, |base| {
            Setup::new(App::Toolshed, base)
                .with_variable("TOOLSHED_PUBLIC", "all,diagnostics")
                .with_variable("TOOLSHED_MEMORY", "128 MiB")
                .with_variable("TOOLSHED_WATCHDOG", "2 s")
        });
        let ask = |path: &str| {
            let answer = Request::get(path).below(server.base).send(server.address);
            answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", server.said()))
        };
        let crash = |how: &str| {
            let path = format!("/tools/diagnostics/crash?how={how}&runs=inline");
            let answer = Request::post(path, Upload::Text(b"a=b".to_vec())).below(server.base);
            let answer = answer.send(server.address);
            answer.unwrap_or_else(|error| panic!("{how}: {error}\n{}", server.said()))
        };
        assert_eq!(ask("/healthz").text(), "ok");
        let before = server.our_processes();
        for (how, status) in group {
            let answer = crash(how);
            assert_eq!(answer.status, *status, "{how}: {}\n{}", answer.text(), server.said());
            let page = answer.text();
            assert!(page.contains("-crash") && page.contains("</html>"), "{how}: {page}");
            assert_eq!(ask("/healthz").text(), "ok", "after {how}");
            assert_eq!(server.our_processes(), before, "after {how}:\n{}", server.said());
        }
        if group.len() == 3 {
            let answer = crash("abort");
            assert_eq!(answer.status, 503, "{}\n{}", answer.text(), server.said());
            assert!(answer.text().contains("temporarily unavailable"), "{}", answer.text());
            assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
            assert_eq!(ask("/").status, 200, "the rest of the site goes on");
            assert_eq!(server.our_processes(), before);
        }
        let said = server.said();
        assert!(!said.contains("End of script output before headers"), "{said}");
        assert!(said.contains(" in diagnostics: POST /tools/diagnostics/crash"), "{said}");
        assert_eq!(server.check_tasks(), Ok(()));
    }
}

#[test]
fn inline_culprits_behind_mod_fcgid() {
    inline_culprits("mod_fcgid in /project");
}

#[test]
fn inline_culprits_behind_nginx_with_kept_connections() {
    inline_culprits("nginx, connections kept");
}

#[test]
fn inline_culprits_over_http() {
    inline_culprits("serve");
}
