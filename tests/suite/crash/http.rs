//! Crashes over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use end_to_end::faults::FAULTS;
use end_to_end::fixtures::{App, Running, Setup, serve};
use end_to_end::http_client::{Request, Upload};

fn server() -> Running {
    serve::start(&Setup::new(App::TestApp, "")).expect("the program starts")
}

pub(super) fn get(server: &Running, target: &str) -> String {
    let answer = Request::get(target).send(server.address);
    answer.unwrap_or_else(|error| panic!("{target}: {error}\n{}", server.said())).text()
}

pub(super) fn check_server_went_on(server: &Running, pid: &str, image: &str) {
    assert_eq!(get(server, "/pid"), pid);
    assert_ne!(get(server, "/image"), image, "it has started anew");
    assert_eq!(get(server, "/healthz"), "ok");
    assert_eq!(server.check_tasks(), Ok(()));
}

#[test]
fn every_fault_is_answered_and_so_are_other_requests() {
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
        let mut closing = request_and_close(&server, "/hang");
        assert_eq!(get(&server, "/healthz"), "ok", "all of these have been read");

        let answer = Request::get(format!("/crash/{fault}")).send(server.address);
        let answer = answer.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.said()));
        assert_eq!(answer.status, 500, "{fault}");
        assert!(answer.text().contains("-crash"), "{fault}: {}", answer.text());
        assert_eq!(hanging.finish().expect("an answer comes").status, 503, "{fault}");
        assert_eq!(uploading.finish().expect("an answer comes").status, 503, "{fault}");
        assert!(read(&mut half).starts_with("HTTP/1.1 503 "), "{fault}");
        assert!(read_until_closed(&mut closing).starts_with("HTTP/1.1 503 "), "{fault}");
        idle.write_all(healthz).expect("an idle connection is kept");
        assert!(read(&mut idle).ends_with("ok"), "{fault}");
        check_server_went_on(&server, &pid, &image);
    }
    // No body where none is to be.
    let image = get(&server, "/image");
    let answer = Request::with_method("HEAD", "/crash/null").send(server.address);
    assert_eq!(answer.expect("an answer comes").status, 500);
    check_server_went_on(&server, &pid, &image);
}

#[test]
fn a_started_response_is_truncated_and_uploads_are_read_to_the_end() {
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

#[test]
fn a_crash_closes_the_connection_of_a_client_that_reads_until_then() {
    let server = server();
    let (pid, image) = (get(&server, "/pid"), get(&server, "/image"));
    let response = read_until_closed(&mut request_and_close(&server, "/crash/null"));
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    assert_eq!(get(&server, "/pid"), pid);
    assert_ne!(get(&server, "/image"), image, "it has restarted in place");
    assert_eq!(get(&server, "/healthz"), "ok");
    assert_eq!(server.check_tasks(), Ok(()));
}

/// Sends a GET with `Connection: close`, for a client that ignores Content-Length and reads until the end.
fn request_and_close(server: &Running, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is open");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    stream
}

fn read_until_closed(stream: &mut TcpStream) -> String {
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it is closed");
    response
}
