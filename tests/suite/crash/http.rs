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
    let response = Request::get(target).send(server.address);
    response.unwrap_or_else(|error| panic!("{target}: {error}\n{}", server.output())).text()
}

pub(super) fn check_restarted(server: &Running, pid: &str, image: &str) {
    assert_eq!(get(server, "/pid"), pid);
    assert_ne!(get(server, "/image"), image, "it has restarted in place");
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
            let count = stream.read(&mut bytes).expect("a response arrives");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        idle.write_all(healthz).expect("it reads");
        assert!(read(&mut idle).ends_with("ok"));
        let mut closing = request_and_close(&server, "/hang");
        assert_eq!(get(&server, "/healthz"), "ok", "all of these have been read");

        let response = Request::get(format!("/crash/{fault}")).send(server.address);
        let response =
            response.unwrap_or_else(|error| panic!("{fault}: {error}\n{}", server.output()));
        assert_eq!(response.status, 500, "{fault}");
        assert!(response.text().contains("-crash"), "{fault}: {}", response.text());
        assert_eq!(hanging.finish().expect("a response arrives").status, 503, "{fault}");
        assert_eq!(uploading.finish().expect("a response arrives").status, 503, "{fault}");
        assert!(read(&mut half).starts_with("HTTP/1.1 503 "), "{fault}");
        assert!(read_until_closed(&mut closing).starts_with("HTTP/1.1 503 "), "{fault}");
        idle.write_all(healthz).expect("the idle connection is handed over");
        assert!(read(&mut idle).ends_with("ok"), "{fault}");
        check_restarted(&server, &pid, &image);
    }
    // A response to HEAD has no body.
    let image = get(&server, "/image");
    let response = Request::with_method("HEAD", "/crash/null").send(server.address);
    assert_eq!(response.expect("a response arrives").status, 500);
    check_restarted(&server, &pid, &image);
}

#[test]
fn a_started_response_is_truncated_and_uploads_are_read_to_the_end() {
    let server = server();
    let pid = get(&server, "/pid");
    for bytes in [1, 10_000, 10_000_000] {
        let image = get(&server, "/image");
        let response = Request::get(format!("/crash/null?after={bytes}")).send(server.address);
        assert!(response.is_err(), "it ends early: {response:?}");
        check_restarted(&server, &pid, &image);
    }
    let image = get(&server, "/image");
    let upload = Request::post("/crash/null?read=100000", Upload::Counted(64 << 20));
    // The whole body is sent before the response is read.
    let response = upload.begin(server.address).expect("the body is read to its end").finish();
    assert_eq!(response.expect("the response is still there").status, 500);
    check_restarted(&server, &pid, &image);
    let image = get(&server, "/image");
    assert_eq!(Request::get("/crash/loop").send(server.address).expect("a response").status, 504);
    check_restarted(&server, &pid, &image);
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
