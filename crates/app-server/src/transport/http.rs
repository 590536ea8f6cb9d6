//! One HTTP/1.1 connection, by hyper, on the same loop and with the same application.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::recovery::{ConnectionGuard, InputState, Mark, ReplyFormat, RequestGuard};
use bytes::Bytes;
use event_loop::net::Stream;
use event_loop::time::{self, HyperTimer};
use http::header::HOST;
use http::{HeaderMap, Method, Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use pin_project_lite::pin_project;

use crate::cause::Cause;
use crate::cgi_vars::cgi_headers;
use crate::cgi_vars::forwarded::{self, Peer};
use crate::cgi_vars::gateway::Gateway;
use crate::cgi_vars::http_to_cgi::remove_hop_by_hop;
use crate::connections::{Doing, FIRST_REQUEST, IdleConnection, Registration};
use crate::error_report::About;
use crate::phase::Wanted;
use crate::request::application::Application;
use crate::request::body::{Body, LINGERING};
use crate::request::patience::{Alarm, Patience};
use crate::request::permits::Arrival;
use crate::request::response::{ResponseBody, Truncated};
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::linger;

/// Serves one connection until it ends. `is_new`: it has just been accepted, and a request is about to
/// arrive.
pub(crate) async fn serve<S: HttpService>(
    application: Rc<Application<S>>,
    stream: Stream,
    peer: Option<SocketAddr>,
    place: Registration,
    is_new: bool,
) {
    let place = Rc::new(place);
    let mut stream = PatientStream::new(stream, Bytes::new(), &application.settings);
    let mut grace = is_new.then(|| time::now() + FIRST_REQUEST);
    loop {
        place.set_doing(Doing::Idle(grace.unwrap_or_else(time::now)));
        match serve_until_wanted(&application, stream, peer, &place, grace).await {
            None => return,
            Some(idle) if idle.first.is_empty() => {
                // The socket stays open, but no longer belongs to this process.
                let PatientStream { _leaving, stream, .. } = idle;
                drop(_leaving);
                if let Ok(place) = Rc::try_unwrap(place) {
                    place.hand_over(IdleConnection::new(stream, peer, ReplyFormat::Http));
                }
                return;
            }
            // A request had started to arrive: it is answered here.
            Some(PatientStream { _leaving, stream: begun, first, .. }) => {
                drop(_leaving);
                stream = PatientStream::new(begun, first, &application.settings);
            }
        }
        grace = Some(time::now() + FIRST_REQUEST);
    }
}

/// Serves a connection until it ends (`None`), or until it is to be handed over and carries no request:
/// what has been read of the next one is then in the stream's `first`. If the connection is to close, the
/// first request is still awaited until `grace`.
async fn serve_until_wanted<S: HttpService>(
    application: &Rc<Application<S>>,
    stream: PatientStream,
    peer: Option<SocketAddr>,
    place: &Rc<Registration>,
    grace: Option<Instant>,
) -> Option<PatientStream> {
    let settings = &application.settings;
    let watched = stream.watched.clone();
    // On a keep-alive connection the next request is not expected immediately.
    watched.was_asked.set(grace.is_none());
    let service = service_fn(|request: Request<Incoming>| {
        let in_flight = InFlightGuard::begin(&watched, place);
        let request = into_ours(request, peer, application);
        let application = application.clone();
        let mark = watched.begin(&application, &request);
        let has_had_its_turn = watched.has_had_its_turn.replace(true);
        let end = AnswerEnd(watched.clone());
        async move {
            if has_had_its_turn {
                event_loop::yield_now().await;
                end.0.has_had_its_turn.set(true);
            }
            let mut answer = match check(&request) {
                Ok(()) => application.answer(&mut Some(request), mark).await,
                Err(why) => {
                    let about = About::request(&request);
                    let page = application.page(Cause::BadRequest(why.to_owned()), &about);
                    page.map(ResponseBody::page)
                }
            };
            remove_hop_by_hop(answer.headers_mut());
            Ok::<_, Infallible>(answer.map(|answer| WatchedAnswer {
                answer,
                _end: end,
                _in_flight: in_flight,
            }))
        }
    });
    // Not `pipeline_flush`: with it, hyper 1.12 loses a response when the connection ends and input is
    // left (conformance table: "nothing is answered after close").
    let mut connection = http1::Builder::new()
        .timer(HyperTimer)
        // hyper's timer would also run between requests, and be reset for each:
        // `WatchedConnection::deadline` replaces it.
        .header_read_timeout(None)
        // Both limits are needed: a buffer has more room than requested, and a head that is complete in
        // it would pass.
        .max_header_size(settings.http_head_bytes)
        .max_buf_size(settings.http_head_bytes.max(8192))
        .serve_connection(stream, service);
    let mut notified = false;
    let mut first_request = None;
    let mut alarm = Alarm::default();
    let end = poll_fn(|context| {
        let mut connection = Pin::new(&mut connection);
        watched.has_had_its_turn.set(false);
        loop {
            if let Poll::Ready(end) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(end));
            }
            watched.note_receiving(place, settings.total_head_bytes);
            if let Some(deadline) = watched.deadline(settings)
                && alarm.poll_past(context, deadline)
            {
                return Poll::Ready(None);
            }
            if notified {
                // The connection was to close after a response, which has been sent, but the rest of a
                // body is still arriving.
                let is_to_go = place.poll_wanted(context) == Some(Wanted::CloseNow);
                return if is_to_go { Poll::Ready(None) } else { Poll::Pending };
            }
            notified = match place.poll_wanted(context) {
                Some(Wanted::CloseNow) => return Poll::Ready(None),
                // A new connection is about to send a request.
                Some(Wanted::Close) => match grace.filter(|_| !watched.was_asked.get()) {
                    Some(grace) => {
                        let alarm = first_request.get_or_insert_with(|| time::sleep_until(grace));
                        Pin::new(alarm).poll(context).is_ready()
                    }
                    None => true,
                },
                // A response in flight is not announced as the last, so its connection may be kept.
                Some(Wanted::HandOver) => {
                    let is_idle = watched.in_flight.get() == 0 && !watched.blocked.get();
                    watched.stays_open.set(is_idle);
                    is_idle
                }
                None => false,
            };
            if !notified {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    let Some(end) = end else {
        tracing::debug!("HTTP connection closed: idle, or no complete request arrived.");
        return None;
    };
    if let Err(error) = &end
        && !error.is_incomplete_message()
    {
        tracing::debug!("HTTP connection ended: {error}.");
    }
    if watched.stays_open.replace(false) && end.is_ok() {
        let parts = connection.into_parts();
        return Some(PatientStream { first: parts.read_buf, ..parts.io });
    }
    // hyper has responded to malformed input by itself, while more of it may arrive.
    if end.is_err_and(|error| error.is_parse()) {
        let stream = connection.into_parts().io.stream;
        // A peer that is still sending after that has had time to read the response.
        let _ = time::timeout(LINGERING, linger::discard(stream, settings.unread_body_bytes)).await;
    }
    None
}

/// Checks whether the server can handle a request. hyper has already refused malformed ones.
///
/// # Errors
/// Why it cannot.
fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is only supported by proxies");
    }
    if request.uri().authority().is_some() {
        return Err("its target is not a path");
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return Err("the target * is only valid for OPTIONS");
    }
    check_host(request.version(), request.headers())
}

/// Checks the Host header (RFC 9112 §3.2): duplicates are used to smuggle requests past a proxy.
///
/// # Errors
/// What is wrong with it.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err("HTTP/1.1 requires a Host header"),
        (_, Some(_)) => Err("it has several Host headers"),
        (Some(host), None) if !is_host(host.as_bytes()) => {
            Err("its Host header is not a valid host")
        }
        _ => Ok(()),
    }
}

