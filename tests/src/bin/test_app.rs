//! The application behind the web servers: it reports the requests it gets.
//!
//! `test-app` serves its inherited listening socket; `test-app TRANSPORT` (such as `fastcgi:unix:PATH` or
//! `http:127.0.0.1:8080`) opens one. Environment variables:
//!
//! - `TEST_APP_CANCELLED`: a file that gets one byte for each handler that was dropped before its end (a file,
//!   because behind mod_fcgid another process may get the request for the count).
//! - `TEST_APP_STATE`: the folder in which its processes share what has crashed.
//! - `TEST_APP_TOKIO`: it runs inside a tokio runtime.
//! - `TEST_APP_LOG_PANICS`: it logs as tracing-subscriber does by default, which panics if standard error cannot
//!   be written.
//! - `TEST_APP_UPGRADE`: a folder; it upgrades to newer versions. It watches the launcher (`TOOLSHED_LAUNCHER`,
//!   or the file `launcher` in the folder), its own file, and the file `configuration` in the folder, which it
//!   reads at startup; if that says "broken", the check fails. Its version follows the last `VERSION=` in its
//!   own file.

use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use app_server::{
    Allocator, Body, Host, Part, RequestContext, Server, Settings, Transport, Upgrade,
};
use axum::Router;
use axum::extract::{Extension, Path, RawQuery, Request};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use end_to_end::faults;
use end_to_end::http_client::{Checksum, pattern};
use http::{StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::BodyExt;

fn main() -> ExitCode {
    // Log errors are reported by a macro that panics if standard error cannot be written.
    let log_panics = std::env::var_os("TEST_APP_LOG_PANICS").is_some();
    let log = tracing_subscriber::fmt().log_internal_errors(log_panics);
    log.with_writer(std::io::stderr).with_ansi(false).init();
    let upgrade = Upgraded::init();
    if std::env::args().nth(1).as_deref() == Some("--check") {
        return check();
    }
    let transport = match std::env::args().nth(1) {
        Some(text) => text.parse::<Transport>().map_err(|error| error.to_string()),
        None => Transport::inherited().ok_or_else(|| {
            "descriptor 0 is not a listening socket; name one: test-app fastcgi:unix:PATH"
                .to_owned()
        }),
    };
    let result = transport.and_then(|transport| {
        let server = Server::new(router()).settings(settings()).upgrade(upgrade).host(Crashing);
        let ended = match std::env::var_os("TEST_APP_TOKIO") {
            Some(_) => server.run_in_tokio(transport),
            None => server.run(transport),
        };
        ended.map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-app: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets the log say that a crash was due to a lack of memory.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Each fault is a part of its own.
struct Crashing;

impl Host for Crashing {
    fn classify(&self, uri: &Uri) -> Part {
        let how = uri.path().strip_prefix("/crash/").and_then(|rest| rest.split('/').next());
        how.map_or(Part::NONE, |how| Part::named(how.to_owned()))
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    // As in the documented configurations of web servers.
    settings.base_variable = "TOOLSHED_BASE".to_owned();
    settings.memory = Some(256 << 20);
    settings.watchdog = Some(Duration::from_secs(2));
    settings.state_folder = std::env::var_os("TEST_APP_STATE").map(Into::into);
    settings
}

/// What a version prints that has passed its own check.
const MARKER: &str = "this test-app can serve";

/// What this version found at startup.
struct Upgraded {
    version: String,
    configuration: String,
}

static UPGRADED: OnceLock<Upgraded> = OnceLock::new();

impl Upgraded {
    /// Finds out the version, and starts watching, if upgrades are enabled.
    fn init() -> Option<Upgrade> {
        let folder = PathBuf::from(std::env::var_os("TEST_APP_UPGRADE")?);
        let program = std::env::current_exe().ok()?;
        let launcher = std::env::var_os("TOOLSHED_LAUNCHER").map(PathBuf::from);
        let configuration = folder.join("configuration");
        // Watch first, read afterwards: no change in between is missed.
        let upgrade = Upgrade::new(program, ["--check"], MARKER)
            .launcher(Some(launcher.unwrap_or_else(|| folder.join("launcher"))))
            .file(configuration.clone())
            .verdicts(folder.join("verdicts"));
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        let tail = String::from_utf8_lossy(&own[own.len().saturating_sub(64)..]).into_owned();
        UPGRADED.get_or_init(|| Upgraded {
            version: format!(
                "{}@{}",
                tail.rsplit_once("VERSION=").map_or("none", |(_, version)| version),
                start.map_or(0, |start| start.as_nanos()),
            ),
            configuration: std::fs::read_to_string(configuration).unwrap_or_default(),
        });
        Some(upgrade)
    }
}

fn check() -> ExitCode {
    match UPGRADED.get().map(|upgraded| upgraded.configuration.trim()) {
        Some("broken") => {
            eprintln!("test-app: the configuration is broken");
            ExitCode::FAILURE
        }
        _ => {
            println!("{MARKER}");
            ExitCode::SUCCESS
        }
    }
}

/// The version, its start time, the configuration, the process id.
async fn version() -> String {
    let (version, configuration) =
        UPGRADED.get().map_or(("none", ""), |it| (it.version.as_str(), it.configuration.trim()));
    format!("{version} [{configuration}] {}", std::process::id())
}

fn router() -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/", get(async || "the front page"))
        .route("/healthz", get(async || "ok"))
        .route("/echo", any(echo))
        .route("/echo/", any(echo))
        .route("/echo/{*rest}", any(echo))
        .route("/large", get(large))
        .route("/slow", any(slow))
        .route("/busy", get(busy))
        .route("/hang", any(hang))
        .route("/hold", any(hold))
        .route("/drip", get(drip))
        .route("/unread", any(async || "not read"))
        .route("/panic", get(panic))
        .route("/crash/{how}", any(crash))
        .route("/image", get(image))
        .route("/pid", get(async || std::process::id().to_string()))
        .route("/cancelled", get(cancelled))
        .route("/tasks", get(tasks))
        .route("/print", get(print))
        .route("/variable", get(variable))
        .route("/head/{what}", any(head))
}

/// Reports the request as JSON.
async fn echo(Extension(request_context): Extension<RequestContext>, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    let mut checksum = Checksum::default();
    let mut bytes = 0_u64;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    checksum.update(data);
                    bytes += data.len() as u64;
                }
            }
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()])
        .collect();
    let report = serde_json::json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "base": request_context.base().as_str(),
        "headers": headers,
        "body_bytes": bytes,
        "sha256": checksum.hex(),
    });
    ([(header::CONTENT_TYPE, "application/json")], report.to_string()).into_response()
}

