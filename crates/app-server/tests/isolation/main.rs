//! Requests answered by child processes.
//!
//! With several threads, forking is refused; each case's process has a single one, which runs server and
//! client.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::future::poll_fn;
use std::io::{IoSlice, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::task::Poll;
use std::time::Duration;

use app_server::isolation::Limits;
use app_server::{ErrorReport, Host, Part, RequestContext, Settings};
use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::{Path as Below, Request};
use axum::routing::{any, get};
use bytes::{Bytes, BytesMut};
use case_runner::{CASE, Case, Ending::Success, Helper, NOTES, itself, run_case};
use event_loop::net::Stream;
use event_loop::time;
use http::{Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use process::descriptors;

#[path = "../suite/client.rs"]
#[allow(dead_code, reason = "the suite uses the rest of it")]
mod client;

use client::{Client, Server, id, raw_request, test};

const CASES: &[Case] = &[
    ("an_isolated_request_is_like_any_other", an_isolated_request_is_like_any_other, Success),
    ("large_bodies_over_fastcgi", large_bodies_over_fastcgi, Success),
    ("large_bodies_over_http", large_bodies_over_http, Success),
    ("the_request_reaches_the_child_in_full", the_request_reaches_the_child_in_full, Success),
    ("a_culprit_is_one_page_over_fastcgi", a_culprit_is_one_page_over_fastcgi, Success),
    ("a_culprit_is_one_page_over_http", a_culprit_is_one_page_over_http, Success),
    (
        "after_the_head_a_culprit_truncates_its_response",
        after_the_head_a_culprit_truncates_its_response,
        Success,
    ),
    ("a_culprit_while_a_body_arrives", a_culprit_while_a_body_arrives, Success),
    ("a_client_that_disconnects_ends_its_child", a_client_that_disconnects_ends_its_child, Success),
    ("requests_wait_in_order", requests_wait_in_order, Success),
    ("waiting_times_out", waiting_times_out, Success),
    ("a_slow_body_gives_up_its_process", a_slow_body_gives_up_its_process, Success),
    (
        "time_spent_waiting_for_the_client_does_not_count",
        time_spent_waiting_for_the_client_does_not_count,
        Success,
    ),
    ("the_output_of_a_child_is_passed_on", the_output_of_a_child_is_passed_on, Success),
    ("many_requests_leave_nothing_behind", many_requests_leave_nothing_behind, Success),
    (
        "requests_fail_when_no_process_can_be_created",
        requests_fail_when_no_process_can_be_created,
        Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] =
    &[("no_processes_helper", no_processes_helper), ("printing_helper", printing_helper)];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}

// ---------------------------------------------------------------------------------------------------
// The application: the same below / and, isolated, below /isolated.

fn application() -> Router {
    Router::new().merge(routes()).nest("/isolated", routes())
}

fn routes() -> Router {
    Router::new()
        .route("/process", any(async || std::process::id().to_string()))
        .route("/request", any(describe_request))
        .route("/count", any(count))
        .route("/echo", any(async |request: Request| Response::new(request.into_body())))
        .route("/stream", get(async || body_of(64, |_| {})))
        .route("/empty", any(async || http::StatusCode::NO_CONTENT))
        .route("/said", get(async || println!("a line of the handler")))
        .route(
            "/started/{how}",
            get(async |Below(how): Below<String>| {
                body_of(2, move |piece| {
                    if piece == 1 {
                        culprit(&how)
                    }
                })
            }),
        )
        .route(
            "/culprit/{how}",
            any(async |Below(how): Below<String>, request: Request| {
                if how == "reading" {
                    let mut body = request.into_body();
                    body.frame().await.unwrap().unwrap();
                    culprit("abort");
                }
                culprit(&how);
                "it came through"
            }),
        )
        .route("/forever/{how}", get(forever))
        .route("/note/{text}", get(note))
        .route("/sleep", get(async || time::sleep(Duration::from_millis(200)).await))
}

async fn describe_request(request: Request) -> String {
    let address = RequestContext::of(request.extensions()).remote_address();
    let (method, uri) = (request.method().clone(), request.uri().to_string());
    let header = request.headers().get("x-sample").map(|value| value.to_str().unwrap().to_owned());
    let size = request.body().size_hint_exact();
    format!("{method} {uri} {header:?} {address:?} {size:?}")
}

trait ExactSize {
    fn size_hint_exact(&self) -> Option<u64>;
}

impl ExactSize for AxumBody {
    fn size_hint_exact(&self) -> Option<u64> {
        http_body::Body::size_hint(self).exact()
    }
}

async fn count(request: Request) -> String {
    let mut body = request.into_body();
    let (mut bytes, mut sum) = (0, 0u64);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.into_data().unwrap();
                bytes += data.len();
                sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
            Err(error) => return format!("{bytes} bytes, then: {error}"),
        }
    }
    format!("{bytes} bytes, sum {sum}")
}

