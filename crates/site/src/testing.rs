//! The site without a server: requests that go straight into a router, for tests of tools.
//!
//! Nothing here opens a socket or starts a thread. The package `end-to-end` tests the real thing.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use storage::{DatabaseUrl, Schema, Store};
use tower_service::Service;

use crate::http::request_body::Chunks;
use crate::login::LoginSettings;
#[cfg(test)]
use crate::tool::{Access, Runs, Tool};

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct TestResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl TestResponse {
    /// Returns the body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body of the response is not UTF-8")
    }

    /// Returns the first value of a header, if it is present and ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Sends `GET path`.
pub fn get(router: &Router, path: &str) -> TestResponse {
    send(router, built(request("GET", path), Body::empty()))
}

/// Sends `POST path` with a body of this media type.
pub fn post(
    router: &Router,
    path: &str,
    content_type: &str,
    body: impl Into<Body>,
) -> TestResponse {
    send(router, built(request("POST", path).header(CONTENT_TYPE, content_type), body.into()))
}

/// Starts a request, to add headers and extensions to; [`send`] sends it.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// Sends a request and reads the response.
///
/// # Panics
///
/// If the body of the response breaks off.
pub fn send(router: &Router, request: Request<Body>) -> TestResponse {
    block_on(async {
        let Ok(response) = router.clone().call(request).await;
        let (head, body) = response.into_parts();
        let body = Chunks::new(body).collect(usize::MAX).await;
        let body = body.expect("the body of the response broke off").into();
        TestResponse { status: head.status, headers: head.headers, body }
    })
}

/// A request body that arrives in these pieces, with a pause before each.
pub fn body_of_chunks<I>(chunks: I) -> Body
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    Body::new(Pieces::new(chunks, false))
}

/// A request body that arrives in these pieces and then breaks off.
pub fn body_that_breaks_off<I>(chunks: I) -> Body
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    Body::new(Pieces::new(chunks, true))
}

/// The environment variable with the URL of a database for tests.
const DATABASE: &str = "TOOLSHED_TEST_DATABASE";

/// Makes the settings of a login for a test, with its files in this folder.
///
/// If `TOOLSHED_TEST_DATABASE` is the URL of a PostgreSQL database, the store is there, apart from those of other
/// folders: so tests can be run with both engines.
///
/// # Panics
///
/// If that database cannot be used.
pub fn login_in(folder: &Path) -> LoginSettings {
    let login = LoginSettings::in_folder(folder);
    let Ok(url) = std::env::var(DATABASE) else { return login };
    let name = HEXLOWER.encode(folder.as_os_str().as_encoded_bytes());
    let name = format!("t{}", &name[name.len().saturating_sub(60)..]);
    let parsed = |url: &str| url.parse::<DatabaseUrl>().expect("the URL of the database is wrong");
    let no_tables = Schema { name: "tests", migrations: &[] };
    let store = Store::in_postgres(&parsed(&url), no_tables);
    let make = format!("CREATE SCHEMA IF NOT EXISTS {name}");
    let made = block_on(store.write(async |store| store.execute(&make, &[]).await));
    made.expect("the database cannot be used");
    let database = Some(parsed(&format!("{url}?options=-c%20search_path%3D{name}")));
    LoginSettings { database, ..login }
}

/// Runs a future to its end on this thread, which sleeps while the future waits.
///
/// # Panics
///
/// If tests use a database (see [`login_in`]) and no event loop can be run.
pub fn block_on<F: Future>(future: F) -> F::Output {
    if std::env::var_os(DATABASE).is_some() {
        return event_loop::run(future).expect("no event loop can be run");
    }
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A tool without a page, for the site's own tests.
#[cfg(test)]
pub(crate) const SAMPLE: Tool = Tool {
    name: "sample",
    title: "Sample",
    summary: "A tool for tests.",
    icon: "tool",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[],
    tables: &[],
    router: Router::new,
};

fn built(request: http::request::Builder, body: Body) -> Request<Body> {
    request.body(body).expect("the request cannot be built")
}

/// The body behind [`body_of_chunks`].
struct Pieces {
    pieces: VecDeque<Bytes>,
    breaks_off: bool,
    paused: bool,
}

impl Pieces {
    fn new<I>(pieces: I, breaks_off: bool) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let pieces = pieces.into_iter().map(|piece| Bytes::from(piece.into())).collect();
        Pieces { pieces, breaks_off, paused: false }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.paused = !self.paused;
        if self.paused {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.pieces.pop_front() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if self.breaks_off => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            None => None,
        })
    }
}
