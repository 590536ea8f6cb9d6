//! An application of somebody's own, as its author writes it: axum and tokio, state that is made by async code, a task in
//! the background, and one line in `main`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use app_server::{CgiVariables, RequestContext};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get, post};
use futures_util::stream;
use hosted::store::{Migration, Schema, Store, params};
use hosted::{Application, ErrorReport, HttpError};
use tokio::sync::{Notify, mpsc, oneshot};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What handlers share: a counter that belongs to a task, as a database actor does, and when the process was started.
#[derive(Clone)]
struct Shared {
    counter: mpsc::Sender<oneshot::Sender<u64>>,
    started: u128,
    visitors: Arc<AtomicU64>,
    next_event: Arc<Notify>,
}

async fn router() -> Result<Router, &'static str> {
    if std::env::var_os("OWN_APP_PRINTS").is_some() {
        #[allow(clippy::print_stdout)]
        {
            println!("printed while the router is made");
        }
    }
    match std::env::var_os("OWN_APP_NEEDS").map(PathBuf::from) {
        Some(file) if file.ends_with("panic") && !file.exists() => panic!("no such thing"),
        Some(file) if file.ends_with("hang") && !file.exists() => std::future::pending().await,
        Some(file) if !file.exists() => return Err("its database is not there"),
        _ => {}
    }
    if std::env::var_os("OWN_APP_STARTS_A_THREAD").is_some() {
        let thread = std::thread::Builder::new().name("a-pool".to_owned());
        let sleep = || std::thread::sleep(Duration::from_secs(3600));
        thread.spawn(sleep).map_err(|_| "it needs a thread")?;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (counter, mut asked) = mpsc::channel::<oneshot::Sender<u64>>(8);
    tokio::spawn(async move {
        let mut count = 0;
        while let Some(reply) = asked.recv().await {
            count += 1;
            let _ = reply.send(count);
        }
    });
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let shared = Shared { counter, started, visitors: Arc::default(), next_event: Arc::default() };
    Ok(Router::new()
        .route("/", get(home))
        .route("/count", get(count))
        .route("/sleep/{milliseconds}", get(sleep))
        .route("/echo", post(|body: String| async { body }))
        .route("/log", get(log))
        .route("/panic", get(panics))
        .route("/fails/{what}", get(fails))
        .route("/thread", get(thread))
        .route("/old", get(old))
        .route("/events", get(events))
        .route("/next-event", get(next_event))
        .route("/abort-in-a-thread", get(abort_in_a_thread))
        .route("/loop", get(loops))
        .route("/what-it-sees/{*rest}", any(what_it_sees))
        .with_state(shared)
        .layer(hosted::Mounted))
}

async fn home(State(shared): State<Shared>, uri: Uri) -> String {
    let visitors = shared.visitors.fetch_add(1, Ordering::Relaxed) + 1;
    format!("{} {} {visitors} {uri}\n", shared.started, std::process::id())
}

/// What the web server has said of a request, one fact a line.
async fn what_it_sees(request: Request) -> String {
    let context = RequestContext::of(request.extensions());
    let mut facts = vec![
        format!("method: {}", request.method()),
        format!("uri: {}", request.uri()),
        format!("base: {}", context.base()),
        format!("scheme: {:?}", context.scheme()),
        format!("address: {:?}", context.remote_address()),
    ];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", text(value.as_bytes()));
    facts.extend(request.headers().iter().map(header));
    let variables = context.variables().into_iter().flat_map(CgiVariables::iter);
    facts.extend(variables.map(|(name, value)| format!("{}={}", text(name), text(value))));
    facts.sort();
    facts.join("\n") + "\n"
}

async fn count(State(shared): State<Shared>) -> Result<String, StatusCode> {
    let (reply, counted) = oneshot::channel();
    let is_asked = shared.counter.send(reply).await.is_ok();
    let counted = if is_asked { counted.await.ok() } else { None };
    counted.map(|count| format!("{count}\n")).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn sleep(Path(milliseconds): Path<u64>) -> String {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("slept {milliseconds} ms\n")
}

async fn log() -> &'static str {
    tracing::info!("A visitor was here.");
    // What a library prints.
    #[allow(clippy::print_stdout)]
    {
        println!("printed");
    }
    "logged\n"
}