const PIECE: usize = 1 << 20;

/// A body of chunks of 1 MiB; `before` runs before each.
fn body_of(pieces: usize, before: impl Fn(usize) + Send + 'static) -> Response<AxumBody> {
    let mut next = 0;
    let stream = futures_util::stream::poll_fn(move |_| {
        if next == pieces {
            return Poll::Ready(None);
        }
        before(next);
        next += 1;
        let piece = Bytes::from(vec![next as u8; PIECE]);
        Poll::Ready(Some(Ok::<_, axum::Error>(Frame::data(piece))))
    });
    Response::new(AxumBody::new(StreamBody::new(stream)))
}

/// Responds with the pid and never ends.
async fn forever(Below(how): Below<String>) -> Response<AxumBody> {
    let mut has_started = false;
    let stream = futures_util::stream::poll_fn(move |_| {
        if std::mem::replace(&mut has_started, true) {
            if how == "loop" {
                culprit("loop");
            }
            return Poll::Pending;
        }
        let piece = format!("{}\n", std::process::id());
        Poll::Ready(Some(Ok::<_, axum::Error>(Frame::data(Bytes::from(piece)))))
    });
    Response::new(AxumBody::new(StreamBody::new(stream)))
}

/// Records that it has started, and is busy for a moment.
async fn note(Below(text): Below<String>) -> &'static str {
    let mut file = std::fs::File::options().append(true).open(notes()).unwrap();
    writeln!(file, "{text}").unwrap();
    time::sleep(Duration::from_millis(30)).await;
    writeln!(file, "-{text}").unwrap();
    "noted"
}

fn notes() -> std::path::PathBuf {
    std::env::var_os(NOTES).unwrap().into()
}

/// Everything that a tool does not do on purpose.
fn culprit(how: &str) {
    match how {
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "stack" => drop(std::hint::black_box(deep(0))),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "silence" => std::thread::sleep(Duration::from_secs(1000)),
        "memory" => {
            let mut pieces = Vec::new();
            loop {
                pieces.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&pieces);
            }
        }
        "file" => {
            let mut file = tempfile::tempfile().unwrap();
            while file.write_all(&[0; 100_000]).is_ok() {}
        }
        "quickly" => {}
        other => panic!("no such culprit: {other}"),
    }
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deep(depth: u64) -> u64 {
    std::hint::black_box([depth; 100])[50] + deep(depth + 1)
}

/// Isolates by path, and makes pages that state the cause.
struct Pages {
    /// Isolates everything below this path.
    below: &'static str,
    /// For all but the silent ones. On a busy machine a second of processor time may take many seconds:
    /// only silence reaches the wall-clock limit.
    wall: Duration,
}

impl Host for Pages {
    fn classify(&self, uri: &Uri) -> Part {
        if !uri.path().starts_with(self.below) {
            return Part::NONE;
        }
        let is_silent = uri.path().ends_with("/silence");
        let wall = if is_silent { LIMITS.wall.min(self.wall) } else { self.wall };
        Part::NONE.isolated(Limits { wall, ..LIMITS })
    }

    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        Response::builder()
            .status(report.status)
            .header("retry-after", "1")
            .body(Bytes::from(report.cause.to_string()))
            .unwrap()
    }
}

/// The server under test.
fn server(settings: Settings) -> Server {
    Server::fastcgi_of(served(settings))
}

