//! One FastCGI connection: bytes from the socket become requests, and responses become bytes.
//!
//! The protocol's rules are in `fastcgi_server::Connection`; what happens to a request is in `respond.rs`, which
//! writes to the connection by way of `fastcgi/output.rs`. Here is what lies between them and a socket: reading with
//! backpressure, batching writes, deadlines, closing.

mod output;

use std::cell::{RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use event_loop::Task;
use event_loop::net::Stream;
use event_loop::time;
use fastcgi_server::{CloseWhen, Event, Limits, Refusal, RequestId, Role};
use http::Method;
use smallvec::SmallVec;

use self::output::{Link, Stdout};
use crate::cause::Cause;
use crate::cgi_vars::cgi_to_http::{self, Head};
use crate::connections::{Activity, FIRST_REQUEST, IdleConnection, Registration};
use crate::error_report::About;
use crate::phase::Wanted;
use crate::recovery::{FastCgiGuard, Mark, ReplyFormat, RequestGuard};
use crate::request::application::{Application, MIN_READ_BYTES, READ_BYTES};
use crate::request::body::{Body, BodyError, Sender};
use crate::request::context::{FilterData, RequestContext};
use crate::request::patience::{Alarm, Pace};
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::respond::{self, ResponseSink};

/// Segments of one vectored write. A response has one or two; a batch of responses shares segments.
const SLICES: usize = 32;

/// Reads from one connection before other tasks get a turn.
const READS_A_TURN: u32 = 8;

/// Serves one connection until it ends. `is_new`: it has just been accepted, and a request is about to
/// arrive.
///
/// Not an `async fn`: its future would reserve room for the arguments too, on every idle connection.
pub(crate) fn serve<S: HttpService>(
    application: Rc<Application<S>>,
    stream: Stream,
    registration: Registration,
    is_new: bool,
) -> impl Future<Output = ()> {
    let mut connection = Connection::new(application, stream, registration, is_new);
    async move {
        let end = poll_fn(|context| connection.poll(context)).await;
        connection.finish(end);
    }
}

/// Why a connection ends.
enum ConnectionEnd {
    /// Every request was completed.
    Done,
    /// The connection is idle, and its descriptor is needed or the process drains.
    Unneeded,
    /// The connection was closed for another one; its request stays incomplete.
    Evicted,
    /// The process upgrades, and the connection is idle.
    HandedOver,
    /// The peer closed or the socket failed.
    Gone(Option<io::Error>),
    /// The peer violated the protocol; the reason is logged.
    Failed,
    /// A response was truncated.
    Truncated,
    /// A deadline passed.
    TimedOut(WaitingFor),
}

/// What a connection waits for, by the deadline it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitingFor {
    NextRequest,
    /// Variables, or a record that belongs to no request.
    Head,
    /// Data of a request that is not its body, or that is discarded.
    RestOfRequest,
    /// The body of a request.
    Body,
    Peer,
}

struct Connection<S> {
    /// Released before the socket is closed.
    guard: FastCgiGuard,
    application: Rc<Application<S>>,
    stream: Stream,
    registration: Registration,
    link: Rc<Link>,
    /// Most connections never carry two requests at once.
    in_flight: SmallVec<[InFlightRequest; 1]>,
    /// No request has arrived yet, and one is expected soon.
    is_new: bool,
    /// Whether to close once the connection is between requests.
    is_leaving: bool,
    /// Whether several requests were in flight at once: from then on, no body may stop reading.
    multiplexed: bool,
    /// Bytes read after the last response of a connection that is being closed.
    discarded: u64,
    /// Whether the write side has been shut down while still reading.
    write_is_shut_down: bool,
    last_progress: Instant,
    /// Something other than a body is arriving: the request, if these are its variables; since when.
    head: Option<(Option<RequestId>, Instant)>,
    /// The bytes recorded for it in the list of connections.
    held: usize,
    /// How fast the peer reads responses, if it has ever kept one waiting and not caught up since.
    reading_pace: Option<Box<Pace>>,
    alarm: Alarm,
}

