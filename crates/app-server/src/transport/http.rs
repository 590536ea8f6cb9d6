//! One HTTP/1.1 connection, by hyper, on the same loop and with the same application.
//!
//! `http/request.rs` converts requests, `http/watched.rs` keeps what is known of the connection, `http/stream.rs` is
//! the socket as hyper sees it.

mod request;
mod stream;
mod watched;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use event_loop::net::Stream;
use event_loop::time::{self, HyperTimer, Sleep};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use self::request::{check, into_ours};
use self::stream::PatientStream;
use self::watched::{InFlightGuard, ResponseEnd, WatchedConnection, WatchedResponse};
use crate::cause::Cause;
use crate::cgi_vars::http_to_cgi::remove_hop_by_hop;
use crate::connections::{Activity, FIRST_REQUEST, IdleConnection, Registration};
use crate::error_report::About;
use crate::phase::Wanted;
use crate::recovery::ReplyFormat;
use crate::request::application::Application;
use crate::request::body::LINGERING;
use crate::request::patience::Alarm;
use crate::request::response::ResponseBody;
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::linger;

/// Serves one connection until it ends. `is_new`: it has just been accepted, and a request is about to
/// arrive.
pub(crate) async fn serve<S: HttpService>(
    application: Rc<Application<S>>,
    stream: Stream,
    peer: Option<SocketAddr>,
    registration: Registration,
    is_new: bool,
) {
    let registration = Rc::new(registration);
    let mut stream = PatientStream::new(stream, Bytes::new(), &application.settings);
    let mut grace = is_new.then(|| time::now() + FIRST_REQUEST);
    loop {
        registration.set_activity(Activity::Idle(grace.unwrap_or_else(time::now)));
        match serve_until_wanted(&application, stream, peer, &registration, grace).await {
            None => return,
            Some(idle) if idle.first.is_empty() => {
                // The socket stays open, but no longer belongs to this process.
                let socket = idle.into_socket();
                if let Ok(registration) = Rc::try_unwrap(registration) {
                    registration.hand_over(IdleConnection::new(socket, peer, ReplyFormat::Http));
                }
                return;
            }
            // A request had started to arrive: it is answered here.
            Some(mut started) => {
                let first = std::mem::take(&mut started.first);
                stream = PatientStream::new(started.into_socket(), first, &application.settings);
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
    registration: &Rc<Registration>,
    grace: Option<Instant>,
) -> Option<PatientStream> {
    let settings = &application.settings;
    let watched = stream.watched.clone();
    // On a keep-alive connection the next request is not expected immediately.
    watched.was_asked.set(grace.is_none());
    let service = service_fn(|request| answer(application, request, peer, &watched, registration));
    let mut connection = protocol(settings).serve_connection(stream, service);
    let mut trigger = ShutdownTrigger::new(&watched, registration, settings, grace);
    let end = poll_fn(|context| {
        let mut connection = Pin::new(&mut connection);
        watched.has_had_its_turn.set(false);
        loop {
            if let Poll::Ready(end) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(end));
            }
            match trigger.poll(context) {
                Poll::Ready(Shutdown::Graceful) => connection.as_mut().graceful_shutdown(),
                Poll::Ready(Shutdown::Abrupt) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
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
        let mut stream = parts.io;
        stream.first = parts.read_buf;
        return Some(stream);
    }
    // hyper has responded to malformed input by itself, while more of it may arrive.
    if end.is_err_and(|error| error.is_parse()) {
        let socket = connection.into_parts().io.into_socket();
        // A peer that is still sending after that has had time to read the response.
        let _ = time::timeout(LINGERING, linger::discard(socket, settings.unread_body_bytes)).await;
    }
    None
}

/// How hyper is to speak. Not `pipeline_flush`: with it, hyper 1.12 loses a response when the connection ends and
/// input is left (conformance table: "nothing is answered after close").
fn protocol(settings: &Settings) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(HyperTimer)
        // hyper's timer would also run between requests, and be reset for each:
        // `WatchedConnection::deadline` replaces it.
        .header_read_timeout(None)
        // Both limits are needed: a buffer has more room than requested, and a head that is complete in
        // it would pass.
        .max_header_size(settings.http_head_bytes)
        .max_buf_size(settings.http_head_bytes.max(8192));
    protocol
}

/// Has the application answer one request.
fn answer<S: HttpService>(
    application: &Rc<Application<S>>,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    watched: &Rc<WatchedConnection>,
    registration: &Rc<Registration>,
) -> impl Future<Output = Result<Response<WatchedResponse<S::Content>>, Infallible>> + use<S> {
    let in_flight = InFlightGuard::begin(watched, registration);
    let request = into_ours(request, peer, application);
    let application = application.clone();
    let mark = watched.begin(&application, &request);
    let has_had_its_turn = watched.has_had_its_turn.replace(true);
    let end = ResponseEnd(watched.clone());
    async move {
        if has_had_its_turn {
            event_loop::yield_now().await;
            end.0.has_had_its_turn.set(true);
        }
        let mut response = match check(&request) {
            Ok(()) => application.answer(&mut Some(request), mark).await,
            Err(why) => {
                let about = About::request(&request);
                let page = application.page(Cause::BadRequest(why.to_owned()), &about);
                page.map(ResponseBody::page)
            }
        };
        remove_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| WatchedResponse { body, _end: end, _in_flight: in_flight }))
    }
}

/// How to end a connection.
enum Shutdown {
    /// After the response in flight.
    Graceful,
    /// At once: nothing that is in flight could be completed.
    Abrupt,
}

/// When to end a connection that hyper would keep.
struct ShutdownTrigger<'a> {
    watched: &'a WatchedConnection,
    registration: &'a Registration,
    settings: &'a Settings,
    /// Until when the first request is awaited although the connection is to close.
    grace: Option<Instant>,
    first_request: Option<Sleep>,
    alarm: Alarm,
    /// Whether hyper has been asked to end gracefully.
    is_graceful: bool,
}