fn http_server(settings: Settings) -> Server {
    Server::http_of(served(settings))
}

fn served(settings: Settings) -> app_server::Server<Router> {
    let host = Pages { below: "/isolated/", wall: Duration::from_secs(120) };
    app_server::Server::new(application()).settings(settings).host(host)
}

/// Small limits.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.isolated_cpu = LIMITS.cpu;
    settings.isolated_time = LIMITS.wall;
    settings.isolated_memory = LIMITS.memory;
    settings.isolated_file_size = LIMITS.file_size;
    settings
}

const LIMITS: Limits = Limits {
    cpu: Duration::from_secs(1),
    wall: Duration::from_secs(3),
    memory: 64 << 20,
    file_size: 1_000_000,
};

/// The result of each culprit: the status, and part of the cause.
const CULPRITS: &[(&str, u16, &str)] = &[
    ("panic", 500, "the application panicked: on purpose"),
    ("abort", 500, "SIGABRT"),
    ("exit", 500, "exit code 3"),
    ("stack", 500, "SIGSEGV"),
    ("loop", 504, "1 s of processor time; isolated_cpu raises that limit"),
    ("silence", 504, "not finish within 3 s; isolated_time raises that limit"),
    ("memory", 500, "more than 67108864 bytes of memory; isolated_memory raises that limit"),
    ("file", 500, "larger than 1000000 bytes; isolated_file_size raises that limit"),
];

// ---------------------------------------------------------------------------------------------------
// Cases.

fn an_isolated_request_is_like_any_other() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        let here = std::process::id().to_string();
        assert_eq!(client.get(true, "/process").await.body(), here.as_bytes());
        let answer = client.get(true, "/isolated/process").await;
        assert_eq!(answer.status(), 200);
        let there = std::str::from_utf8(answer.body()).unwrap();
        assert!(there.parse::<u32>().is_ok() && there != here, "{there}");
        // The head says the same as inline.
        for path in ["/process", "/empty", "/nowhere", "/echo"] {
            let head = |answer: client::Answer| {
                let text = answer.text().split("\r\n\r\n").next().unwrap().to_owned();
                (answer.ended, text)
            };
            let inline = head(client.get(true, path).await);
            let isolated = head(client.get(true, &format!("/isolated{path}")).await);
            assert_eq!(inline.0, isolated.0);
            assert_eq!(inline.1.len(), isolated.1.len(), "{} {}", inline.1, isolated.1);
        }
        // HEAD has no body, and its child exits.
        client.begin(1, true, "HEAD", "/isolated/process");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.answer(1).await.body(), b"");
        until_no_children().await;
    });
}

fn the_request_reaches_the_child_in_full() {
    test(async {
        let server = http_server(settings());
        let request = |path: &str| {
            format!(
                "POST {path}?a=b%2Fc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Sample: one\r\n\
                 Content-Length: 3\r\n\r\nabc"
            )
        };
        let mut answers = Vec::new();
        for path in ["/request", "/isolated/request"] {
            let mut stream = server.connect_raw().await;
            let answer = raw_request(&mut stream, request(path).as_bytes()).await;
            let body = answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
            answers.push(body.replace("/isolated", ""));
        }
        assert!(answers[0].contains("POST /request?a=b%2Fc Some(\"one\")"), "{}", answers[0]);
        assert!(answers[0].ends_with("Some(3)"), "{}", answers[0]);
        assert_eq!(answers[0], answers[1]);
    });
}

const MIB_64: usize = 64 << 20;

fn large_bodies_over_fastcgi() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/isolated/count");
        for piece in 0..64u8 {
            client.stdin(1, vec![piece; PIECE]);
            client.send().await.unwrap();
        }
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        let sum: usize = (0..64).map(|piece| piece * PIECE).sum();
        let answer = client.answer(1).await;
        assert_eq!(
            std::str::from_utf8(answer.body()).unwrap(),
            format!("{MIB_64} bytes, sum {sum}")
        );
        let answer = client.get(true, "/isolated/stream").await;
        assert!(answer.ended);
        assert_eq!(answer.body().len(), MIB_64);
        assert!(
            answer
                .body()
                .chunks(PIECE)
                .enumerate()
                .all(|(at, piece)| { piece.iter().all(|byte| usize::from(*byte) == at + 1) })
        );
        // The test held the response in this process, the server only little of it.
        until_no_children().await;
    });
}