/// Whether this can be a host with an optional port (RFC 9110 §7.2, RFC 3986 §3.2.2), or empty.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

/// Converts hyper's request to the form in which the application sees all requests.
fn into_ours<S>(
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    application: &Application<S>,
) -> Request<Body> {
    let settings = &application.settings;
    let (mut head, incoming) = request.into_parts();
    // An absolute target (RFC 9112 §3.2.2) is equivalent to its path, and its host takes precedence. A Host
    // header that is to be refused stays.
    if head.uri.scheme().is_some() {
        if check_host(head.version, &head.headers).is_ok()
            && let Some(host) = head.uri.authority().and_then(|it| it.as_str().parse().ok())
        {
            head.headers.insert(HOST, host);
        }
        head.uri = head.uri.path_and_query().cloned().map(Into::into).unwrap_or_default();
    }
    cgi_headers::join_cookies(&mut head.headers);
    let peer = peer.map_or(Peer::UnixSocket, |peer| Peer::Address(peer.ip()));
    let visitor = forwarded::visitor(&settings.trusted_proxies, peer, &head.headers);
    let gateway = Gateway {
        scheme: visitor.scheme.unwrap_or_default(),
        remote_address: visitor.address,
        ..Gateway::NONE
    };
    let body = Body::http(incoming, &head.headers, settings);
    let mut request = Request::from_parts(head, body);
    application.classify(&mut request, gateway);
    request
}

