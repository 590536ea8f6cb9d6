//! CGI and the shell's transport: one request per process. The tests start this very binary as the
//! program.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use app_server::Transport;
use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::{any, get};
use bytes::Bytes;
use http_body_util::BodyExt;

/// Names the application that the program serves.
const APPLICATION: &str = "TEST_APPLICATION";

/// Not a test: the program, when one of the tests starts this binary as such.
#[test]
fn program() {
    let Ok(application) = std::env::var(APPLICATION) else { return };
    let router = match application.as_str() {
        "failed_handlers" => crate::failed_handlers::router(),
        "responses" => crate::responses::router(),
        _ => router(),
    };
    let served = app_server::Server::new(router).run(Transport::Cgi);
    if let Err(error) = &served {
        eprintln!("program: {error}");
    }
    std::process::exit(if served.is_ok() { 0 } else { 1 });
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "front" }))
        .route("/echo", any(|body: AxumBody| async { body }))
        .route("/length", any(length))
        .route("/unread", any(|| async { "not read" }))
        .route("/panic", get(|| async { if true { panic!("a bug, with a secret") } else { "" } }))
        .route(
            "/print",
            get(|| async {
                println!("stray words");
                "not stray"
            }),
        )
        .route(
            "/sleep",
            get(|| async {
                event_loop::time::sleep(std::time::Duration::from_millis(5)).await;
                "slept"
            }),
        )
        .route("/large", any(|| async { Bytes::from(vec![b'x'; 3_000_000]) }))
}

async fn length(body: AxumBody) -> String {
    match body.collect().await {
        Ok(body) => body.to_bytes().len().to_string(),
        Err(error) => error.to_string(),
    }
}

/// The result of running the program.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it wrote from `Status:` on.
    pub(crate) output: Vec<u8>,
    pub(crate) success: bool,
    errors: String,
}

impl Ran {
    #[track_caller]
    fn text(&self) -> &str {
        assert!(self.success, "{self:?}");
        std::str::from_utf8(&self.output).unwrap()
    }

    #[track_caller]
    fn body(&self) -> &str {
        self.text().split_once("\r\n\r\n").unwrap().1
    }
}

/// The program with these variables, not started yet.
fn program_with(application: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cgi::program", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(APPLICATION, application)
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program once, as Apache does: the whole body is sent before anything is read.
pub(crate) fn run(application: &str, variables: &[(&str, &str)], body: &[u8]) -> Ran {
    let mut child = program_with(application, variables).spawn().unwrap();
    // A program that exits early is not the sender's problem.
    let _ = child.stdin.take().unwrap().write_all(body);
    finish(child)
}

fn finish(child: Child) -> Ran {
    let done = child.wait_with_output().unwrap();
    // The test harness has printed something before.
    let start = done.stdout.windows(8).position(|window| window == b"Status: ");
    Ran {
        output: done.stdout[start.unwrap_or(done.stdout.len())..].to_vec(),
        success: done.status.success(),
        errors: String::from_utf8(done.stderr).unwrap(),
    }
}

const GET: (&str, &str) = ("REQUEST_METHOD", "GET");
const POST: (&str, &str) = ("REQUEST_METHOD", "POST");

#[test]
fn one_request_then_exit() {
    for (uri, body) in [("/", "front"), ("/sleep", "slept"), ("/unread", "not read")] {
        assert_eq!(run("", &[GET, ("REQUEST_URI", uri)], b"").body(), body, "{uri}");
    }
    let ran = run("", &[GET, ("REQUEST_URI", "/")], b"");
    assert!(ran.text().starts_with("Status: 200 OK\r\ncontent-type: text/plain"), "{ran:?}");
    assert_eq!(run("", &[GET, ("REQUEST_URI", "/large")], b"").body().len(), 3_000_000);
}

#[test]
fn bodies_of_all_lengths() {
    let chunked = ("HTTP_TRANSFER_ENCODING", "chunked");
    // CONTENT_LENGTH, another variable, bytes sent, what the handler reports
    for (length, other, sent, expected) in [
        ("5", GET, 5, "5"),
        ("5", GET, 9, "5"),
        ("5", GET, 3, "request body ended after 3 of 5 announced bytes"),
        ("0", GET, 0, "0"),
        ("", GET, 4, "0"),
        ("", chunked, 4, "4"),
        ("-1", GET, 1_000_000, "1000000"),
        ("1000000", GET, 1_000_000, "1000000"),
    ] {
        let variables = [POST, ("REQUEST_URI", "/length"), ("CONTENT_LENGTH", length), other];
        let variables: Vec<_> = variables.into_iter().filter(|it| *it != GET).collect();
        let ran = run("", &variables, &vec![b'x'; sent]);
        assert_eq!(ran.body(), expected, "{length:?} {sent}");
    }
}

#[test]
fn does_not_wait_for_a_body_that_does_not_arrive() {
    // The web server leaves descriptor 0 open and sends nothing.
    let mut child = program_with("", &[GET, ("REQUEST_URI", "/length")]).spawn().unwrap();
    let stdin = child.stdin.take();
    assert_eq!(finish(child).body(), "0");
    drop(stdin);
}

#[test]
fn a_body_may_be_any_kind_of_file() {
    let variables = [POST, ("REQUEST_URI", "/length"), ("CONTENT_LENGTH", "5")];
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"12345 and more").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let child = program_with("", &variables).stdin(file).spawn().unwrap();
    assert_eq!(finish(child).body(), "5", "a file");

    let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.write_all(b"12345").unwrap();
    let child = program_with("", &variables).stdin(OwnedFd::from(far)).spawn().unwrap();
    assert_eq!(finish(child).body(), "5", "a socket");

    let child = program_with("", &variables).stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(
        finish(child).body(),
        "request body ended after 0 of 5 announced bytes",
        "/dev/null"
    );
}