fn large_bodies_over_http() {
    test(async {
        let server = http_server(settings());
        let head = format!(
            "POST /isolated/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {MIB_64}\r\n\r\n"
        );
        let mut stream = server.connect_raw().await;
        let answer = both_ways(&mut stream, head.as_bytes(), MIB_64).await;
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..at]));
        // The length of the echo is known, and the child has announced it.
        let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
        assert!(head.contains(&format!("content-length: {MIB_64}\r\n")), "{head}");
        let body = &answer[at..];
        assert_eq!(body.len(), MIB_64);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        until_no_children().await;
    });
}

fn pattern(at: usize) -> u8 {
    (at / 4096 % 251) as u8
}

/// Sends a head and a body, and reads the response at the same time.
async fn both_ways(stream: &mut Stream, head: &[u8], length: usize) -> Vec<u8> {
    let mut unsent = BytesMut::from(head);
    let mut made = 0;
    let (mut input, mut answer) = (BytesMut::new(), Vec::new());
    poll_fn(|context| {
        loop {
            let mut moved = false;
            if unsent.is_empty() && made < length {
                let end = (made + 65_536).min(length);
                unsent.extend((made..end).map(pattern));
                made = end;
            }
            if !unsent.is_empty() {
                let slices = [IoSlice::new(&unsent)];
                if let Poll::Ready(sent) = stream.poll_write_vectored(context, &slices) {
                    let _ = unsent.split_to(sent.unwrap());
                    moved = true;
                }
            }
            input.reserve(65_536);
            match stream.poll_read_into(context, &mut input) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {
                    answer.extend_from_slice(&input.split());
                    moved = true;
                }
                Poll::Pending => {}
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await;
    answer
}

fn a_culprit_is_one_page_over_fastcgi() {
    let here = std::process::id();
    test(async {
        let server = server(settings());
        for (how, status, words) in CULPRITS {
            let mut client = server.connect().await;
            // On the same connection, and on another.
            client.begin(2, true, "GET", "/sleep");
            client.protocol.stdin_end(id(2));
            client.begin(1, true, "GET", &format!("/isolated/culprit/{how}"));
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let mut other = server.connect().await;
            other.begin(1, true, "GET", "/isolated/sleep");
            other.protocol.stdin_end(id(1));
            other.send().await.unwrap();
            let (mut answers, mut ended) = ([Vec::new(), Vec::new()], 0);
            while ended < 2 {
                match client.event().await.unwrap() {
                    fastcgi_server::client::Event::Stdout { id, data } => {
                        answers[usize::from(id.get()) - 1].extend_from_slice(&data);
                    }
                    fastcgi_server::client::Event::End { .. } => ended += 1,
                    other => panic!("not expected: {other:?}"),
                }
            }
            let [culprit, slow] = answers.map(|answer| String::from_utf8(answer).unwrap());
            assert!(culprit.starts_with(&format!("Status: {status} ")), "{how}: {culprit}");
            assert!(culprit.contains(words), "{how}: {culprit}");
            assert!(slow.starts_with("Status: 200 "), "{how}: {slow}");
            assert_eq!(other.answer(1).await.status(), 200, "{how}");
            assert_eq!(client.get(true, "/process").await.body(), here.to_string().as_bytes());
            assert_eq!(client.get(true, "/isolated/culprit/quickly").await.status(), 200);
        }
        until_no_children().await;
    });
}

fn a_culprit_is_one_page_over_http() {
    test(async {
        let server = http_server(settings());
        for (how, status, words) in CULPRITS {
            let answer = http_get(&server, &format!("/isolated/culprit/{how}")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{how}: {answer}");
            assert!(answer.contains(words), "{how}: {answer}");
            assert!(http_get(&server, "/process").await.ends_with(&std::process::id().to_string()));
        }
        until_no_children().await;
    });
}

async fn http_get(server: &Server, path: &str) -> String {
    let mut stream = server.connect_raw().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_request(&mut stream, request.as_bytes()).await
}

fn after_the_head_a_culprit_truncates_its_response() {
    test(async {
        let fastcgi = server(settings());
        let http = http_server(settings());
        for (how, ..) in CULPRITS {
            let mut client = fastcgi.connect().await;
            let answer = client.get(true, &format!("/isolated/started/{how}")).await;
            assert!(!answer.ended, "{how}");
            assert_eq!(answer.body(), vec![1; PIECE], "{how}");
            assert_eq!(fastcgi.connect().await.get(false, "/process").await.status(), 200);

            let answer = http_get(&http, &format!("/isolated/started/{how}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{how}");
            assert!(!answer.ends_with("0\r\n\r\n"), "{how}: the response looks complete");
            assert!(http_get(&http, "/process").await.starts_with("HTTP/1.1 200 "));
        }
        // One that does nothing is complete.
        let mut client = fastcgi.connect().await;
        let answer = client.get(true, "/isolated/started/quickly").await;
        assert!(answer.ended);
        assert_eq!(answer.body().len(), 2 * PIECE);
        assert!(http_get(&http, "/isolated/started/quickly").await.ends_with("0\r\n\r\n"));
        until_no_children().await;
    });
}

fn a_culprit_while_a_body_arrives() {
    test(async {
        let server = server(settings());
        for how in ["abort", "reading", "memory", "stack"] {
            let mut client = server.connect().await;
            client.begin(1, true, "POST", &format!("/isolated/culprit/{how}"));
            // All of it can be sent, whatever happens to its reader.
            for _ in 0..64 {
                client.stdin(1, vec![0; PIECE]);
                client.send().await.unwrap();
            }
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            assert_eq!(client.answer(1).await.status(), 500, "{how}");
            assert_eq!(server.connect().await.get(false, "/process").await.status(), 200);
        }
        let http = http_server(settings());
        let head = format!(
            "POST /isolated/culprit/reading HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {MIB_64}\r\n\r\n"
        );
        let mut stream = http.connect_raw().await;
        let answer = both_ways(&mut stream, head.as_bytes(), MIB_64).await;
        assert!(answer.starts_with(b"HTTP/1.1 500 "));
        // A truncated body is reported as it is inline.
        for path in ["/count", "/isolated/count"] {
            let mut client = server.connect().await;
            let pairs: [(&[u8], &[u8]); 3] = [
                (b"REQUEST_METHOD", b"POST"),
                (b"REQUEST_URI", path.as_bytes()),
                (b"CONTENT_LENGTH", b"10"),
            ];
            assert!(client.protocol.begin(id(1), fastcgi_server::Role::Responder, true));
            client.protocol.params(id(1), pairs);
            client.protocol.params_end(id(1));
            client.stdin(1, &b"abc"[..]);
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let answer = client.answer(1).await;
            let words = "3 bytes, then: request body ended after 3 of 10 announced bytes";
            assert_eq!(std::str::from_utf8(answer.body()).unwrap(), words);
        }
        until_no_children().await;
    });
}

fn a_client_that_disconnects_ends_its_child() {
    test(async {
        let mut settings = settings();
        // Nothing else ends them.
        settings.isolated_cpu = Duration::from_secs(1000);
        settings.isolated_time = Duration::from_secs(1000);
        let fastcgi = server(settings.clone());
        let http = http_server(settings);
        for how in ["pending", "loop"] {
            let path = format!("/isolated/forever/{how}");
            let mut client = fastcgi.connect().await;
            client.begin(1, true, "GET", &path);
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let child = process_of(&mut client).await;
            assert!(is_alive(child));
            drop(client);
            until_gone(child).await;

            // Aborted, with the connection kept alive.
            let mut client = fastcgi.connect().await;
            client.begin(1, true, "GET", &path);
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let child = process_of(&mut client).await;
            client.protocol.abort(id(1));
            client.send().await.unwrap();
            until_gone(child).await;

            let mut stream = http.connect_raw().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            let slices = [IoSlice::new(request.as_bytes())];
            poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
            let mut input = BytesMut::new();
            let child = loop {
                input.reserve(4096);
                poll_fn(|context| stream.poll_read_into(context, &mut input)).await.unwrap();
                let text = std::str::from_utf8(&input).unwrap();
                let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
                if let Some(line) = body.lines().nth(1) {
                    break line.parse().unwrap();
                }
            };
            assert!(is_alive(child));
            drop(stream);
            until_gone(child).await;
        }
        until_no_children().await;
    });
}

/// Reads a response up to the line with the pid.
async fn process_of(client: &mut Client) -> u32 {
    let mut text = Vec::new();
    loop {
        if let fastcgi_server::client::Event::Stdout { data, .. } = client.event().await.unwrap() {
            text.extend_from_slice(&data);
        }
        let text = std::str::from_utf8(&text).unwrap();
        if let Some(line) = text.split("\r\n\r\n").nth(1).and_then(|body| body.split_once('\n')) {
            return line.0.parse().unwrap();
        }
    }
}

fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

async fn until_gone(process: u32) {
    while is_alive(process) {
        time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until all children have been reaped; only the test's own timeout limits this.
async fn until_no_children() {
    loop {
        let children = std::fs::read_to_string("/proc/self/task/self/children");
        let path = format!("/proc/self/task/{}/children", std::process::id());
        if children.or_else(|_| std::fs::read_to_string(path)).unwrap().trim().is_empty() {
            return;
        }
        time::sleep(Duration::from_millis(2)).await;
    }
}

fn requests_wait_in_order() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        let server = server(settings);
        let mut client = server.connect().await;
        for number in 1..=8u16 {
            client.begin(number, true, "GET", &format!("/isolated/note/{number}"));
            client.protocol.stdin_end(id(number));
        }
        client.send().await.unwrap();
        // Other requests do not wait for them.
        assert_eq!(server.connect().await.get(false, "/process").await.status(), 200);
        let mut ended = 0;
        while ended < 8 {
            if let fastcgi_server::client::Event::End { .. } = client.event().await.unwrap() {
                ended += 1;
            }
        }
        let text = std::fs::read_to_string(notes()).unwrap();
        let expected: String = (1..=8).map(|number| format!("{number}\n-{number}\n")).collect();
        assert_eq!(text, expected, "one after another, in order");

        // Four permits allow four at once, not five.
        let mut settings = self::settings();
        settings.isolated_wait = Duration::from_millis(100);
        let server = self::server(settings);
        let mut running = Vec::new();
        for _ in 0..4 {
            let mut client = server.connect().await;
            client.begin(1, true, "GET", "/isolated/forever/pending");
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            running.push((process_of(&mut client).await, client));
        }
        assert!(running.iter().all(|(child, _)| is_alive(*child)));
        assert_eq!(server.connect().await.get(false, "/isolated/process").await.status(), 503);
        running.pop();
        assert_eq!(server.connect().await.get(false, "/isolated/process").await.status(), 200);
    });
}

fn waiting_times_out() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        settings.isolated_wait = Duration::from_millis(100);
        let server = server(settings);
        let mut first = server.connect().await;
        first.begin(1, true, "GET", "/isolated/forever/pending");
        first.protocol.stdin_end(id(1));
        first.send().await.unwrap();
        let child = process_of(&mut first).await;
        let answer = server.connect().await.get(false, "/isolated/process").await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().contains("retry-after: 1"), "{}", answer.text());
        let words = "it waited 0.1 s (isolated_wait) for one of 1 processes (max_isolated)";
        assert!(answer.text().contains(words), "{}", answer.text());
        // A waiting request gets the permit of one whose client disconnects.
        let mut second = server.connect().await;
        second.begin(1, true, "GET", "/isolated/process");
        second.protocol.stdin_end(id(1));
        second.send().await.unwrap();
        drop(first);
        assert_eq!(second.answer(1).await.status(), 200);
        until_gone(child).await;
    });
}