/// Keeps the connection from counting as idle until the response is complete.
struct InFlightGuard {
    watched: Rc<WatchedConnection>,
    place: Rc<Registration>,
}

impl InFlightGuard {
    fn begin(watched: &Rc<WatchedConnection>, place: &Rc<Registration>) -> Self {
        watched.in_flight.set(watched.in_flight.get() + 1);
        watched.was_asked.set(true);
        watched.head.set(None);
        if watched.receiving.take().is_some() {
            place.set_held(0, usize::MAX);
        }
        place.set_doing(Doing::Answering);
        InFlightGuard { watched: watched.clone(), place: place.clone() }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.watched.in_flight.set(self.watched.in_flight.get() - 1);
        if self.watched.in_flight.get() == 0 {
            let now = time::now();
            self.watched.idle_since.set(now);
            self.place.set_doing(Doing::Idle(now));
        }
    }
}

/// What the crash guard and an upgrade need to know of a connection, as far as it is visible from outside
/// of hyper.
struct WatchedConnection {
    guard: ConnectionGuard,
    request_guard: RefCell<Option<RequestGuard>>,
    /// hyper has the whole response, and has sent it with its next flush.
    answer_is_over: Cell<bool>,
    sent: Cell<u64>,
    /// Bytes of a response wait to be written.
    blocked: Cell<bool>,
    /// Requests whose responses are not complete.
    in_flight: Cell<u32>,
    /// Whether a request has arrived.
    was_asked: Cell<bool>,
    /// Whether a request was answered since the connection was last polled. The next one that has arrived with it
    /// (pipelining) waits for the next turn of the loop: others are served in between.
    has_had_its_turn: Cell<bool>,
    /// Since when a head has been arriving, and how many bytes of it are there.
    head: Cell<Option<(Instant, usize)>>,
    /// Since when the connection has been without a request.
    idle_since: Cell<Instant>,
    /// The body of the last request, if it had one.
    body: RefCell<Option<Arrival>>,
    /// What the list of connections has recorded: since when, and how many bytes of a head.
    receiving: Cell<Option<(Instant, usize)>>,
    /// Whether the socket stays open when hyper is done with it.
    stays_open: Cell<bool>,
}

impl WatchedConnection {
    fn new(stream: &Stream) -> Self {
        WatchedConnection {
            guard: ConnectionGuard::register(stream.as_fd(), ReplyFormat::Http),
            request_guard: RefCell::default(),
            answer_is_over: Cell::new(false),
            sent: Cell::new(0),
            blocked: Cell::new(false),
            in_flight: Cell::new(0),
            was_asked: Cell::new(false),
            has_had_its_turn: Cell::new(false),
            head: Cell::new(None),
            idle_since: Cell::new(time::now()),
            body: RefCell::default(),
            receiving: Cell::new(None),
            stays_open: Cell::new(false),
        }
    }

    /// Records that bytes have arrived.
    fn received(&self, bytes: usize) {
        if self.in_flight.get() == 0 && bytes > 0 && !self.body_still_comes() {
            let (since, before) = self.head.get().unwrap_or_else(|| (time::now(), 0));
            self.head.set(Some((since, before + bytes)));
        }
        if self.guard.is_registered() && self.request_guard.borrow().is_none() {
            self.guard.input_changed();
            self.guard.record_input(|| InputState::Arriving(1));
        }
    }

    /// Whether what arrives belongs to a request that has been answered.
    fn body_still_comes(&self) -> bool {
        self.body.borrow().as_ref().is_some_and(Arrival::still_comes)
    }

