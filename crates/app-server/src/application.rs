//! The application behind one call that cannot fail: a panic, an overload becomes a response.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::Body;
use crate::error_report::{About, Cause, ErrorReport};
use crate::http_to_cgi::has_body;
use crate::settings::Settings;

/// Bytes that one read from a socket may bring. As much as a unix socket gives at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Room for a read when body pieces hold the rest of the buffer. Twice what Apache sends at once.
pub(crate) const SMALLEST_READ_BYTES: usize = 16 * 1024;

/// The service, its settings, and what all its exchanges share.
pub(crate) struct Application<S> {
    service: RefCell<S>,
    pub(crate) settings: Settings,
    exchanges: Rc<Cell<usize>>,
    /// Why nobody is served, as long as this process runs.
    refuses_all: OnceCell<Cause>,
    /// All connections read into this one, so that an idle one holds no buffer.
    pub(crate) read_buffer: RefCell<BytesMut>,
}

impl<S> Application<S> {
    pub(crate) fn new(service: S, settings: Settings) -> Self {
        Application {
            service: RefCell::new(service),
            settings,
            exchanges: Rc::default(),
            refuses_all: OnceCell::new(),
            read_buffer: RefCell::new(BytesMut::new()),
        }
    }

    /// Answers every request with the page for this from now on.
    pub(crate) fn refuse_all(&self, cause: Cause) {
        let _ = self.refuses_all.set(cause);
    }

    /// Makes the server's own answer to a request that cannot reach the service.
    pub(crate) fn page(&self, cause: Cause, about: &About) -> Response<Bytes> {
        (self.settings.error_page)(&ErrorReport::new(cause, about))
    }
}

impl<S, B> Application<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
{
    /// Lets the service answer a request, which is taken. Every failure has become a response.
    ///
    /// The request stays with the caller until the service gets it: each future it passes through by value
    /// would have room for it twice.
    pub(crate) async fn answer(&self, request: &mut Option<Request<Body>>) -> Response<Answer<B>> {
        let about = request.as_ref().map_or_else(About::unknown, About::request);
        if let Some(cause) = self.refuses_all.get() {
            return self.page(cause.clone(), &about).map(|page| Answer::page(page));
        }
        let limit = self.settings.max_exchanges;
        if self.exchanges.get() >= limit {
            return self.page(Cause::Overload(limit), &about).map(|page| Answer::page(page));
        }
        self.exchanges.set(self.exchanges.get() + 1);
        let permit = Permit(self.exchanges.clone());
        let cause = match self.call(request).await {
            Ok(mut response) => match stated_length(&mut response, &about) {
                Ok(length) => {
                    return response.map(|body| Answer::application(body, length, about, permit));
                }
                Err(why) => Cause::BadResponse(why),
            },
            Err(message) => Cause::Panic(message),
        };
        self.page(cause, &about).map(|page| Answer::page(page))
    }

    /// Calls the service. The error is a panic's message.
    async fn call(&self, request: &mut Option<Request<Body>>) -> Result<Response<B>, String> {
        let called = poll_fn(|context| {
            catch(|| {
                let mut service = self.service.borrow_mut();
                ready!(service.poll_ready(context)).unwrap_or_else(|error| match error {});
                Poll::Ready(request.take().map(|request| service.call(request)))
            })
            .map_or_else(|message| Poll::Ready(Err(message)), |polled| polled.map(Ok))
        });
        let Some(future) = called.await? else {
            return Err("the service was called twice for one request".to_owned());
        };
        let mut future = std::pin::pin!(future);
        poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
            Ok(polled) => polled.map(|Ok(response)| Ok(response)),
            Err(message) => Poll::Ready(Err(message)),
        })
        .await
    }
}

/// Finds out whether an answer can be sent, and how many bytes its body has to have, if it says so.
///
/// # Errors
/// Why it cannot be sent.
fn stated_length<B: HttpBody>(
    response: &mut Response<B>,
    about: &About,
) -> Result<Option<u64>, String> {
    let status = response.status();
    if status.is_informational() {
        return Err(format!("{status} is an interim status, which ends no exchange"));
    }
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6.
        response.headers_mut().remove(CONTENT_LENGTH);
        return Ok(None);
    }
    let mut lengths = response.headers().get_all(CONTENT_LENGTH).iter();
    let stated = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok(None),
        (Some(length), None) => length,
        (Some(_), Some(_)) => return Err("it has several Content-Length headers".to_owned()),
    };
    let length = std::str::from_utf8(stated.as_bytes())
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or_else(|| format!("its Content-Length is {stated:?}"))?;
    if status == StatusCode::NOT_MODIFIED && length == 0 {
        // A framework that counts the empty body (axum). It would be the length of the visitor's copy.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if !has_body(&about.method, status) {
        return Ok(None);
    }
    match response.body().size_hint().exact() {
        Some(exact) if exact < length => {
            return Err(format!("its Content-Length is {length}, its body has {exact} bytes"));
        }
        // It is cut there.
        Some(exact) if exact > length => {
            let About { method, uri, .. } = about;
            tracing::error!(
                %method,
                path = uri.path(),
                "The answer's Content-Length is {length}, its body has {exact} bytes: the rest is \
                 left out."
            );
        }
        _ => {}
    }
    Ok(Some(length))
}

