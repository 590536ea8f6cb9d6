//! The application behind one call that cannot fail: a panic, an overload becomes a response.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::recovery::{self, Mark, Way};
use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::cgi_vars::http_to_cgi::has_body;
use crate::error_report::{self, About, Cause, ErrorReport, reference};
use crate::isolation::{self, Event, Limits, Places, Relay};
use crate::recovery::Pages;
use crate::recovery::panics;
use crate::recovery::quarantine::Quarantine;
use crate::request::body::Body;
use crate::request::context::Exchange;
use crate::request::fairness::ClientNet;
use crate::request::permits::{Arrival, Permit, Permits};
use crate::settings::Settings;

/// Bytes that one read from a socket may bring. As much as a unix socket gives at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Room for a read when body pieces hold the rest of the buffer. Twice what Apache sends at once.
pub(crate) const SMALLEST_READ_BYTES: usize = 16 * 1024;

/// The service, its settings, and what all its exchanges share.
pub(crate) struct Application<S> {
    service: RefCell<S>,
    pub(crate) settings: Settings,
    pub(crate) permits: Rc<Permits>,
    /// Why nobody is served, as long as this process runs.
    refuses_all: OnceCell<Cause>,
    /// How exchanges come in here, when the crash guard stands.
    pub(crate) guarded: Option<Way>,
    /// mod_fcgid sends a visitor the end of an answer, whole or not, and ends a process that closes a
    /// connection before END_REQUEST.
    pub(crate) is_behind_mod_fcgid: Cell<bool>,
    pages: Pages,
    quarantine: Quarantine,
    /// For the isolated ones.
    pub(crate) places: Places,
    /// All connections read into this one, so that an idle one holds no buffer.
    pub(crate) read_buffer: RefCell<BytesMut>,
}

impl<S> Application<S> {
    pub(crate) fn new(service: S, settings: Settings) -> Self {
        Application {
            service: RefCell::new(service),
            guarded: None,
            is_behind_mod_fcgid: Cell::new(false),
            pages: Pages::default(),
            quarantine: Quarantine::new(settings.state_folder.as_deref()),
            places: Places::new(settings.isolated_at_once),
            permits: Permits::new(&settings),
            settings,
            refuses_all: OnceCell::new(),
            read_buffer: RefCell::new(BytesMut::new()),
        }
    }

    /// Answers every request with the page for this from now on.
    pub(crate) fn refuse_all(&self, cause: Cause) {
        let _ = self.refuses_all.set(cause);
    }

    /// Notes an exchange that begins, should the process not live to answer it.
    pub(crate) fn note<R>(
        &self,
        connection: &recovery::Connection,
        id: u32,
        request: &Request<R>,
    ) -> recovery::Exchange {
        if connection.is_noted()
            && let Some(way) = self.guarded
        {
            let base = Exchange::of(request.extensions()).base();
            self.pages.prepare(way, &self.settings, base, self.is_behind_mod_fcgid.get());
        }
        let label = (self.settings.label)(request.uri());
        let (method, path) = (request.method().as_str(), request.uri().path());
        recovery::Exchange::begin(connection, id, label, method, path)
    }

    /// Makes the server's own response to a request that cannot reach the service. If making it panics (in the
    /// application's page, or in what a message quotes), a plainer page is sent.
    pub(crate) fn page(&self, cause: Cause, about: &About) -> Response<Bytes> {
        let plain = ErrorReport::prepared(cause.clone(), about.base.clone());
        let made = || (self.settings.error_page)(&ErrorReport::new(cause, about));
        panics::expected(|| catch_unwind(AssertUnwindSafe(made))).unwrap_or_else(|_| {
            let plain = ErrorReport { reference: reference(), ..plain };
            let reference = &plain.reference;
            let told = || tracing::error!(%reference, "The page for {} panicked.", plain.cause);
            // The log itself may panic.
            let _ = panics::expected(|| catch_unwind(AssertUnwindSafe(told)));
            error_report::plain_text(&plain)
        })
    }
}

