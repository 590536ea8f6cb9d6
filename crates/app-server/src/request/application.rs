//! The application: the service, the host around it, and what all requests share. What only the server can answer
//! becomes a page here.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Context;

use crate::recovery::{self, Recovery};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};

use crate::cause::Cause;
use crate::error_report::{self, About, ErrorReport, reference};
use crate::host::Host;
use crate::isolation::queue::ProcessQueue;
use crate::recovery::panics;
use crate::request::body::Body;
use crate::request::context::RequestContext;
use crate::request::fairness::ClientNet;
use crate::request::permits::{Arrival, Permit, Permits};
use crate::settings::Settings;

/// Bytes that one read from a socket may bring. As much as a unix socket gives at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Room for a read when body pieces hold the rest of the buffer. Twice what Apache sends at once.
pub(crate) const SMALLEST_READ_BYTES: usize = 16 * 1024;

/// The service, its settings, and what all its requests share.
pub(crate) struct Application<S> {
    pub(crate) service: RefCell<S>,
    pub(crate) settings: Settings,
    pub(crate) host: Rc<dyn Host>,
    pub(crate) permits: Rc<Permits>,
    /// Why nobody is served, as long as this process runs.
    refuses_all: OnceCell<Cause>,
    /// What is done when the process cannot go on.
    pub(crate) recovery: Recovery,
    /// mod_fcgid sends a visitor the end of a response, whole or not, and ends a process that closes a
    /// connection before END_REQUEST.
    pub(crate) is_behind_mod_fcgid: Cell<bool>,
    /// For the isolated ones.
    pub(crate) processes: ProcessQueue,
    /// All connections read into this one, so that an idle one holds no buffer.
    pub(crate) read_buffer: RefCell<BytesMut>,
}

impl<S> Application<S> {
    pub(crate) fn new(
        service: S,
        settings: Settings,
        host: Rc<dyn Host>,
        recovery: Recovery,
    ) -> Self {
        Application {
            service: RefCell::new(service),
            host,
            recovery,
            is_behind_mod_fcgid: Cell::new(false),
            processes: ProcessQueue::new(settings.max_isolated),
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

    /// Notes a request that begins, should the process not live to answer it.
    pub(crate) fn note<R>(
        &self,
        connection: &recovery::Connection,
        id: u32,
        request: &Request<R>,
    ) -> recovery::Request {
        let context = RequestContext::of(request.extensions());
        if connection.is_noted() {
            let is_behind_mod_fcgid = self.is_behind_mod_fcgid.get();
            self.recovery.prepare_pages(&*self.host, context.base(), is_behind_mod_fcgid);
        }
        let (method, path) = (request.method().as_str(), request.uri().path());
        connection.request(id, context.part.name(), method, path)
    }

    /// Makes the server's own response to a request that cannot reach the service. If making it panics (in the
    /// application's page, or in what a message quotes), a plainer page is sent.
    pub(crate) fn page(&self, cause: Cause, about: &About) -> Response<Bytes> {
        let plain = ErrorReport::prepared(cause.clone(), about.base.clone());
        let made = || self.host.error_page(&ErrorReport::new(cause, about));
        panics::expected(|| catch_unwind(AssertUnwindSafe(made))).unwrap_or_else(|_| {
            let plain = ErrorReport { reference: reference(), ..plain };
            let reference = &plain.reference;
            let told =
                || tracing::error!(%reference, "The error page for {} panicked.", plain.cause);
            // The log itself may panic.
            let _ = panics::expected(|| catch_unwind(AssertUnwindSafe(told)));
            error_report::plain_text(&plain)
        })
    }

    /// Counts a request that starts.
    ///
    /// # Errors
    /// When nobody is served, this part of the program is quarantined, or there are too many.
    pub(crate) fn enter(&self, request: Option<&Request<Body>>) -> Result<InFlight, Cause> {
        if let Some(cause) = self.refuses_all.get() {
            return Err(cause.clone());
        }
        let context = request.map(|request| RequestContext::of(request.extensions()));
        if let Some(part) = context.and_then(|context| context.part.name())
            && let Some(seconds) = self.recovery.seconds_of_quarantine(part)
        {
            return Err(Cause::Quarantined { part: part.to_owned(), seconds });
        }
        let arrival = request.and_then(|request| request.body().arrival());
        let net = || ClientNet::of(context.and_then(RequestContext::remote_address));
        match self.permits.enter(arrival, net) {
            Some(permit) => Ok(InFlight(permit)),
            None => Err(Cause::Overload(self.settings.max_requests)),
        }
    }
}

/// Whether a request has to end before its response starts, and why.
pub(crate) fn is_ended(arrival: Option<&Arrival>, context: &Context<'_>) -> Option<Cause> {
    arrival.and_then(|arrival| arrival.poll_ended(context))
}

/// Counts one request until its response is over.
pub(crate) struct InFlight(Permit);

impl InFlight {
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.0.arrival()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // What was printed without a line end is in the log when its response is over.
        let _ = io::stdout().flush();
    }
}