/// Counts one exchange until its answer is over.
struct Permit(Rc<Cell<usize>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

pin_project! {
    /// The body of an answer: the application's, or a page of the server's own. It has as many bytes as
    /// its Content-Length says: more are left out, fewer are a failure.
    pub(crate) struct Answer<B> {
        #[pin]
        source: Source<B>,
        // Bytes of the Content-Length that have not come.
        left: Option<u64>,
        about: Option<About>,
        permit: Option<Permit>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<B> {
        Application { #[pin] body: B },
        Page { page: Bytes },
        Over,
    }
}

impl<B> Answer<B> {
    fn application(body: B, length: Option<u64>, about: About, permit: Permit) -> Self {
        let source = Source::Application { body };
        Answer { source, left: length, about: Some(about), permit: Some(permit) }
    }

    /// What the answer is to, for a page instead of it.
    pub(crate) fn about(&self) -> About {
        self.about.clone().unwrap_or_else(About::unknown)
    }

    pub(crate) fn page(page: Bytes) -> Self {
        Answer { source: Source::Page { page }, left: None, about: None, permit: None }
    }
}

/// The application's body failed or panicked; its message. It is in the log already.
#[derive(Debug)]
pub(crate) struct BrokenOff(pub(crate) String);

impl fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answer broke off: {}", self.0)
    }
}

impl std::error::Error for BrokenOff {}

impl<B> HttpBody for Answer<B>
where
    B: HttpBody,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut this = self.project();
        let message = match this.source.as_mut().project() {
            SourceProjection::Over => return Poll::Ready(None),
            SourceProjection::Page { page } => {
                let page = std::mem::take(page);
                this.source.set(Source::Over);
                return Poll::Ready((!page.is_empty()).then(|| Ok(Frame::data(page))));
            }
            SourceProjection::Application { body } => match catch(|| body.poll_frame(context)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Some(Ok(frame)))) => {
                    // For the usual `Bytes` this shares and copies nothing.
                    let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
                    let Some(left) = this.left else { return Poll::Ready(Some(Ok(frame))) };
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    match left.checked_sub(length) {
                        Some(rest) => {
                            *left = rest;
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        None => {
                            let room = *left as usize;
                            *left = 0;
                            this.source.set(Source::Over);
                            *this.permit = None;
                            return Poll::Ready(
                                (room > 0).then(|| Ok(frame.map_data(|data| data.slice(..room)))),
                            );
                        }
                    }
                }
                Ok(Poll::Ready(None)) => match this.left {
                    Some(left) if *left > 0 => {
                        format!("the body ended {left} bytes before its Content-Length")
                    }
                    _ => {
                        this.source.set(Source::Over);
                        *this.permit = None;
                        return Poll::Ready(None);
                    }
                },
                Ok(Poll::Ready(Some(Err(error)))) => error.to_string(),
                Err(panic) => format!("panic: {panic}"),
            },
        };
        this.source.set(Source::Over);
        if let Some(About { method, uri, .. }) = this.about {
            tracing::error!(%method, path = uri.path(), "The answer broke off: {message}.");
        }
        Poll::Ready(Some(Err(BrokenOff(message))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            // A body that is too short is asked once more, to fail.
            Source::Application { body } => {
                body.is_end_stream() && self.left.is_none_or(|left| left == 0)
            }
            Source::Page { page } => page.is_empty(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Application { body } => match self.left {
                Some(left) => SizeHint::with_exact(left),
                None => body.size_hint(),
            },
            Source::Page { page } => SizeHint::with_exact(page.len() as u64),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

/// Runs application code; the error is a panic's message. What it left half done is its own and is
/// dropped: nothing of ours is borrowed by it.
fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a value that is no text".to_owned())
    })
}
