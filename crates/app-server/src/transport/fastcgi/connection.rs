//! The state of one FastCGI connection.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use event_loop::Task;
use event_loop::net::Stream;
use event_loop::time;
use fastcgi_server::{Limits, RequestId};
use smallvec::SmallVec;

use super::output::Link;
use crate::connections::Registration;
use crate::recovery::{FastCgiGuard, RequestGuard};
use crate::request::application::Application;
use crate::request::body::Sender;
use crate::request::patience::{Alarm, Pace};
use crate::settings::Settings;

pub(super) struct Connection<S> {
    /// Released before the socket is closed.
    pub(super) guard: FastCgiGuard,
    pub(super) application: Rc<Application<S>>,
    pub(super) stream: Stream,
    pub(super) registration: Registration,
    pub(super) link: Rc<Link>,
    /// Most connections never carry two requests at once.
    pub(super) in_flight: SmallVec<[InFlightRequest; 1]>,
    /// No request has arrived yet, and one is expected soon.
    pub(super) is_new: bool,
    /// Whether to close once the connection is between requests.
    pub(super) is_leaving: bool,
    /// Whether several requests were in flight at once: from then on, no body may stop reading.
    pub(super) multiplexed: bool,
    /// Bytes read after the last response of a connection that is being closed.
    pub(super) discarded: u64,
    /// Whether the write side has been shut down while still reading.
    pub(super) write_is_shut_down: bool,
    pub(super) last_progress: Instant,
    /// Something other than a body is arriving: the request, if these are its variables; since when.
    pub(super) head: Option<(Option<RequestId>, Instant)>,
    /// The bytes recorded for it in the list of connections.
    pub(super) held: usize,
    /// How fast the peer reads responses, if it has ever kept one waiting and not caught up since.
    pub(super) reading_pace: Option<Box<Pace>>,
    pub(super) alarm: Alarm,
}

/// One request in flight.
pub(super) struct InFlightRequest {
    pub(super) id: RequestId,
    pub(super) stdin: Option<Sender>,
    /// Boxed because only filters have it.
    pub(super) data: Option<Box<Sender>>,
    /// Whether the web server wants to keep the connection.
    pub(super) keeps_connection: bool,
    /// Dropping it cancels the handler.
    pub(super) _task: Task<()>,
    /// Kept until the response is sent, beyond the handler's end.
    pub(super) _guard: RequestGuard,
}

impl InFlightRequest {
    /// Whether nothing more of it arrives and the connection outlives it.
    pub(super) fn is_received_and_keeps_connection(&self) -> bool {
        self.keeps_connection && self.stdin.is_none() && self.data.is_none()
    }

    /// The streams that have not ended.
    pub(super) fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.stdin.iter().chain(self.data.as_deref())
    }
}

impl<S> Connection<S> {
    pub(super) fn new(
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

    /// Records what has arrived, for the crash guard. `starting`: how many requests that have arrived in full are not
    /// in the list yet.
    pub(super) fn record_input(&self, starting: usize) {
        let protocol = self.link.protocol.borrow();
        self.guard.record_input(&protocol, || {
            let live = self.in_flight.iter().filter(|it| protocol.is_active(it.id));
            live.filter(|it| it.is_received_and_keeps_connection()).count() + starting
        });
    }

    pub(super) fn unsent(&self) -> usize {
        self.link.protocol.borrow().unsent()
    }
}

/// Returns how fast the peer reads responses, from now on if nothing was known.
pub(super) fn pace_of<'a>(pace: &'a mut Option<Box<Pace>>, settings: &Settings) -> &'a mut Pace {
    pace.get_or_insert_with(|| Box::new(Pace::new(settings.send_timeout, settings.min_rate)))
}

/// Why a connection ends.
pub(super) enum ConnectionEnd {
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
pub(super) enum WaitingFor {
    NextRequest,
    /// Variables, or a record that belongs to no request.
    Head,
    /// Data of a request that is not its body, or that is discarded.
    RestOfRequest,
    /// The body of a request.
    Body,
    Peer,
}