/// A request with a slow body gives up the only process to another, and its client gets a response.
fn a_slow_body_gives_up_its_process() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        settings.receive_timeout = Duration::from_secs(60);
        let server = server(settings);
        let mut slow = server.connect().await;
        slow.begin(1, true, "POST", "/isolated/count");
        slow.stdin(1, &b"abc"[..]);
        slow.send().await.unwrap();
        let answer = server.connect().await.get(false, "/isolated/process").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(slow.answer(1).await.status(), 503);
        until_no_children().await;
    });
}

/// The child has 1.5 s in total, enough for a busy machine; the client takes longer to send and to read.
fn time_spent_waiting_for_the_client_does_not_count() {
    test(async {
        let mut settings = settings();
        settings.isolated_time = Duration::from_millis(1500);
        let host = Pages { below: "/", wall: Duration::from_millis(1500) };
        let server = app_server::Server::new(application()).settings(settings).host(host);
        let server = Server::fastcgi_of(server);
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/count");
        for _ in 0..4 {
            client.stdin(1, &b"abc"[..]);
            client.send().await.unwrap();
            // As long as a slow client takes.
            time::sleep(Duration::from_millis(500)).await;
        }
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.answer(1).await.status(), 200);

        client.begin(1, true, "GET", "/stream");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        let first = client.event().await;
        time::sleep(Duration::from_millis(3000)).await;
        let rest = client.answer(1).await;
        assert!(first.is_some() && rest.ended);

        assert_eq!(client.get(true, "/culprit/silence").await.status(), 504);
    });
}