/// One request in flight.
struct InFlightRequest {
    id: RequestId,
    stdin: Option<Sender>,
    /// Boxed because only filters have it.
    data: Option<Box<Sender>>,
    /// Whether the web server wants to keep the connection.
    keeps_connection: bool,
    /// Dropping it cancels the handler.
    _task: Task<()>,
    /// Kept until the response is sent, beyond the handler's end.
    _guard: RequestGuard,
}

impl InFlightRequest {
    /// Whether nothing more of it arrives and the connection outlives it.
    fn is_received_and_keeps_connection(&self) -> bool {
        self.keeps_connection && self.stdin.is_none() && self.data.is_none()
    }

    /// The streams that have not ended.
    fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.stdin.iter().chain(self.data.as_deref())
    }
}

impl<S: HttpService> Connection<S> {
    fn new(
        application: Rc<Application<S>>,
        stream: Stream,
        registration: Registration,
        is_new: bool,
    ) -> Self {
        let settings = &application.settings;
        let limits = Limits {
            params_bytes: settings.params_bytes,
            requests_per_connection: settings.requests_per_connection,
            connections: u32::try_from(settings.max_connections).unwrap_or(u32::MAX),
            ..Limits::default()
        };
        let is_behind_mod_fcgid = application.surroundings.is_behind_mod_fcgid;
        let link = Link::new(limits, settings.response_bytes, is_behind_mod_fcgid);
        let last_progress = time::now();
        Connection {
            guard: FastCgiGuard::register(stream.as_fd()),
            application,
            stream,
            registration,
            link,
            in_flight: SmallVec::new(),
            is_new,
            is_leaving: false,
            multiplexed: false,
            discarded: 0,
            write_is_shut_down: false,
            last_progress,
            head: None,
            held: 0,
            reading_pace: None,
            alarm: Alarm::default(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ConnectionEnd> {
        {
            let mut waker = self.link.connection.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        self.link.is_running.set(true);
        let polled = self.work(context);
        self.link.is_running.set(false);
        polled
    }

    /// Sends and reads in turn until neither is possible.
    fn work(&mut self, context: &mut Context<'_>) -> Poll<ConnectionEnd> {
        for _ in 0..READS_A_TURN {
            match self.poll_send(context) {
                Poll::Ready(Err(error)) => return Poll::Ready(ConnectionEnd::Gone(Some(error))),
                Poll::Ready(Ok(())) => match self.poll_end(context) {
                    // A request may be on its way; do not lose it.
                    Some(ConnectionEnd::Unneeded) if self.read_once_more() => continue,
                    Some(end) => return Poll::Ready(end),
                    None => {}
                },
                // Responses to what has been read are piling up: accept no more requests.
                Poll::Pending if self.unsent() >= 2 * self.link.response_bytes => {
                    return self.poll_deadline(context, false);
                }
                Poll::Pending => {}
            }
            if self.poll_body_full(context) {
                // While nothing is read, still notice a peer that has gone, and cancel its handlers.
                if let Poll::Ready(closed) = self.stream.poll_read_closed(context) {
                    return Poll::Ready(ConnectionEnd::Gone(closed.err()));
                }
                return self.poll_deadline(context, false);
            }
            match self.poll_read(context) {
                Poll::Pending => return self.poll_deadline(context, true),
                Poll::Ready(Ok(0)) => return Poll::Ready(ConnectionEnd::Gone(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(ConnectionEnd::Gone(Some(error))),
                Poll::Ready(Ok(_)) => {
                    if !self.handle_events() {
                        // A refusal may be pending; it is small.
                        let _ = self.poll_send(context);
                        return Poll::Ready(ConnectionEnd::Failed);
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends all pending output. Ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = {
                let protocol = self.link.protocol.borrow();
                if protocol.unsent() == 0 {
                    return Poll::Ready(Ok(()));
                }
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = protocol.transmit(&mut slices);
                match self.stream.poll_write_vectored(context, &slices[..count]) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => {
                        pace_of(&mut self.reading_pace, &self.application.settings)
                            .wait(time::now());
                        return Poll::Pending;
                    }
                }
            };
            {
                let mut protocol = self.link.protocol.borrow_mut();
                protocol.transmitted(sent);
                self.guard.sent(&protocol);
            }
            self.last_progress = time::now();
            if let Some(pace) = &mut self.reading_pace {
                pace.progress(sent, || self.last_progress);
                if pace.is_full() {
                    self.reading_pace = None;
                }
            }
            if self.unsent() < self.link.response_bytes / 2 {
                self.link.wake_writers();
            }
        }
    }

    /// Records which head is incomplete, since when, and how many bytes incomplete heads hold.
    fn note_head(&mut self) {
        let (arriving, held) = {
            let protocol = self.link.protocol.borrow();
            // The usual case: a request arrived complete.
            if self.head.is_none() && self.held == 0 && protocol.is_between_requests() {
                return;
            }
            let arriving = match protocol.arriving_request() {
                None if self.in_flight.is_empty() && !protocol.is_between_requests() => Some(None),
                request => request.map(Some),
            };
            (arriving, protocol.held_bytes())
        };
        self.head = arriving.map(|request| match self.head {
            Some((same, since)) if same == request => (request, since),
            _ => (request, self.last_progress),
        });
        if held != self.held {
            self.held = held;
            self.registration.set_held(held, self.application.settings.total_head_bytes);
        }
    }

    /// Records what has arrived, for the crash guard. `starting`: how many requests have arrived in full that are not in
    /// the list yet.
    fn record_input(&self, starting: usize) {
        let protocol = self.link.protocol.borrow();
        self.guard.record_input(&protocol, || {
            let live = self.in_flight.iter().filter(|it| protocol.is_active(it.id));
            live.filter(|it| it.is_received_and_keeps_connection()).count() + starting
        });
    }

    /// Returns why the connection ends, if it does, now that everything is sent.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Option<ConnectionEnd> {
        let protocol = self.link.protocol.borrow();
        self.in_flight.retain(|request| protocol.is_active(request.id));
        if self.link.broken.get() {
            return Some(ConnectionEnd::Truncated);
        }
        match protocol.close_when() {
            CloseWhen::Now => return Some(ConnectionEnd::Done),
            CloseWhen::AfterInput => {
                if self.discarded > self.application.settings.unread_body_bytes {
                    return Some(ConnectionEnd::Done);
                }
                // Without keep-alive, nginx takes the end of the connection for the end of the response,
                // and stops sending the body once a response starts: shut down writing while the rest is
                // awaited.
                if !self.write_is_shut_down {
                    self.write_is_shut_down = true;
                    if let Err(error) = self.stream.shutdown_write() {
                        return Some(ConnectionEnd::Gone(Some(error)));
                    }
                    self.head = Some((None, time::now()));
                }
                let since = self.head.map_or(self.last_progress, |(_, since)| since);
                self.registration.set_activity(Activity::Receiving(since));
                let wanted = self.registration.poll_wanted(context);
                return (wanted == Some(Wanted::CloseNow)).then_some(ConnectionEnd::Evicted);
            }
            CloseWhen::KeepOpen => {}
        }
        let idle = protocol.is_between_requests();
        let grace = if self.is_new { FIRST_REQUEST } else { Duration::ZERO };
        let is_answering = !self.in_flight.is_empty();
        self.registration.set_activity(if idle {
            Activity::Idle(self.last_progress + grace)
        } else if is_answering {
            Activity::Answering
        } else {
            Activity::Receiving(self.head.map_or(self.last_progress, |(_, since)| since))
        });
        let wanted = self.registration.poll_wanted(context);
        self.is_leaving = wanted == Some(Wanted::Close);
        match wanted {
            Some(Wanted::CloseNow) => Some(ConnectionEnd::Evicted),
            Some(Wanted::HandOver) if idle => Some(ConnectionEnd::HandedOver),
            // A new connection may take its time to send its first request; a deadline bounds that.
            Some(Wanted::Close) if idle && !self.is_new => Some(ConnectionEnd::Unneeded),
            _ => None,
        }
    }

    /// Whether a handler has to catch up before more is read.
    fn poll_body_full(&mut self, context: &mut Context<'_>) -> bool {
        let settings = &self.application.settings;
        let mut senders = self.in_flight.iter().flat_map(InFlightRequest::senders);
        if self.multiplexed {
            senders.for_each(|it| it.spill_past(settings.body_bytes, settings.spilled_body_bytes));
            return false;
        }
        senders.any(|sender| sender.poll_full(context, settings.body_bytes))
    }

    /// Reads once more before an idle connection is closed, whatever the poll set has reported. Returns
    /// whether anything arrived.
    fn read_once_more(&mut self) -> bool {
        let application = self.application.clone();
        let mut buffer = room_to_read(&application.read_buffer);
        match self.stream.read_now(&mut buffer) {
            Ok(count) if count > 0 => {
                self.receive(buffer.split_to(count).freeze());
                drop(buffer);
                self.handle_events()
            }
            _ => false,
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let application = self.application.clone();
        let mut buffer = room_to_read(&application.read_buffer);
        let count = ready!(self.stream.poll_read_into(context, &mut buffer))?;
        self.receive(buffer.split_to(count).freeze());
        Poll::Ready(Ok(count))
    }

    fn receive(&mut self, input: Bytes) {
        self.guard.received();
        self.last_progress = time::now();
        let mut protocol = self.link.protocol.borrow_mut();
        if protocol.close_when() == CloseWhen::AfterInput {
            self.discarded += input.len() as u64;
        }
        protocol.handle_input(input);
    }

    /// Passes what was read to the requests. Returns whether the connection can continue.
    fn handle_events(&mut self) -> bool {
        // A request that starts with the next event, which may be the end of its body.
        let mut beginning: Option<fastcgi_server::Request> = None;
        loop {
            let event = self.link.protocol.borrow_mut().poll_event();
            if let Some(request) = beginning.take() {
                let no_body = matches!(&event, Some(Event::StdinEnd { id }) if *id == request.id);
                self.begin(request, no_body);
                if no_body {
                    continue;
                }
            }
            match event {
                None => {
                    self.record_input(0);
                    self.note_head();
                    return true;
                }
                Some(Event::Request(request)) => {
                    // The id may be reused immediately, for a new head.
                    self.head = None;
                    beginning = Some(request);
                }
                Some(Event::Refused { id, reason: Refusal::ParamsTooLarge { limit } }) => {
                    let cause = Cause::VariablesTooLarge(limit);
                    let page = self.application.page(cause, &About::unknown());
                    self.stdout(id).page(&Method::GET, page);
                }
                Some(Event::Stdin { id, data }) => {
                    if let Some(stdin) = self.request(id).and_then(|it| it.stdin.as_mut()) {
                        stdin.push(data);
                    }
                }
                Some(Event::StdinEnd { id }) => {
                    if let Some(stdin) = self.request(id).and_then(|it| it.stdin.take()) {
                        stdin.end();
                    }
                }
                Some(Event::Data { id, data }) => {
                    if let Some(sender) = self.request(id).and_then(|it| it.data.as_mut()) {
                        sender.push(data);
                    }
                }
                Some(Event::DataEnd { id }) => {
                    if let Some(sender) = self.request(id).and_then(|it| it.data.take()) {
                        sender.end();
                    }
                }
                Some(Event::Abort { id }) => self.abort(id),
                Some(Event::Failed(error)) => {
                    tracing::warn!("FastCGI connection closed: {error}.");
                    return false;
                }
            }
        }
    }

    fn request(&mut self, id: RequestId) -> Option<&mut InFlightRequest> {
        self.in_flight.iter_mut().find(|request| request.id == id)
    }

    /// The sink for a page made by the server.
    fn stdout(&self, id: RequestId) -> Stdout {
        Stdout { link: self.link.clone(), id, mark: Mark::default() }
    }

    /// Passes a request to the application. `no_body`: its body has already ended.
    fn begin(&mut self, request: fastcgi_server::Request, no_body: bool) {
        let fastcgi_server::Request { id, role, params, keep_connection } = request;
        self.registration.set_activity(Activity::Answering);
        self.is_new = false;
        let Settings { trusted_proxies, secret_variables, .. } = &self.application.settings;
        let head = cgi_to_http::head(params, Some(role), trusted_proxies, secret_variables);
        let Head { request, gateway, content_length: length } = match head {
            Ok(head) => head,
            Err(why) => {
                let page = self.application.page(Cause::BadRequest(why), &About::unknown());
                return self.stdout(id).page(&Method::GET, page);
            }
        };
        let (stdin, body) = self.body(role, length, no_body);
        let mut request = request.map(|()| body);
        self.application.classify(&mut request, gateway);
        let data = (role == Role::Filter).then(|| {
            let (sender, body) = Body::queue(None);
            let context = request.extensions_mut().get_or_insert_default::<RequestContext>();
            context.filter_data = Some(FilterData::new(body));
            Box::new(sender)
        });
        // A reused id means that its former request has ended: drop what is left of it.
        self.in_flight.retain(|request| request.id != id);
        self.multiplexed |= !self.in_flight.is_empty();
        let connection = self.guard.connection();
        let guard = self.application.register(connection, u32::from(id.get()), &request);
        let mark = guard.mark();
        let is_received = stdin.is_none() && data.is_none();
        self.record_input(usize::from(is_received && keep_connection));
        let task = event_loop::spawn_now(respond::run(
            self.application.clone(),
            Stdout { link: self.link.clone(), id, mark },
            request,
            mark,
        ));
        self.in_flight.push(InFlightRequest {
            id,
            stdin,
            data,
            keeps_connection: keep_connection,
            _task: task,
            _guard: guard,
        });
    }

    /// Makes a request's body, and its sender unless it has ended.
    fn body(&self, role: Role, length: Option<u64>, has_ended: bool) -> (Option<Sender>, Body) {
        // An authorizer does not get the body of the request it decides about.
        if role == Role::Authorizer || has_ended && length.unwrap_or(0) == 0 {
            return (None, Body::empty());
        }
        let (sender, body) = Body::arriving(length, &self.application.settings);
        if has_ended {
            sender.end();
            return (None, body);
        }
        (Some(sender), body)
    }

    /// The web server no longer wants the response: cancels the handler and ends the request.
    fn abort(&mut self, id: RequestId) {
        if let Some(at) = self.in_flight.iter().position(|request| request.id == id) {
            tracing::debug!("Web server aborted request {id}.");
            drop(self.in_flight.swap_remove(at));
        }
        self.link.protocol.borrow_mut().end_request(id, 1);
    }

    fn unsent(&self) -> usize {
        self.link.protocol.borrow().unsent()
    }

    /// Returns the next deadline, if any, and what it is for. `reading`: whether the server is reading.
    fn deadline(&mut self, reading: bool) -> Option<(Instant, WaitingFor)> {
        let settings = &self.application.settings;
        let protocol = self.link.protocol.borrow();
        let mut first = None;
        let mut add = |deadline: Instant, waiting| {
            if first.is_none_or(|(earliest, _)| deadline < earliest) {
                first = Some((deadline, waiting));
            }
        };
        if protocol.unsent() > 0 {
            let pace = pace_of(&mut self.reading_pace, settings);
            add(pace.wait(time::now()), WaitingFor::Peer);
        } else if protocol.is_between_requests() {
            let limit = if self.is_leaving { FIRST_REQUEST } else { settings.idle_timeout };
            add(self.last_progress + limit, WaitingFor::NextRequest);
        }
        // The rest of a request that has been answered may take longer.
        if let Some((request, since)) = self.head
            && reading
            && (request.is_some() || self.is_new)
        {
            add(since + settings.head_timeout, WaitingFor::Head);
        }
        // A handler may take as long as it needs; the peer may not pause halfway.
        for request in self.in_flight.iter().filter(|_| reading) {
            if let Some(deadline) = request.stdin.as_ref().and_then(Sender::wait) {
                add(deadline, WaitingFor::Body);
            }
            if request.data.is_some() {
                add(self.last_progress + settings.receive_timeout, WaitingFor::RestOfRequest);
            }
        }
        if first.is_none() && self.in_flight.is_empty() {
            return Some((
                self.last_progress + settings.receive_timeout,
                WaitingFor::RestOfRequest,
            ));
        }
        first
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>, reading: bool) -> Poll<ConnectionEnd> {
        if !reading {
            self.in_flight.iter().flat_map(InFlightRequest::senders).for_each(Sender::rest);
            if let Some((_, since)) = &mut self.head {
                *since = time::now();
            }
        }
        loop {
            let Some((deadline, waiting)) = self.deadline(reading) else {
                self.alarm.stop();
                return Poll::Pending;
            };
            if !self.alarm.poll_past(context, deadline) {
                return Poll::Pending;
            }
            match waiting {
                WaitingFor::NextRequest if self.read_once_more() => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // The connection's other requests continue, and the client gets a response.
                WaitingFor::Body => self.give_up_slow_bodies(deadline),
                _ => return Poll::Ready(ConnectionEnd::TimedOut(waiting)),
            }
        }
    }

    /// Ends the requests whose bodies are overdue.
    fn give_up_slow_bodies(&self, now: Instant) {
        let limit = self.application.settings.receive_timeout;
        for stdin in self.in_flight.iter().filter_map(|request| request.stdin.as_ref()) {
            if stdin.wait().is_some_and(|deadline| deadline <= now) {
                stdin.give_up(limit);
            }
        }
    }

    /// Ends what is in flight, and logs the reason where it is not obvious.
    fn finish(self, end: ConnectionEnd) {
        let in_flight = self.in_flight.len();
        let settings = &self.application.settings;
        match end {
            ConnectionEnd::HandedOver => {
                self.guard.unregister();
                let idle = IdleConnection::new(self.stream, None, ReplyFormat::FastCgi);
                return self.registration.hand_over(idle);
            }
            ConnectionEnd::Done
            | ConnectionEnd::Unneeded
            | ConnectionEnd::Failed
            | ConnectionEnd::Truncated => {}
            ConnectionEnd::Evicted => {
                tracing::debug!("Incomplete request dropped to make room.");
            }
            ConnectionEnd::Gone(_) if in_flight == 0 => {}
            ConnectionEnd::Gone(error) => {
                let why = error.map_or_else(|| "it closed".to_owned(), |error| error.to_string());
                tracing::debug!(in_flight, "Web server closed a connection: {why}.");
            }
            ConnectionEnd::TimedOut(WaitingFor::NextRequest) => {}
            ConnectionEnd::TimedOut(WaitingFor::Head) => tracing::warn!(
                in_flight,
                "FastCGI connection closed: request headers incomplete after {} s (head_timeout).",
                settings.head_timeout.as_secs()
            ),
            ConnectionEnd::TimedOut(WaitingFor::RestOfRequest | WaitingFor::Body) => {
                tracing::warn!(
                    in_flight,
                    "FastCGI connection closed: nothing received of an incomplete request for {} s \
                 (receive_timeout).",
                    settings.receive_timeout.as_secs()
                )
            }
            ConnectionEnd::TimedOut(WaitingFor::Peer) => tracing::warn!(
                in_flight,
                "FastCGI connection closed: responses not read, or read too slowly, for {} s \
                 (send_timeout, min_rate).",
                settings.send_timeout.as_secs()
            ),
        }
        for request in self.in_flight {
            for sender in request.stdin.into_iter().chain(request.data.map(|data| *data)) {
                sender.fail(BodyError::Aborted);
            }
        }
    }
}

/// Returns how fast the peer reads responses, from now on if nothing was known.
fn pace_of<'a>(pace: &'a mut Option<Box<Pace>>, settings: &Settings) -> &'a mut Pace {
    pace.get_or_insert_with(|| Box::new(Pace::new(settings.send_timeout, settings.min_rate)))
}

/// Returns the shared read buffer with room for a read.
///
/// Its memory is reused when no body holds a part of it. Otherwise the rest is used up first: fresh
/// memory for each small chunk of a body would pin 64 KiB per chunk.
fn room_to_read(buffer: &RefCell<BytesMut>) -> RefMut<'_, BytesMut> {
    let mut buffer = buffer.borrow_mut();
    if buffer.capacity() < READ_BYTES
        && !buffer.try_reclaim(READ_BYTES)
        && buffer.capacity() < MIN_READ_BYTES
    {
        buffer.reserve(READ_BYTES);
    }
    buffer
}
