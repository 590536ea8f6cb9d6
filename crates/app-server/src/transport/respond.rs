//! Answers one request in terms of CGI: the request goes to the application, its response to a
//! [`ResponseSink`].
//!
//! Over FastCGI the sink is the connection's output (`fastcgi.rs`), where the response's head, a small
//! body, the end of the stream and END_REQUEST are sent in one write; over CGI and in the shell it is a
//! file (`single.rs`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, response};
use http_body::{Body as HttpBody, Frame};

use crate::cause::Cause;
use crate::cgi_vars::http_to_cgi::{announced_length, check_lines, has_body, write_head};
use crate::recovery::Mark;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::service::HttpService;

/// Where a response goes. The `bool` returned says whether the response is still wanted.
pub(crate) trait ResponseSink {
    /// Takes the head and the first bytes of the body, possibly none. `length` is the length of the whole
    /// body, if it is to be announced.
    fn begin(&self, head: &response::Parts, length: Option<u64>, first: Bytes) -> bool;

    /// Takes more of the body.
    fn data(&self, data: Bytes) -> bool;

    /// Waits until enough of what was taken has been sent.
    fn writable(&self) -> impl Future<Output = ()>;

    /// Ends a complete response.
    fn end(&self);

    /// Ends a truncated response.
    fn break_off(&self);

    /// Takes a page made by the server.
    fn page(&self, method: &Method, page: Response<Bytes>) {
        let (head, body) = page.into_parts();
        let length = announced_length(method, &head, Some(body.len() as u64));
        let has_body = has_body(method, head.status);
        self.begin(&head, length, if has_body { body } else { Bytes::new() });
        self.end();
    }
}

/// Body bytes up to this length are copied behind the head, into the same record; longer ones are shared.
/// Copying 8 KiB costs less than the allocation and the additional segment of a vectored write.
const COPIED_BYTES: usize = 8 * 1024;

/// Answers one request and ends it. `mark` names the request while the application's code runs.
pub(crate) fn run<S: HttpService>(
    application: Rc<Application<S>>,
    sink: impl ResponseSink,
    request: Request<Body>,
    mark: Mark,
) -> impl Future<Output = ()> {
    let method = request.method().clone();
    let mut request = Some(request);
    async move { answer(&application, sink, &method, &mut request, mark).await }
}

async fn answer<S: HttpService>(
    application: &Application<S>,
    sink: impl ResponseSink,
    method: &Method,
    request: &mut Option<Request<Body>>,
    mark: Mark,
) {
    let sink = EndOnPanic { sink, method, has_started: Cell::new(false) };
    let (head, body) = application.answer(request, mark).await.into_parts();
    let mut body = pin!(body);
    if let Err(why) = check_lines(&head.headers) {
        sink.page(method, application.page(Cause::BadResponse(why), &body.about()));
        return;
    }
    let has_body = has_body(method, head.status);

    // Whatever is available at once goes out with the head; nothing is awaited.
    let mut first = Bytes::new();
    if has_body {
        let polled = poll_fn(|context| Poll::Ready(body.as_mut().poll_frame(context))).await;
        match polled {
            Poll::Ready(Some(Ok(frame))) => first = frame.into_data().unwrap_or_default(),
            Poll::Ready(Some(Err(error))) => {
                // Nothing has been sent yet, so the client can still get an error page.
                let page = application.page(error.0, &body.about());
                sink.page(method, page);
                return;
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
    let hint = body.size_hint().exact().map(|rest| rest + first.len() as u64);
    let length = announced_length(method, &head, hint);
    let mut wanted = sink.begin(&head, length, first);
    while wanted && has_body && !body.is_end_stream() {
        sink.writable().await;
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => wanted = data(frame).is_none_or(|data| sink.data(data)),
            Some(Err(_)) => return sink.break_off(),
            None => break,
        }
    }
    sink.end();
}

/// Ends the response when the task that makes it panics; otherwise the request would never complete.
struct EndOnPanic<'a, O: ResponseSink> {
    sink: O,
    method: &'a Method,
    has_started: Cell<bool>,
}

impl<O: ResponseSink> ResponseSink for EndOnPanic<'_, O> {
    fn begin(&self, head: &response::Parts, length: Option<u64>, first: Bytes) -> bool {
        self.has_started.set(true);
        self.sink.begin(head, length, first)
    }

    fn data(&self, data: Bytes) -> bool {
        self.sink.data(data)
    }

    fn writable(&self) -> impl Future<Output = ()> {
        self.sink.writable()
    }

    fn end(&self) {
        self.sink.end();
    }

    fn break_off(&self) {
        self.sink.break_off();
    }
}

impl<O: ResponseSink> Drop for EndOnPanic<'_, O> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        if self.has_started.get() {
            return self.sink.break_off();
        }
        // The plainest page cannot depend on whatever failed.
        let mut page = Response::new(Bytes::from_static(b"500 Internal Server Error\n"));
        *page.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        self.sink.page(self.method, page);
    }
}

/// Writes a head in CGI's form with the first bytes of the body. Bytes that are better shared than copied
/// are returned.
pub(crate) fn write_beginning(
    head: &response::Parts,
    length: Option<u64>,
    first: Bytes,
    output: &mut BytesMut,
) -> Option<Bytes> {
    write_head(head, length, output);
    if first.len() <= COPIED_BYTES {
        output.put_slice(&first);
        return None;
    }
    Some(first)
}

/// A frame's bytes; CGI cannot carry trailers.
fn data(frame: Frame<Bytes>) -> Option<Bytes> {
    frame.into_data().ok().filter(|data| !data.is_empty())
}