impl<'a> ShutdownTrigger<'a> {
    fn new(
        watched: &'a WatchedConnection,
        registration: &'a Registration,
        settings: &'a Settings,
        grace: Option<Instant>,
    ) -> Self {
        let (first_request, alarm, is_graceful) = (None, Alarm::default(), false);
        ShutdownTrigger {
            watched,
            registration,
            settings,
            grace,
            first_request,
            alarm,
            is_graceful,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Shutdown> {
        self.watched.note_receiving(self.registration, self.settings.total_head_bytes);
        if let Some(deadline) = self.watched.deadline(self.settings)
            && self.alarm.poll_past(context, deadline)
        {
            return Poll::Ready(Shutdown::Abrupt);
        }
        let wanted = self.registration.poll_wanted(context);
        if wanted == Some(Wanted::CloseNow) {
            return Poll::Ready(Shutdown::Abrupt);
        }
        // Once asked, hyper sends the response, and the rest of a body may still be arriving.
        if !self.is_graceful && wanted.is_some_and(|wanted| self.can_end(wanted, context)) {
            self.is_graceful = true;
            return Poll::Ready(Shutdown::Graceful);
        }
        Poll::Pending
    }

    fn can_end(&mut self, wanted: Wanted, context: &mut Context<'_>) -> bool {
        match wanted {
            // A response in flight is not announced as the last, so its connection may be kept.
            Wanted::HandOver => {
                let is_idle = self.watched.in_flight.get() == 0 && !self.watched.blocked.get();
                self.watched.stays_open.set(is_idle);
                is_idle
            }
            // A new connection is about to send a request.
            Wanted::Close if !self.watched.was_asked.get() => self.grace.is_none_or(|grace| {
                let alarm = self.first_request.get_or_insert_with(|| time::sleep_until(grace));
                Pin::new(alarm).poll(context).is_ready()
            }),
            Wanted::Close | Wanted::CloseNow => true,
        }
    }
}