fn the_output_of_a_child_is_passed_on() {
    let (status, output) = run_case(itself("printing_helper"));
    assert!(status.success(), "{output}");
    assert!(output.contains("a line of the handler\n"), "{output}");
    assert!(output.contains("panicked at") && output.contains("on purpose"), "{output}");
}

fn printing_helper() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        assert_eq!(client.get(true, "/isolated/said").await.status(), 200);
        assert_eq!(client.get(true, "/isolated/culprit/panic").await.status(), 500);
        until_no_children().await;
        // The last output is still on its way.
        for _ in 0..20 {
            event_loop::yield_now().await;
        }
        time::sleep(Duration::from_millis(50)).await;
    });
}

fn many_requests_leave_nothing_behind() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        let path = |round: usize| match round % 10 {
            0 => "/isolated/culprit/abort",
            1 => "/isolated/culprit/panic",
            2 => "/isolated/culprit/exit",
            3 => "/isolated/empty",
            _ => "/isolated/process",
        };
        client.get(true, path(3)).await;
        until_no_children().await;
        let before = descriptors::open_count().unwrap();
        for round in 0..200 {
            assert!(client.get(true, path(round)).await.ended);
            if round % 10 == 5 {
                // The client leaves before its response.
                let mut leaving = server.connect().await;
                leaving.begin(1, true, "GET", "/isolated/sleep");
                leaving.protocol.stdin_end(id(1));
                leaving.send().await.unwrap();
            }
        }
        until_no_children().await;
        // The last output of a child may still be on its way.
        while descriptors::open_count().unwrap() > before {
            time::sleep(Duration::from_millis(2)).await;
        }
    });
}

/// RLIMIT_NPROC counts the processes of an account but exempts root, so this runs as another user.
fn requests_fail_when_no_process_can_be_created() {
    let mut command = Command::new("prlimit");
    command.arg("--nproc=1:1");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        command.args(["setpriv", "--reuid=54322", "--clear-groups"]);
    }
    command.arg(std::env::current_exe().unwrap());
    command.env(CASE, "no_processes_helper").stdin(Stdio::null());
    let (status, output) = run_case(command);
    assert!(status.success(), "{output}");
}

fn no_processes_helper() {
    test(async {
        let mut settings = settings();
        settings.isolated_wait = Duration::from_millis(300);
        let server = server(settings);
        let mut client = server.connect().await;
        for _ in 0..3 {
            assert_eq!(client.get(true, "/process").await.status(), 200);
            let answer = client.get(true, "/isolated/process").await;
            assert_eq!(answer.status(), 503);
            assert!(answer.text().contains("retry-after"));
            assert!(
                answer.text().contains("Resource temporarily unavailable"),
                "{}",
                answer.text()
            );
        }
    });
}