async fn panics() -> &'static str {
    panic!("what the author did not think of")
}

async fn fails(Path(what): Path<String>) -> Result<&'static str, HttpError> {
    if what == "not-here" {
        return Err(HttpError::new(StatusCode::NOT_FOUND).message("It has moved away."));
    }
    std::fs::read(format!("/no/such/file/{what}"))?;
    Ok("there is one")
}

async fn thread() -> Result<String, StatusCode> {
    let computed = tokio::task::spawn_blocking(|| 7).await;
    computed.map(|number| format!("{number}\n")).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Server-sent events: the second one is sent when somebody asks for it.
async fn events(State(shared): State<Shared>) -> impl IntoResponse {
    let events = stream::unfold(0, move |number| {
        let next = Arc::clone(&shared.next_event);
        async move {
            match number {
                0 => Some((Ok::<_, Infallible>("data: one\n\n"), 1)),
                1 => {
                    next.notified().await;
                    Some((Ok("data: two\n\n"), 2))
                }
                _ => None,
            }
        }
    });
    // nginx holds responses back unless it is told not to.
    let headers = [(CONTENT_TYPE, "text/event-stream"), (X_ACCEL_BUFFERING, "no")];
    (headers, Body::from_stream(events))
}

/// As at the root of a host.
async fn old() -> impl IntoResponse {
    ([(SET_COOKIE, "visited=1; Path=/")], Redirect::to("/count"))
}

async fn next_event(State(shared): State<Shared>) -> &'static str {
    shared.next_event.notify_one();
    "it is on its way\n"
}

/// As a library may that fails an assertion of its own.
async fn abort_in_a_thread() -> &'static str {
    std::thread::spawn(|| std::process::abort());
    tokio::time::sleep(Duration::from_secs(60)).await;
    "unreachable"
}

/// As an author does by mistake.
async fn loops() -> &'static str {
    loop {
        std::hint::spin_loop();
    }
}

/// As an application does that has a runtime already.
#[tokio::main(flavor = "current_thread")]
async fn serve_in_its_own_runtime() -> ExitCode {
    match router().await {
        Ok(router) => hosted::serve(router).await,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What it keeps.
const SCHEMA: Schema = Schema {
    name: "visits",
    migrations: &[Migration::expand(
        "CREATE TABLE visits (page TEXT PRIMARY KEY, count BIGINT NOT NULL)",
    )],
};

async fn router_with_rows(store: Store) -> Result<Router, &'static str> {
    let visits = Router::new().route("/visit/{page}", get(visit)).with_state(store);
    Ok(router().await?.merge(visits))
}

async fn visit(State(store): State<Store>, Path(page): Path<String>) -> Result<String, HttpError> {
    let count = "INSERT INTO visits (page, count) VALUES ($1, 1)
                     ON CONFLICT (page) DO UPDATE SET count = visits.count + 1 RETURNING count";
    let visit = store.write(async |store| store.query_one::<i64>(count, params![&page]).await);
    Ok(format!("{}\n", visit.await?))
}

/// What its author makes of failures.
fn error_page(report: &ErrorReport) -> http::Response<String> {
    let (status, words) = (report.status, report.message().unwrap_or("It is our fault."));
    http::Response::new(format!(
        "<h1>My own {status}</h1><p>{words}<p>Reference: {}",
        report.reference
    ))
}

fn main() -> ExitCode {
    if std::env::var_os("OWN_APP_HAS_A_RUNTIME").is_some() {
        return serve_in_its_own_runtime();
    }
    let mut application = Application::with_store(SCHEMA, router_with_rows);
    application = match std::env::var("OWN_APP_WITHOUT").as_deref() {
        Ok("upgrades") => application.without_upgrades(),
        Ok("log-file") => application.without_log_file(),
        Ok("command-line") => application.without_command_line(),
        _ => application,
    };
    if std::env::var_os("OWN_APP_HAS_A_LOOK").is_some() {
        application = application.error_page(error_page);
    }
    application.main()
}