/// Responds with `mib` MiB of the pattern that clients upload.
async fn large(RawQuery(query): RawQuery) -> Response {
    let mib: u64 = number(query.as_deref(), "mib").unwrap_or(1);
    Response::new(axum::body::Body::new(Pattern { left: mib << 20 }))
}

/// Responds after `seconds`, or `milliseconds`.
async fn slow(RawQuery(query): RawQuery) -> String {
    let guard = CountIfDropped;
    let seconds = number(query.as_deref(), "seconds").unwrap_or(0);
    let milliseconds = number(query.as_deref(), "milliseconds").unwrap_or(0);
    event_loop::time::sleep(Duration::from_millis(seconds * 1000 + milliseconds)).await;
    std::mem::forget(guard);
    "slow".to_owned()
}

/// Responds after `seconds` in which a tokio task computes, but yields to all others.
async fn busy(RawQuery(query): RawQuery) -> &'static str {
    let end =
        Instant::now() + Duration::from_secs(number(query.as_deref(), "seconds").unwrap_or(1));
    let computing = tokio::spawn(async move {
        while Instant::now() < end {
            tokio::task::yield_now().await;
        }
    });
    computing.await.expect("it does not panic");
    "busy"
}

/// Keeps the request's body for `seconds` and never reads it.
async fn hold(RawQuery(query): RawQuery, request: Request) -> &'static str {
    let seconds = number(query.as_deref(), "seconds").unwrap_or(1);
    event_loop::time::sleep(Duration::from_secs(seconds)).await;
    drop(request);
    "held"
}

/// Never responds.
async fn hang() -> &'static str {
    let _guard = CountIfDropped;
    std::future::pending::<()>().await;
    "never"
}

/// Responds without end, a piece every 20 ms: mod_fcgid notices a closed connection only when it writes to it.
async fn drip() -> Response {
    Response::new(axum::body::Body::new(Drip {
        _guard: CountIfDropped,
        pause: event_loop::time::sleep(Duration::ZERO),
    }))
}

async fn panic() -> &'static str {
    panic!("this handler panics, as the test wants")
}

