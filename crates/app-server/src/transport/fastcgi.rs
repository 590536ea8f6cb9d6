//! One FastCGI connection: bytes from the socket become requests, and responses become bytes.
//!
//! The protocol's rules are in `fastcgi_server::Connection`; what happens to a request is in `respond.rs`, which
//! writes to the connection through `fastcgi/output.rs`. Here is what lies between them and a socket: reading with
//! backpressure, batching writes, closing. `fastcgi/connection.rs` is the state, `fastcgi/events.rs` starts requests,
//! `fastcgi/deadlines.rs` says how long the peer may take.

mod connection;
mod deadlines;
mod events;
mod output;

use std::cell::{RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event_loop::net::Stream;
use event_loop::time;
use fastcgi_server::CloseWhen;

use self::connection::{Connection, ConnectionEnd, InFlightRequest, WaitingFor, pace_of};
use crate::connections::{Activity, FIRST_REQUEST, IdleConnection, Registration};
use crate::phase::Wanted;
use crate::recovery::ReplyFormat;
use crate::request::application::{Application, MIN_READ_BYTES, READ_BYTES};
use crate::request::body::BodyError;
use crate::request::service::HttpService;

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

impl<S: HttpService> Connection<S> {
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
