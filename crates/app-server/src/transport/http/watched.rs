//! What is known of an HTTP connection, as far as it is visible from outside of hyper: for its deadlines, for the
//! list of connections and for the crash guard.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use event_loop::net::Stream;
use event_loop::time;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::connections::{Activity, Registration};
use crate::recovery::{HttpGuard, Mark};
use crate::request::application::Application;
use crate::request::body::Body;
use crate::request::permits::Arrival;
use crate::request::response::{ResponseBody, Truncated};
use crate::settings::Settings;

/// What the crash guard and an upgrade need to know of a connection, as far as it is visible from outside
/// of hyper.
pub(super) struct WatchedConnection {
    guard: HttpGuard,
    /// Bytes of a response wait to be written.
    pub(super) blocked: Cell<bool>,
    /// Requests whose responses are not complete.
    pub(super) in_flight: Cell<u32>,
    /// Whether a request has arrived.
    pub(super) was_asked: Cell<bool>,
    /// Whether a request was answered since the connection was last polled. The next one that has arrived with it
    /// (pipelining) waits for the next turn of the loop: others are served in between.
    pub(super) has_had_its_turn: Cell<bool>,
    /// Since when a head has been arriving, and how many bytes of it are there.
    head: Cell<Option<(Instant, usize)>>,
    /// Since when the connection has been without a request.
    idle_since: Cell<Instant>,
    /// The body of the last request, if it had one.
    body: RefCell<Option<Arrival>>,
    /// What the list of connections has recorded: since when, and how many bytes of a head.
    receiving: Cell<Option<(Instant, usize)>>,
    /// Whether the socket stays open when hyper is done with it.
    pub(super) stays_open: Cell<bool>,
}

impl WatchedConnection {
    pub(super) fn new(stream: &Stream) -> Self {
        WatchedConnection {
            guard: HttpGuard::register(stream.as_fd()),
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

    /// Notifies the crash guard that the socket is about to be closed.
    pub(super) fn unregister(&self) {
        self.guard.unregister();
    }

    /// Records that bytes have arrived.
    pub(super) fn received(&self, bytes: usize) {
        if self.in_flight.get() == 0 && bytes > 0 && !self.body_is_incomplete() {
            let (since, before) = self.head.get().unwrap_or_else(|| (time::now(), 0));
            self.head.set(Some((since, before + bytes)));
        }
        self.guard.received();
    }

    /// Whether what arrives belongs to a request that has been answered.
    pub(super) fn body_is_incomplete(&self) -> bool {
        self.body.borrow().as_ref().is_some_and(Arrival::is_incomplete)
    }

    /// Records in the list of connections what arrives between two requests.
    pub(super) fn note_receiving(&self, registration: &Registration, max_held: usize) {
        // The end of a response may still be unsent.
        if self.in_flight.get() > 0 || self.blocked.get() {
            return;
        }
        let receiving = match self.head.get() {
            None if self.body_is_incomplete() => Some((self.idle_since.get(), 0)),
            head => head,
        };
        let before = self.receiving.replace(receiving);
        if receiving == before {
            return;
        }
        let (since, held) = receiving.unwrap_or((self.idle_since.get(), 0));
        registration.set_activity(match receiving {
            Some(_) => Activity::Receiving(since),
            None => Activity::Idle(since),
        });
        registration.set_held(held, max_held);
    }

    /// The deadline for a request, or the rest of its head, to arrive. Bodies and responses have their
    /// own deadlines.
    pub(super) fn deadline(&self, settings: &Settings) -> Option<Instant> {
        if self.in_flight.get() > 0 || self.blocked.get() || self.body_is_incomplete() {
            return None;
        }
        Some(match self.head.get() {
            Some((since, _)) => since + settings.head_timeout,
            None if self.was_asked.get() => self.idle_since.get() + settings.idle_timeout,
            None => self.idle_since.get() + settings.head_timeout,
        })
    }

    /// Records that a request is complete.
    pub(super) fn begin<S>(&self, application: &Application<S>, request: &Request<Body>) -> Mark {
        self.body.replace(request.body().arrival().cloned());
        let registered = application.register(self.guard.connection(), 0, request);
        self.guard.begin(registered, request.body().is_end_stream(), self.blocked.get())
    }

    /// Records the result of a write.
    pub(super) fn wrote(&self, offered: usize, written: &Poll<io::Result<usize>>) {
        let count = match written {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.blocked.set(count < offered);
        self.guard.sent(count);
    }

    /// Records that nothing waits to be written.
    pub(super) fn flushed(&self) {
        self.guard.flushed();
    }
}

/// Keeps the connection from counting as idle until the response is complete.
pub(super) struct InFlightGuard {
    watched: Rc<WatchedConnection>,
    registration: Rc<Registration>,
}

impl InFlightGuard {
    pub(super) fn begin(watched: &Rc<WatchedConnection>, registration: &Rc<Registration>) -> Self {
        watched.in_flight.set(watched.in_flight.get() + 1);
        watched.was_asked.set(true);
        watched.head.set(None);
        if watched.receiving.take().is_some() {
            registration.set_held(0, usize::MAX);
        }
        registration.set_activity(Activity::Answering);
        InFlightGuard { watched: watched.clone(), registration: registration.clone() }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.watched.in_flight.set(self.watched.in_flight.get() - 1);
        if self.watched.in_flight.get() == 0 {
            let now = time::now();
            self.watched.idle_since.set(now);
            self.registration.set_activity(Activity::Idle(now));
        }
    }
}

/// Dropped by hyper when it has the end of a response.
pub(super) struct ResponseEnd(pub(super) Rc<WatchedConnection>);

impl Drop for ResponseEnd {
    fn drop(&mut self) {
        self.0.guard.complete_response();
    }
}

pin_project! {
    pub(super) struct WatchedResponse<B> {
        #[pin]
        pub(super) body: ResponseBody<B>,
        pub(super) _end: ResponseEnd,
        pub(super) _in_flight: InFlightGuard,
    }
}

impl<B: HttpBody<Error: fmt::Display>> HttpBody for WatchedResponse<B> {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
