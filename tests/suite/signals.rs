//! Signals and the limit on descriptors.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::{App, Folder, Setup, external};
use end_to_end::http_client::Request;
use end_to_end::process_table;
use end_to_end::program::{Limit, Start, listening_socket};

const TIMEOUT: Duration = Duration::from_secs(3);

fn external() -> external::External {
    external::start(&Setup::new(App::TestApp, "")).expect("the program starts")
}

#[test]
fn sigterm_ends_an_idle_program_at_once() {
    for app in [App::TestApp, App::Toolshed] {
        let mut program = external::start(&Setup::new(app, "")).expect("the program starts");
        assert_eq!(program.check_unharmed(), Ok(()));
        // An idle keep-alive connection does not delay the exit.
        let mut idle = program.connect().expect("it listens");
        idle.get(id(1), true, "/healthz").expect("a response arrives");
        thread::sleep(Duration::from_millis(200));
        program.app.signal(libc::SIGTERM).expect("it runs");
        let status = program.app.wait(TIMEOUT).expect("an idle program exits at once");
        assert_eq!(status.code(), Some(0), "{app:?} output:\n{}", program.app.output());
        assert!(!program.socket().exists(), "the socket's file is removed");
    }
}

#[test]
fn sigterm_ends_an_idle_http_server_at_once() {
    let running =
        end_to_end::fixtures::serve::start(&Setup::new(App::Toolshed, "")).expect("it starts");
    let response = Request::get("/healthz").send(running.address).expect("a response arrives");
    assert_eq!(response.status, 200);
    let started = Instant::now();
    assert_eq!(running.stop(), Ok(()));
    assert!(started.elapsed() < TIMEOUT);
}

#[test]
fn a_slow_response_completes_despite_two_sigterms() {
    let mut program = external();
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), true, "GET", "/slow?seconds=2", None);
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        program.app.signal(libc::SIGTERM).expect("it is draining");
        thread::sleep(Duration::from_millis(400));
    }
    let response = connection.finish(id(1)).expect("the response is complete");
    assert_eq!(response.body(), b"slow");
    let status = program.app.wait(TIMEOUT).expect("the program exits");
    assert_eq!(status.code(), Some(0), "output:\n{}", program.app.output());
}

#[test]
fn a_large_response_completes_while_draining() {
    let mut program = external();
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, "GET", "/large?mib=32", None);
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    while connection.received(id(1)) == 0 {
        connection.read().expect("the response begins");
    }
    program.app.signal(libc::SIGTERM).expect("it runs");
    thread::sleep(Duration::from_millis(300));
    let response = connection.finish(id(1)).expect("the response is complete");
    assert_eq!(response.body().len(), 32 << 20);
    assert_eq!(program.app.wait(TIMEOUT).expect("the program exits").code(), Some(0));
}

#[test]
fn sigpipe_does_not_end_the_program() {
    let mut program = external();
    program.app.signal(libc::SIGPIPE).expect("it runs");
    for _ in 0..20 {
        let mut connection = program.connect().expect("it listens");
        connection.begin(id(1), false, "GET", "/large?mib=8", None);
        connection.stdin_end(id(1));
        connection.flush().expect("the program reads");
        // Hang up in the middle of the response.
        connection.read().expect("the response begins");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

#[test]
fn a_spawned_program_serves_its_backlog_before_it_exits() {
    // As under mod_fcgid: the listening socket is descriptor 0, named by the parent's process id and a
    // count.
    let folder = Folder::new(&Setup::new(App::TestApp, "")).expect("a folder");
    let socket = folder.path().join(format!("run/{}.0", std::process::id()));
    let listener = listening_socket(&socket).expect("a socket");
    let mut app = Start::new(folder.program(), folder.path().join("run/app.log"))
        .stdin(listener)
        .start()
        .expect("the program starts");
    let mut first = FastCgi::connect(&socket).expect("it listens");
    assert_eq!(first.get(id(1), false, "/healthz").expect("a response arrives").body(), b"ok");
    let mut slow = FastCgi::connect(&socket).expect("it listens");
    slow.begin(id(1), false, "GET", "/slow?seconds=1", None);
    slow.stdin_end(id(1));
    slow.flush().expect("the program reads");
    thread::sleep(Duration::from_millis(300));
    // These wait in the backlog, and must be answered as well.
    let mut waiting: Vec<_> =
        (0..3).map(|_| FastCgi::connect(&socket).expect("it listens")).collect();
    for connection in &mut waiting {
        connection.begin(id(1), false, "GET", "/healthz", None);
        connection.stdin_end(id(1));
        connection.flush().expect("the program reads");
    }
    app.signal(libc::SIGTERM).expect("it runs");
    assert_eq!(slow.finish(id(1)).expect("a response arrives").body(), b"slow");
    for mut connection in waiting {
        assert_eq!(connection.finish(id(1)).expect("a response arrives").body(), b"ok");
    }
    assert_eq!(app.wait(TIMEOUT).expect("it exits").code(), Some(0), "output:\n{}", app.output());
    assert!(UnixStream::connect(&socket).is_err(), "new connections are refused");
}

#[test]
fn accepting_pauses_while_the_descriptor_table_is_full() {
    let limited = external::start_limited(
        &Setup::new(App::TestApp, ""),
        Limit::Descriptors,
        64,
        end_to_end::program::User::web_server(),
    );
    let mut program = limited.expect("the program starts");
    let pid = program.app.pid();
    // The rest wait in the backlog. Some can connect only when others have been accepted.
    let socket = program.socket();
    let held: Vec<_> = (0..200)
        .map(|_| {
            let socket = socket.clone();
            thread::spawn(move || {
                let stream = UnixStream::connect(&socket).expect("it connects");
                // A request that never ends keeps the connection open.
                (&stream).write_all(&[1, 1, 0, 1, 0, 8, 0, 0]).expect("the program reads");
                stream
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    let open = process_table::descriptors(pid).expect("it runs");
    assert!(open >= 60, "the table is full: {open} of 64");
    let before = process_table::processor_time(pid).expect("it runs");
    thread::sleep(Duration::from_secs(2));
    let used = process_table::processor_time(pid).expect("it runs") - before;
    assert!(used < Duration::from_millis(100), "it spins while the table is full: {used:?} in 2 s");
    // As these hang up, the next are accepted, until all are served.
    for stream in held {
        drop(stream.join().expect("it connected"));
    }
    assert_eq!(program.check_unharmed(), Ok(()));
    // It is logged, but does not fill the log.
    let count = program.app.output().matches("Accepting paused").count();
    assert!((1..=3).contains(&count), "logged {count} times:\n{}", program.app.output());
}
