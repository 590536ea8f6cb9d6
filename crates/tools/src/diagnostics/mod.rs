//! The tool *diagnostics*: what the host and the server do with slow, large and broken responses.
//!
//! Everything here is bad on purpose; the parameters are in `logic.rs`. A request chooses whether it is
//! isolated (`runs=isolated`). Crashes need a POST, so that nobody crashes a site by following links. The C code that
//! crashes on purpose is the crate `culprits`, built in only with the feature of that name, as are `blobs.rs`, `lists.rs`
//! and `numbers.rs`, with which tests use what tools store; without it the page says what is missing.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use event_loop::pipe::Reader;
use event_loop::time;
use futures_util::stream;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use process::{Child, Command, Stdio};
use site::storage::Migration;
use site::{Access, Chunks, Format, HttpError, Limits, Page, Runs, Template, Tool, context};

use logic::{CULPRITS, LEFT_OUT, When};

#[cfg(feature = "culprits")]
mod blobs;
#[cfg(feature = "culprits")]
mod lists;
mod logic;
#[cfg(feature = "culprits")]
mod numbers;
#[cfg(test)]
mod tests;

/// The tool's entry in the table.
pub(crate) const TOOL: Tool = Tool {
    name: "diagnostics",
    title: "Diagnostics",
    summary: "What this host and this server do with slow, large and broken responses.",
    icon: "diagnostics",
    access: Access::Named,
    runs: Runs::Chosen(logic::runs),
    pages: &[Template { name: PAGE, source: include_str!("page.html") }],
    tables: TABLES,
    router,
};

const PAGE: &str = "diagnostics/page.html";

#[cfg(feature = "culprits")]
const TABLES: &[Migration] = &[
    Migration::expand("CREATE TABLE diagnostics_numbers (number BIGINT NOT NULL)"),
    Migration::expand(
        "CREATE TABLE diagnostics_lists (name TEXT, position BIGINT, number BIGINT NOT NULL, \
         PRIMARY KEY (name, position))",
    ),
    #[cfg(feature = "next-version")]
    Migration::expand("ALTER TABLE diagnostics_numbers ADD COLUMN text TEXT"),
    #[cfg(feature = "contracting-version")]
    Migration::contract(
        "UPDATE diagnostics_numbers SET text = CAST(number AS TEXT) WHERE text IS NULL; \
         ALTER TABLE diagnostics_numbers DROP COLUMN number",
    ),
];
#[cfg(not(feature = "culprits"))]
const TABLES: &[Migration] = &[];

fn router() -> Router {
    let router = Router::new();
    #[cfg(feature = "culprits")]
    let router = router.merge(blobs::routes()).merge(lists::routes()).merge(numbers::routes());
    router
        .route("/", get(page))
        .route("/sleep", get(sleep))
        .route("/stream", get(stream))
        .route("/crash", post(crash))
        .route("/stdout", post(stdout))
        .route("/child", post(child))
}

async fn page(page: Page) -> Response {
    page.show(
        PAGE,
        context! {
            culprits => CULPRITS,
            left_out => &LEFT_OUT.join(", "),
            build_with_all => logic::BUILD_WITH_ALL,
            longest => &logic::MAX_SLEEP.as_secs(),
            largest => &logic::MAX_STREAM_MIB
        },
    )
}

/// A line of text as the whole response.
fn line(text: impl Into<String>) -> Response {
    ([(CACHE_CONTROL, "no-store")], text.into() + "\n").into_response()
}

/// The response to an invalid query.
fn refused(why: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST).message(why).default_format(Format::Text)
}

async fn sleep(RawQuery(query): RawQuery) -> Result<Response, HttpError> {
    let duration = logic::sleep(&query.unwrap_or_default()).map_err(refused)?;
    time::sleep(duration).await;
    Ok(line(format!("Slept {} s.", duration.as_secs_f64())))
}

/// Bytes of one chunk of a stream.
const PIECE: usize = 64 * 1024;