    /// Records in the list of connections what arrives between two requests.
    fn note_receiving(&self, place: &Registration, most_held: usize) {
        // The end of a response may still be unsent.
        if self.in_flight.get() > 0 || self.blocked.get() {
            return;
        }
        let receiving = match self.head.get() {
            None if self.body_still_comes() => Some((self.idle_since.get(), 0)),
            head => head,
        };
        let before = self.receiving.replace(receiving);
        if receiving == before {
            return;
        }
        let (since, held) = receiving.unwrap_or((self.idle_since.get(), 0));
        place.set_doing(match receiving {
            Some(_) => Doing::Receiving(since),
            None => Doing::Idle(since),
        });
        place.set_held(held, most_held);
    }

    /// The deadline for a request, or the rest of its head, to arrive. Bodies and responses have their
    /// own deadlines.
    fn deadline(&self, settings: &Settings) -> Option<Instant> {
        if self.in_flight.get() > 0 || self.blocked.get() || self.body_still_comes() {
            return None;
        }
        Some(match self.head.get() {
            Some((since, _)) => since + settings.head_timeout,
            None if self.was_asked.get() => self.idle_since.get() + settings.idle_timeout,
            None => self.idle_since.get() + settings.head_timeout,
        })
    }

    /// Records that a request is complete.
    fn begin<S>(&self, application: &Application<S>, request: &Request<Body>) -> Mark {
        let guard = application.register(&self.guard, 0, request);
        let mark = guard.mark();
        // What is left of the previous response is sent first.
        mark.set_starts_at(if self.blocked.get() { 0 } else { self.sent.get() });
        self.guard.record_input_after_request(|| match request.body().is_end_stream() {
            true => InputState::Settled,
            false => InputState::Unsettled,
        });
        self.answer_is_over.set(false);
        self.body.replace(request.body().arrival().cloned());
        self.request_guard.replace(Some(guard));
        mark
    }

    /// Records the result of a write.
    fn wrote(&self, offered: usize, written: &Poll<io::Result<usize>>) {
        let count = match written {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.blocked.set(count < offered);
        self.sent.set(self.sent.get() + count as u64);
        self.guard.record_sent(self.sent.get(), None);
    }

    /// Records that nothing waits to be written.
    fn flushed(&self) {
        if self.answer_is_over.replace(false) {
            self.request_guard.replace(None);
        }
    }
}

/// Notifies the crash guard that the socket is about to be closed.
struct Leaving(Rc<WatchedConnection>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.guard.unregister();
    }
}

/// Dropped by hyper when it has the end of a response.
struct AnswerEnd(Rc<WatchedConnection>);

impl Drop for AnswerEnd {
    fn drop(&mut self) {
        self.0.answer_is_over.set(true);
    }
}

pin_project! {
    struct WatchedAnswer<B> {
        #[pin]
        answer: ResponseBody<B>,
        _end: AnswerEnd,
        _in_flight: InFlightGuard,
    }
}

impl<B: HttpBody<Error: fmt::Display>> HttpBody for WatchedAnswer<B> {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        self.project().answer.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

/// A stream whose peer has to read what is written in time.
struct PatientStream {
    // Declared before the stream: fields are dropped in declaration order.
    _leaving: Leaving,
    watched: Rc<WatchedConnection>,
    stream: Stream,
    patience: Patience,
    /// Bytes read earlier, to be returned first.
    first: Bytes,
}

impl PatientStream {
    fn new(stream: Stream, first: Bytes, settings: &Settings) -> Self {
        let watched = Rc::new(WatchedConnection::new(&stream));
        PatientStream {
            _leaving: Leaving(watched.clone()),
            watched,
            stream,
            patience: Patience::new(settings.send_timeout, settings.min_rate),
            first,
        }
    }

    fn patiently(
        &mut self,
        context: &mut Context<'_>,
        offered: usize,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = write(Pin::new(&mut self.stream), context);
        self.watched.wrote(offered, &written);
        match written {
            Poll::Ready(written) => {
                self.patience.progress(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending if self.patience.poll_over(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            self.watched.received(count);
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.stream.poll_read_cursor(context, buffer))?;
        self.watched.received(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.patiently(context, data.len(), |stream, context| {
            Write::poll_write(stream, context, data)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = slices.iter().map(|slice| slice.len()).sum();
        self.patiently(context, offered, |stream, context| {
            Write::poll_write_vectored(stream, context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched.flushed();
        Write::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watched.stays_open.get() {
            return Poll::Ready(Ok(()));
        }
        Write::poll_shutdown(Pin::new(&mut self.stream), context)
    }
}