#[test]
fn a_web_server_that_sends_everything_before_reading_does_not_deadlock() {
    let sent = vec![b'x'; 3_000_000];
    for uri in ["/echo", "/large"] {
        let variables = [POST, ("REQUEST_URI", uri), ("CONTENT_LENGTH", "3000000")];
        assert_eq!(run("", &variables, &sent).body().len(), 3_000_000, "{uri}");
    }
}

#[test]
fn an_unread_body_is_discarded() {
    let variables = [POST, ("REQUEST_URI", "/unread"), ("CONTENT_LENGTH", "3000000")];
    let mut child = program_with("", &variables).spawn().unwrap();
    let sent = child.stdin.take().unwrap().write_all(&vec![0; 3_000_000]);
    assert!(sent.is_ok(), "{sent:?}");
    assert_eq!(finish(child).body(), "not read");
}

#[test]
fn failures_are_answered() {
    let ran = run("", &[GET, ("REQUEST_URI", "/panic")], b"");
    assert!(ran.text().starts_with("Status: 500 "), "{ran:?}");
    assert!(ran.body().contains("Reference: ") && !ran.body().contains("secret"), "{ran:?}");
    let ran = run("", &[("REQUEST_METHOD", "G T"), ("REQUEST_URI", "/")], b"");
    assert!(ran.text().starts_with("Status: 400 "), "{ran:?}");
    // Not even a method.
    let ran = run("", &[], b"");
    assert!(ran.text().starts_with("Status: 400 "), "{ran:?}");
}

#[test]
fn stray_output_stays_out_of_the_response() {
    let ran = run("", &[GET, ("REQUEST_URI", "/print")], b"");
    assert_eq!(ran.body(), "not stray");
    assert!(ran.errors.contains("stray words"), "{ran:?}");
}

#[test]
fn an_unread_response_is_an_error() {
    let mut child = program_with("", &[GET, ("REQUEST_URI", "/large")]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let ran = finish(child);
    assert!(!ran.success);
    assert!(ran.errors.contains("Cannot write the response in full"), "{ran:?}");
}

mod shell {
    use http::{Request, StatusCode};

    use super::*;

    fn ask(request: Request<Option<OwnedFd>>) -> (Result<StatusCode, app_server::Error>, String) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let status = app_server::Server::new(router()).request(request, writer.into());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (status, text)
    }

    #[test]
    fn a_response_is_printed() {
        let (status, text) = ask(Request::get("/").body(None).unwrap());
        assert_eq!(status.unwrap(), 200);
        assert_eq!(
            text,
            "200 OK\ncontent-type: text/plain; charset=utf-8\ncontent-length: 5\n\nfront"
        );
        let (status, text) = ask(Request::get("/nowhere").body(None).unwrap());
        assert_eq!(status.unwrap(), 404);
        assert_eq!(text, "404 Not Found\ncontent-length: 0\n\n");
        let (status, _) = ask(Request::get("/panic").body(None).unwrap());
        assert_eq!(status.unwrap(), 500);
    }

    #[test]
    fn a_body_comes_from_a_file_or_a_pipe() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let (_, text) = ask(Request::post("/length").body(Some(file.into())).unwrap());
        assert!(text.ends_with("\n\n5"), "{text}");

        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"123").unwrap();
        drop(writer);
        let (_, text) = ask(Request::post("/echo").body(Some(reader.into())).unwrap());
        assert!(text.ends_with("\n\n123"), "{text}");
    }
}
