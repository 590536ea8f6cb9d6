//! The application: the service, its host, and what all requests share. Also makes the pages that only
//! the server can answer with.

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Context;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};

use crate::cause::Cause;
use crate::cgi_vars::gateway::Gateway;
use crate::error_report::{self, About, ErrorReport, reference};
use crate::host::Host;
use crate::recovery::panics;
use crate::recovery::{ConnectionGuard, Recovery, RequestGuard};
use crate::request::context::RequestContext;
use crate::request::fairness::ClientNet;
use crate::request::permits::{Arrival, Permit, Permits};
use crate::request::process_queue::ProcessQueue;
use crate::settings::Settings;

/// The maximum number of bytes read from a socket at once: as many as a unix socket delivers.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// The minimum room for a read while body chunks hold the rest of the buffer: twice what Apache sends at
/// once.
pub(crate) const MIN_READ_BYTES: usize = 16 * 1024;

/// The service, its settings, and what all its requests share.
pub(crate) struct Application<S> {
    pub(crate) service: RefCell<S>,
    pub(crate) settings: Settings,
    pub(crate) host: Rc<dyn Host>,
    pub(crate) permits: Rc<Permits>,
    /// What happens when the process cannot continue.
    pub(crate) recovery: Recovery,
    pub(crate) surroundings: Surroundings,
    /// The queue for isolated requests.
    pub(crate) processes: ProcessQueue,
    /// The buffer that all connections read into, so that an idle connection holds none.
    pub(crate) read_buffer: RefCell<BytesMut>,
}

/// What the process has found out about itself when it starts.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// Why every request is refused, for as long as this process runs.
    pub(crate) refuses_all: Option<Cause>,
    /// mod_fcgid marks the end of a response for the client whether it is complete or not, and kills a
    /// process that closes a connection before END_REQUEST.
    pub(crate) is_behind_mod_fcgid: bool,
}

impl<S> Application<S> {
    pub(crate) fn new(
        service: S,
        settings: Settings,
        host: Rc<dyn Host>,
        recovery: Recovery,
        surroundings: Surroundings,
    ) -> Self {
        Application {
            service: RefCell::new(service),
            host,
            recovery,
            surroundings,
            processes: ProcessQueue::new(settings.max_isolated),
            permits: Permits::new(&settings),
            settings,
            read_buffer: RefCell::new(BytesMut::new()),
        }
    }

    /// Classifies a request, and attaches all that an application may ask about it.
    pub(crate) fn classify<B>(&self, request: &mut Request<B>, mut gateway: Gateway) {
        if gateway.base.as_str().is_empty()
            && let Some(base) = &self.settings.base
        {
            // A proxy may have removed it already.
            if let Some(uri) = base.removed_from(request.uri()) {
                *request.uri_mut() = uri;
            }
            gateway.base = base.clone();
        }
        let part = self.host.classify(request.uri());
        request.extensions_mut().insert(RequestContext::new(gateway, part));
    }

    /// Registers a started request with the crash guard, in case the process does not survive to answer
    /// it.
    pub(crate) fn register<R>(
        &self,
        connection: &ConnectionGuard,
        id: u16,
        request: &Request<R>,
    ) -> RequestGuard {
        let context = RequestContext::of(request.extensions());
        if connection.is_registered() {
            let is_behind_mod_fcgid = self.surroundings.is_behind_mod_fcgid;
            self.recovery.prepare_pages(&*self.host, context.base(), is_behind_mod_fcgid);
        }
        let (method, path) = (request.method().as_str(), request.uri().path());
        connection.register_request(id, context.part.name(), method, path)
    }

    /// Makes the server's own response to a request that cannot reach the service. If that panics (in the
    /// application's error page, or in what a message quotes), falls back to a plain page.
    pub(crate) fn page(&self, cause: Cause, about: &About) -> Response<Bytes> {
        let plain = ErrorReport::prepared(cause.clone(), about.base.clone());
        let made = || {
            let report = ErrorReport::new(cause, about);
            if let Cause::Panic(_) = report.cause {
                panics::log_backtrace(&report.reference);
            }
            self.host.error_page(&report)
        };
        panics::expected(|| catch_unwind(AssertUnwindSafe(made))).unwrap_or_else(|_| {
            let plain = ErrorReport { reference: reference(), ..plain };
            let reference = &plain.reference;
            let log =
                || tracing::error!(%reference, "The error page for {} panicked.", plain.cause);
            // Logging may panic too.
            let _ = panics::expected(|| catch_unwind(AssertUnwindSafe(log)));
            error_report::plain_text(&plain)
        })
    }

    /// Counts a request that starts. `arrival` belongs to its body.
    ///
    /// # Errors
    ///
    /// When every request is refused, this part of the program is quarantined, or there are too many
    /// requests.
    pub(crate) fn enter(
        &self,
        context: &RequestContext,
        arrival: Option<&Arrival>,
    ) -> Result<InFlight, Cause> {
        if let Some(cause) = &self.surroundings.refuses_all {
            return Err(cause.clone());
        }
        if let Some(part) = context.part.name()
            && let Some(seconds) = self.recovery.quarantined_for(part)
        {
            return Err(Cause::Quarantined { part: part.to_owned(), seconds });
        }
        let net = || ClientNet::of(context.remote_address());
        match self.permits.enter(arrival, net) {
            Some(permit) => Ok(InFlight(permit)),
            None => Err(Cause::Overload(self.settings.max_requests)),
        }
    }
}

/// Returns why a request has to end before its response starts, if it has to.
pub(crate) fn is_ended(arrival: Option<&Arrival>, context: &Context<'_>) -> Option<Cause> {
    arrival.and_then(|arrival| arrival.poll_ended(context))
}

/// Counts one request until its response is complete.
pub(crate) struct InFlight(Permit);

impl InFlight {
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.0.arrival()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Flush output printed without a newline, so that it is logged by the time the response is
        // complete.
        let _ = io::stdout().flush();
    }
}