impl<S, B> Application<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
    B::Error: fmt::Display,
{
    /// Lets the service answer a request, which is taken, here or in a process of its own. Every failure has
    /// become a response. `mark` names the exchange while code of the service runs.
    ///
    /// The request stays with the caller until the service gets it: each future it passes through by value
    /// would have room for it twice.
    pub(crate) async fn answer(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<Answer<B>> {
        let isolation = |request: &Request<Body>| {
            let limits = (self.settings.isolation)(request.uri())?;
            // A filter's second body has no way into another process, and no web server sends one.
            Exchange::of(request.extensions()).filter_data().is_none().then_some(limits)
        };
        match request.as_ref().and_then(isolation) {
            None => self.answer_here(request, mark).await,
            // In a box: the others shall not pay for its size.
            Some(limits) => Box::pin(self.answer_isolated(limits, request, mark)).await,
        }
    }

    /// Lets the service answer a request in a process of its own.
    async fn answer_isolated(
        &self,
        limits: Limits,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<Answer<B>> {
        let about = request.as_ref().map_or_else(About::unknown, About::request);
        let permit = match self.enter(&about, request.as_ref()) {
            Ok(permit) => permit,
            Err(refused) => return self.page(refused, &about).map(|page| Answer::page(page)),
        };
        let mut answer = pin!(isolation::answer(self, limits, request.take(), mark));
        let answered = poll_fn(|context| match ended(permit.arrival(), context) {
            Some(cause) => Poll::Ready(Err(cause)),
            None => answer.as_mut().poll(context),
        });
        match answered.await {
            Ok(response) => {
                if let Some(arrival) = permit.arrival() {
                    arrival.set_answered();
                }
                response.map(|relay| Answer::isolated(relay, about, permit))
            }
            Err(cause) => self.page(cause, &about).map(|page| Answer::page(page)),
        }
    }

    /// Counts an exchange that begins.
    ///
    /// # Errors
    /// When nobody is served, this part of the application is left alone, or there are too many.
    fn enter(&self, about: &About, request: Option<&Request<Body>>) -> Result<Counted, Cause> {
        if let Some(cause) = self.refuses_all.get() {
            return Err(cause.clone());
        }
        if let Some(label) = (self.settings.label)(&about.uri)
            && let Some(seconds) = self.quarantine.seconds_left(label)
        {
            return Err(Cause::Quarantined { label: label.to_owned(), seconds });
        }
        let arrival = request.and_then(|request| request.body().arrival());
        let net = || {
            let exchange = request.map(|request| Exchange::of(request.extensions()));
            ClientNet::of(exchange.and_then(Exchange::remote_address))
        };
        match self.permits.enter(arrival, net) {
            Some(permit) => Ok(Counted(permit)),
            None => Err(Cause::Overload(self.settings.max_exchanges)),
        }
    }

    /// Lets the service answer a request in this process; as [`answer`](Self::answer).
    pub(crate) async fn answer_here(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
    ) -> Response<Answer<B>> {
        let about = request.as_ref().map_or_else(About::unknown, About::request);
        let permit = match self.enter(&about, request.as_ref()) {
            Ok(permit) => permit,
            Err(refused) => return self.page(refused, &about).map(|page| Answer::page(page)),
        };
        let cause = match self.call(request, mark, permit.arrival()).await {
            Ok(mut response) => match stated_length(&mut response, &about) {
                Ok(length) => {
                    return response.map(|body| {
                        let body = Foreign::new(body, mark);
                        Answer::application(body, length, about, permit)
                    });
                }
                Err(why) => Cause::BadResponse(why),
            },
            Err(cause) => cause,
        };
        self.page(cause, &about).map(|page| Answer::page(page))
    }

    /// Calls the service. `arrival` belongs to the request's body.
    ///
    /// # Errors
    /// It panicked, or the request was ended because of its body.
    async fn call(
        &self,
        request: &mut Option<Request<Body>>,
        mark: Mark,
        arrival: Option<&Arrival>,
    ) -> Result<Response<B>, Cause> {
        let called = poll_fn(|context| {
            catch(mark, || {
                let mut service = self.service.borrow_mut();
                ready!(service.poll_ready(context)).unwrap_or_else(|error| match error {});
                Poll::Ready(request.take().map(|request| service.call(request)))
            })
            .map_or_else(|message| Poll::Ready(Err(message)), |polled| polled.map(Ok))
        });
        let Some(future) = called.await.map_err(Cause::Panic)? else {
            return Err(Cause::Panic("the service was called twice for one request".to_owned()));
        };
        let mut future = pin!(Foreign::new(future, mark));
        poll_fn(|context| {
            if let Some(cause) = ended(arrival, context) {
                return Poll::Ready(Err(cause));
            }
            let response = match future.as_mut().run(|future| future.poll(context)) {
                Ok(polled) => ready!(polled).map_err(|error| match error {}),
                Err(message) => Err(Cause::Panic(message)),
            };
            if let Some(arrival) = arrival {
                arrival.set_answered();
            }
            Poll::Ready(response)
        })
        .await
    }
}

/// Whether a request has to end before its response starts, and why.
fn ended(arrival: Option<&Arrival>, context: &Context<'_>) -> Option<Cause> {
    arrival.and_then(|arrival| arrival.poll_ended(context))
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
struct Counted(Permit);

impl Counted {
    fn arrival(&self) -> Option<&Arrival> {
        self.0.arrival()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // What was printed without a line end is in the log when its answer is over.
        let _ = io::stdout().flush();
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
        permit: Option<Counted>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source<B> {
        Application { #[pin] body: Foreign<B> },
        Isolated { relay: Box<Relay> },
        Page { page: Bytes },
        Over,
    }
}

impl<B> Answer<B> {
    fn application(body: Foreign<B>, length: Option<u64>, about: About, permit: Counted) -> Self {
        let source = Source::Application { body };
        Answer { source, left: length, about: Some(about), permit: Some(permit) }
    }

    fn isolated(relay: Relay, about: About, permit: Counted) -> Self {
        let source = Source::Isolated { relay: Box::new(relay) };
        Answer { source, left: None, about: Some(about), permit: Some(permit) }
    }

    /// What the answer is to, for a page instead of it.
    pub(crate) fn about(&self) -> About {
        self.about.clone().unwrap_or_else(About::unknown)
    }

    pub(crate) fn page(page: Bytes) -> Self {
        Answer { source: Source::Page { page }, left: None, about: None, permit: None }
    }
}

/// The application's body failed or panicked, or the process that makes it. It is in the log already.
#[derive(Debug)]
pub(crate) struct BrokenOff(pub(crate) Cause);

impl BrokenOff {
    /// What happened, in words.
    pub(crate) fn message(&self) -> String {
        match &self.0 {
            Cause::BadResponse(message) => message.clone(),
            cause => cause.to_string(),
        }
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answer broke off: {}", self.message())
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
        let cause = match this.source.as_mut().project() {
            SourceProjection::Over => return Poll::Ready(None),
            SourceProjection::Page { page } => {
                let page = std::mem::take(page);
                this.source.set(Source::Over);
                return Poll::Ready((!page.is_empty()).then(|| Ok(Frame::data(page))));
            }
            SourceProjection::Isolated { relay } => match ready!(relay.poll_event(context)) {
                Event::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Event::Head(_) | Event::End => {
                    this.source.set(Source::Over);
                    *this.permit = None;
                    return Poll::Ready(None);
                }
                Event::BrokenOff(message) => {
                    // Its own process has logged it.
                    this.source.set(Source::Over);
                    return Poll::Ready(Some(Err(BrokenOff(Cause::BadResponse(message)))));
                }
                Event::Failed(cause) => cause,
            },
            SourceProjection::Application { body } => match body.run(|it| {
                // Formatting an error runs the application's code, too.
                it.poll_frame(context).map_err(|error| error.to_string())
            }) {
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
                    Some(left) if *left > 0 => Cause::BadResponse(format!(
                        "the body ended {left} bytes before its Content-Length"
                    )),
                    _ => {
                        this.source.set(Source::Over);
                        *this.permit = None;
                        return Poll::Ready(None);
                    }
                },
                Ok(Poll::Ready(Some(Err(error)))) => Cause::BadResponse(error),
                Err(panic) => Cause::BadResponse(format!("panic: {panic}")),
            },
        };
        this.source.set(Source::Over);
        let broken = BrokenOff(cause);
        if let Some(About { method, uri, .. }) = this.about {
            let reference = reference();
            let (path, message) = (uri.path(), broken.message());
            tracing::error!(%reference, %method, path, "The answer broke off: {message}.");
            panics::log_backtrace(&reference);
        }
        Poll::Ready(Some(Err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            // A body that is too short is asked once more, to fail.
            Source::Application { body } => {
                body.is_end_stream() && self.left.is_none_or(|left| left == 0)
            }
            Source::Isolated { relay } => relay.left() == Some(0),
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
            Source::Isolated { relay } => {
                relay.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Source::Page { page } => SizeHint::with_exact(page.len() as u64),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

pin_project! {
    /// A value of the application's: all code of it runs under the exchange's mark, its end too, and
    /// a panic stays here.
    struct Foreign<T> {
        #[pin]
        value: Option<T>,
        mark: Mark,
    }

    impl<T> PinnedDrop for Foreign<T> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<T> Foreign<T> {
    fn new(value: T, mark: Mark) -> Self {
        Foreign { value: Some(value), mark }
    }

    /// Runs code of it; the error is a panic's message, and then the value is gone.
    fn run<R>(mut self: Pin<&mut Self>, code: impl FnOnce(Pin<&mut T>) -> R) -> Result<R, String> {
        let this = self.as_mut().project();
        let Some(value) = this.value.as_pin_mut() else {
            return Err("it was asked again after its end".to_owned());
        };
        let outcome = catch(*this.mark, || code(value));
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// Drops the value. Its panics are nobody's answer any more.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.value.is_some()
            && let Err(panic) = catch(*this.mark, || this.value.set(None))
        {
            tracing::error!("The application panicked while something of it was dropped: {panic}.");
            panics::log_backtrace("");
        }
    }
}

impl<B: HttpBody> Foreign<B> {
    fn is_end_stream(&self) -> bool {
        let is_end = |value: &B| catch(self.mark, || value.is_end_stream());
        self.value.as_ref().is_none_or(|value| is_end(value).unwrap_or(false))
    }

    fn size_hint(&self) -> SizeHint {
        let hint = |value: &B| catch(self.mark, || value.size_hint()).unwrap_or_default();
        self.value.as_ref().map_or_else(|| SizeHint::with_exact(0), hint)
    }
}

/// Runs application code under its exchange's mark; the error is a panic's message. What it left half done
/// is its own and is dropped: nothing of ours is borrowed by it.
fn catch<T>(mark: Mark, code: impl FnOnce() -> T) -> Result<T, String> {
    mark.run(|| {
        panics::expected(|| catch_unwind(AssertUnwindSafe(code))).map_err(|panic| {
            let message = panic
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a value that is no text".to_owned());
            panics::with_place(message)
        })
    })
}
