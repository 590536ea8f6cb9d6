//! How long a connection may wait for its peer.

use std::task::{Context, Poll};
use std::time::Instant;

use event_loop::time;

use super::connection::{Connection, ConnectionEnd, InFlightRequest, WaitingFor, pace_of};
use crate::connections::FIRST_REQUEST;
use crate::request::body::Sender;
use crate::request::service::HttpService;

impl<S: HttpService> Connection<S> {
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

    pub(super) fn poll_deadline(
        &mut self,
        context: &mut Context<'_>,
        reading: bool,
    ) -> Poll<ConnectionEnd> {
        if !reading {
            self.in_flight.iter().flat_map(InFlightRequest::senders).for_each(Sender::pause);
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
}
