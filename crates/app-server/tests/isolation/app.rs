//! The application under test, the same below / and, isolated, below /isolated; its servers; how its culprits end.

use std::io::Write;
use std::task::Poll;
use std::time::Duration;

use app_server::isolation::Limits;
use app_server::{ErrorReport, Failed, Host, Part, RequestContext, Settings};
use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::{Path as Below, Request};
use axum::routing::{any, get};
use bytes::Bytes;
use case_runner::NOTES;
use event_loop::time;
use http::{Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::client::Server;

pub(crate) fn application() -> Router {
    Router::new().merge(routes()).nest("/isolated", routes())
}

fn routes() -> Router {
    Router::new()
        .route("/process", any(async || std::process::id().to_string()))
        .route("/request", any(describe_request))
        .route("/count", any(count))
        .route("/echo", any(async |request: Request| Response::new(request.into_body())))
        .route("/stream", get(async || body_of(64, |_| {})))
        .route("/failing", get(failing))
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

async fn failing() -> Response<AxumBody> {
    let mut response = Response::default();
    response.extensions_mut().insert(Failed {
        status: http::StatusCode::BAD_GATEWAY,
        message: None,
        why: "the other side is gone".to_owned(),
    });
    response
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

pub(crate) async fn count(request: Request) -> String {
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

pub(crate) const PIECE: usize = 1 << 20;

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
pub(crate) async fn forever(Below(how): Below<String>) -> Response<AxumBody> {
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
pub(crate) async fn note(Below(text): Below<String>) -> &'static str {
    let mut file = std::fs::File::options().append(true).open(notes()).unwrap();
    writeln!(file, "{text}").unwrap();
    time::sleep(Duration::from_millis(30)).await;
    writeln!(file, "-{text}").unwrap();
    "noted"
}

pub(crate) fn notes() -> std::path::PathBuf {
    std::env::var_os(NOTES).unwrap().into()
}

/// Everything that a tool does not do on purpose.
pub(crate) fn culprit(how: &str) {
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
pub(crate) struct Pages {
    /// Isolates everything below this path.
    pub(crate) below: &'static str,
    /// For all but the silent ones. On a busy machine a second of processor time may take many seconds:
    /// only silence reaches the wall-clock limit.
    pub(crate) wall: Duration,
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
pub(crate) fn server(settings: Settings) -> Server {
    Server::fastcgi_of(served(settings))
}

pub(crate) fn http_server(settings: Settings) -> Server {
    Server::http_of(served(settings))
}

fn served(settings: Settings) -> app_server::Server<Router> {
    let host = Pages { below: "/isolated/", wall: Duration::from_secs(120) };
    app_server::Server::new(application()).settings(settings).host(host)
}

/// Small limits.
pub(crate) fn settings() -> Settings {
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
pub(crate) const CULPRITS: &[(&str, u16, &str)] = &[
    ("panic", 500, "the application panicked: on purpose"),
    ("abort", 500, "SIGABRT"),
    ("exit", 500, "exit code 3"),
    ("stack", 500, "SIGSEGV"),
    ("loop", 504, "1 s of processor time; isolated_cpu raises that limit"),
    ("silence", 504, "not finish within 3 s; isolated_time raises that limit"),
    ("memory", 500, "more than 67108864 bytes of memory; isolated_memory raises that limit"),
    ("file", 500, "larger than 1000000 bytes; isolated_file_size raises that limit"),
];