/// Makes a fault happen, named by the path (see `faults.rs`): at once; with `after=N`, after that many bytes of
/// the response (`length=N` announces its length); with `read=N`, after that many bytes of the request's body.
async fn crash(Path(how): Path<String>, RawQuery(query): RawQuery, request: Request) -> Response {
    let wanted = number(query.as_deref(), "read").unwrap_or(0);
    let mut body = request.into_body();
    let mut read = 0;
    while read < wanted {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len) as u64,
            _ => return (StatusCode::BAD_REQUEST, "the body is too short").into_response(),
        }
    }
    match number(query.as_deref(), "after") {
        Some(left) => {
            let mut response = Response::new(axum::body::Body::new(CrashesAfter {
                left,
                how,
                pause: event_loop::time::sleep(Duration::from_millis(100)),
            }));
            if let Some(length) = number(query.as_deref(), "length") {
                response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
            response
        }
        None => {
            faults::happen(&how);
            "nothing happened".into_response()
        }
    }
}

/// A value that differs after each execve.
async fn image() -> String {
    static STARTED: OnceLock<String> = OnceLock::new();
    let new = || format!("{:?}", std::time::SystemTime::now());
    STARTED.get_or_init(new).clone()
}

/// How many handlers were dropped before their end, over all processes.
async fn cancelled() -> String {
    let count = std::env::var_os("TEST_APP_CANCELLED")
        .and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |file| file.len());
    count.to_string()
}

/// How many tasks (threads) this process has.
async fn tasks() -> String {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count).to_string()
}

/// Writes to descriptor 1, which must not reach the response.
async fn print(RawQuery(query): RawQuery) -> &'static str {
    match query.as_deref() {
        Some("without-line-end") => print!("a stray piece"),
        _ => println!("a stray line"),
    }
    "printed"
}

/// Responses to test what becomes of their heads.
async fn head(Path(what): Path<String>, RawQuery(query): RawQuery) -> Response {
    let bytes = || usize::try_from(number(query.as_deref(), "bytes").unwrap_or(0)).unwrap_or(0);
    match what.as_str() {
        "cookies" => {
            let cookies =
                [(header::SET_COOKIE, "a=1; Path=/; HttpOnly"), (header::SET_COOKIE, "b=2")];
            (AppendHeaders(cookies), "baked").into_response()
        }
        "elsewhere" => {
            (StatusCode::SEE_OTHER, [(header::LOCATION, ELSEWHERE)], "elsewhere").into_response()
        }
        "long" => ([("x-long", "v".repeat(bytes()))], "long").into_response(),
        "nothing" => StatusCode::NO_CONTENT.into_response(),
        "not-modified" => (StatusCode::NOT_MODIFIED, [(header::ETAG, "\"1\"")]).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A location that has to arrive unchanged.
const ELSEWHERE: &str = "/else%2Fwhere/?a=%20b&c=/#d";

/// The environment variable named by the query, as children of this process inherit it.
async fn variable(RawQuery(query): RawQuery) -> String {
    std::env::var(query.unwrap_or_default()).unwrap_or_else(|_| "none".to_owned())
}

fn number(query: Option<&str>, name: &str) -> Option<u64> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

struct CountIfDropped;

impl Drop for CountIfDropped {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("TEST_APP_CANCELLED") else { return };
        let file = std::fs::File::options().create(true).append(true).open(path);
        let counted = file.and_then(|mut file| file.write_all(b"x"));
        if let Err(error) = counted {
            eprintln!("test-app: a cancelled handler could not be counted: {error}");
        }
    }
}

struct CrashesAfter {
    left: u64,
    how: String,
    pause: event_loop::time::Sleep,
}

impl http_body::Body for CrashesAfter {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            // First send what there is.
            std::task::ready!(Pin::new(&mut self.pause).poll(context));
            faults::happen(&self.how);
        }
        let all = pattern();
        let piece = usize::try_from(self.left).unwrap_or(all.len()).min(all.len());
        self.left -= piece as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&all[..piece])))))
    }
}

struct Pattern {
    left: u64,
}

impl http_body::Body for Pattern {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let all = pattern();
        let piece = usize::try_from(self.left).unwrap_or(all.len()).min(all.len());
        self.left -= piece as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&all[..piece])))))
    }
}

struct Drip {
    _guard: CountIfDropped,
    pause: event_loop::time::Sleep,
}

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.pause).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.pause = event_loop::time::sleep(Duration::from_millis(20));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(pattern())))))
            }
        }
    }
}

// Documents the type of a request's body: the server's own.
const _: fn(Request<Body>) = |_| {};