async fn stream(RawQuery(query): RawQuery) -> Result<Response, HttpError> {
    let mib = logic::stream(&query.unwrap_or_default()).map_err(refused)?;
    let length = mib << 20;
    // All chunks share the same memory.
    let piece = Bytes::from(vec![b'.'; PIECE]);
    let pieces = stream::unfold(length / PIECE as u64, move |left| {
        let piece = piece.clone();
        async move { Some((Ok::<_, io::Error>(piece), left.checked_sub(1)?)) }
    });
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// How long after the start of a response a culprit runs.
const HEAD_START: Duration = Duration::from_millis(200);

async fn crash(RawQuery(query): RawQuery, request: Request) -> Result<Response, HttpError> {
    let (culprit, when) = logic::crash(&query.unwrap_or_default()).map_err(refused)?;
    match when {
        When::Now => (culprit.run)(),
        When::Receiving => {
            let mut body = Chunks::new(request.into_body());
            // With or without a body: the crash is intended.
            let _ = body.next().await;
            (culprit.run)();
        }
        When::Answering => {
            let parts = stream::unfold(0, move |part| async move {
                let text = match part {
                    0 => "The response has started.\n",
                    1 => {
                        time::sleep(HEAD_START).await;
                        (culprit.run)();
                        "It survived.\n"
                    }
                    _ => return None,
                };
                Some((Ok::<_, io::Error>(Bytes::from(text)), part + 1))
            });
            return Ok(([(CACHE_CONTROL, "no-store")], Body::from_stream(parts)).into_response());
        }
    }
    Ok(line("It survived."))
}

async fn stdout() -> Response {
    // Not `println!` and `eprintln!`, which panic if their reader is gone: here a lost line is a valid result.
    let _ = writeln!(
        io::stdout(),
        "diagnostics: a line on standard output, which is not part of any response"
    );
    let _ = writeln!(io::stderr(), "diagnostics: a line on standard error");
    line(
        "Two lines were printed, one to standard output and one to standard error. They are in the log.",
    )
}

/// A program that exists on every host.
const SCRIPT: &str = "for number in 1 2 3 4 5; do echo \"line $number of process $$\"; sleep 0.2; done; \
                      ulimit -a 2>&1; ls -l /proc/self/fd";

/// The limits of the program.
const CHILD_LIMITS: Limits = Limits {
    cpu: Duration::from_secs(5),
    wall: Duration::from_secs(20),
    memory: 512 << 20,
    file_size: 1 << 20,
};

async fn child() -> Result<Response, HttpError> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT]).limits(CHILD_LIMITS);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| {
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE)
            .message("No program could be started; the host may limit processes.")
            .cause(format!("/bin/sh could not be started: {error}"))
            .default_format(Format::Text)
    })?;
    let output = child.stdout.take();
    let lines = stream::unfold(Some((child, output)), async |state| {
        let (mut child, mut output) = state?;
        let read = read(&mut output).await;
        if read.is_empty() {
            let text = ending(&mut child).await;
            return Some((Ok::<_, io::Error>(text), None));
        }
        Some((Ok(read), Some((child, output))))
    });
    Ok(([(CACHE_CONTROL, "no-store")], Body::from_stream(lines)).into_response())
}

/// What the program has written since the last call; empty at the end.
async fn read(output: &mut Option<Reader>) -> Bytes {
    let Some(output) = output else { return Bytes::new() };
    let mut buffer = BytesMut::with_capacity(4096);
    let mut output = Pin::new(output);
    match poll_fn(|context| output.poll_read_into(context, &mut buffer)).await {
        Ok(_) => buffer.freeze(),
        Err(_) => Bytes::new(),
    }
}

async fn ending(child: &mut Child) -> Bytes {
    let ended = child.wait().await;
    let text = match ended {
        _ if child.timed_out() => format!("It was killed after {} s.", CHILD_LIMITS.wall.as_secs()),
        Ok(status) => format!("It exited: {status}."),
        Err(error) => format!("It exited, but its status is unknown: {error}."),
    };
    Bytes::from(format!(
        "{text} It used {:.2} s of processor time.\n",
        child.usage().cpu.as_secs_f64()
    ))
}
