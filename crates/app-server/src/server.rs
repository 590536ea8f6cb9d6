//! The life of a serving process: start, accept, hand over to a newer version or drain, exit.
//!
//! [`Phase`] is the phase it is in, and each has its file: `start.rs` (with `take_over.rs`), `accept.rs`,
//! `hand_over.rs`, `drain.rs`. What they share is `process.rs`.

mod accept;
mod drain;
mod hand_over;
mod process;
mod start;
mod take_over;

use std::os::fd::OwnedFd;
use std::rc::Rc;

use event_loop::signals;
use fastcgi_server::{Params, Role};
use http::{Request, StatusCode};

use self::process::ServingProcess;
use crate::error::{Error, check_descriptors};
use crate::host::{Host, NoHost};
use crate::phase::{Phase, Trigger};
use crate::recovery::panics;
use crate::recovery::{CrashGuard, Recovery};
use crate::request::application::{Application, Surroundings};
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::{Transport, cgi, shell};
use crate::upgrade::Upgrade;
use crate::upgrade::handover::HandoverState;

/// A server for one service: `Server::new(service).run(transport)`.
///
/// The service does not have to be `Send`, `Sync` or `Clone`. No thread is started.
pub struct Server<S> {
    parts: Parts<S>,
}

/// Runs a future on a loop of its own, on the calling thread, with the crash guard for a server on this transport: for
/// services that are made on the loop, by async code. The future calls [`Server::serve`].
///
/// # Errors
///
/// When the loop cannot be created, or this process may open too few descriptors.
pub fn run<F: Future>(
    settings: &Settings,
    transport: &Transport,
    future: F,
) -> Result<F::Output, Error> {
    let _guard = prepare(settings, transport)?;
    event_loop::run(future).map_err(Error::Loop)
}

/// As [`run`], inside a tokio `current_thread` runtime: see [`Server::run_in_tokio`].
///
/// # Errors
///
/// As for [`run`].
#[cfg(feature = "tokio")]
pub fn run_in_tokio<F: Future>(
    settings: &Settings,
    transport: &Transport,
    future: F,
) -> Result<F::Output, Error> {
    let _guard = prepare(settings, transport)?;
    event_loop::run_in_tokio(future).map_err(Error::Loop)
}

/// As [`run_in_tokio`], in the tokio runtime that the caller is in. It has to be a `current_thread` runtime; its own tasks
/// (`tokio::spawn`) are not interrupted if they never come to an end, unlike requests.
///
/// # Errors
///
/// When there is no such runtime, or too few file descriptors are allowed.
#[cfg(feature = "tokio")]
pub async fn run_in_this_tokio<F: Future>(
    settings: &Settings,
    transport: &Transport,
    future: F,
) -> Result<F::Output, Error> {
    let _guard = prepare(settings, transport)?;
    event_loop::run_in_this_tokio(future).await.map_err(Error::Loop)
}

fn prepare(settings: &Settings, transport: &Transport) -> Result<CrashGuard, Error> {
    if *transport != Transport::Cgi {
        check_descriptors()?;
    }
    panics::install_hook();
    Ok(CrashGuard::begin(settings, transport.reply_format()))
}

/// What a server is made of.
struct Parts<S> {
    service: S,
    settings: Settings,
    host: Rc<dyn Host>,
    upgrade: Option<Upgrade>,
}

impl<S> Server<S> {
    /// A server with default settings and no host, which is never upgraded.
    pub fn new(service: S) -> Self
    where
        S: HttpService,
    {
        let (settings, host) = (Settings::default(), Rc::new(NoHost));
        Server { parts: Parts { service, settings, host, upgrade: None } }
    }

    /// Sets limits and deadlines.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.parts.settings = settings;
        self
    }

    /// Sets the program around the server: parts, error pages.
    #[must_use]
    pub fn host(mut self, host: impl Host) -> Self {
        self.parts.host = Rc::new(host);
        self
    }

    /// Sets how this process upgrades to a newer version. Default `None`: never.
    #[must_use]
    pub fn upgrade(mut self, upgrade: impl Into<Option<Upgrade>>) -> Self {
        self.parts.upgrade = upgrade.into();
        self
    }
}

impl<S: HttpService> Server<S> {
    /// Serves on the calling thread until SIGTERM (and [`Settings::drain_wait`] after it) or SIGINT, then drains: accepts
    /// no new connection, completes the requests in flight (for at most [`Settings::drain_timeout`]), returns. With [`Transport::Cgi`] it answers one
    /// request and returns.
    ///
    /// # Errors
    ///
    /// When the listen socket or the loop cannot be created, or CGI's only response was not sent in full.
    pub fn run(self, transport: Transport) -> Result<(), Error> {
        let settings = self.parts.settings.clone();
        run(&settings, &transport.clone(), self.serve(transport))?
    }

    /// As [`run`](Self::run), inside a tokio `current_thread` runtime: for applications that use tokio's timers, its
    /// sockets, `tokio::spawn`, or layers that do. Still one thread; what needs more threads (`spawn_blocking`,
    /// `tokio::fs`) fails where hosts refuse threads. Costs three more system calls per wake-up.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    #[cfg(feature = "tokio")]
    pub fn run_in_tokio(self, transport: Transport) -> Result<(), Error> {
        let settings = self.parts.settings.clone();
        run_in_tokio(&settings, &transport.clone(), self.serve(transport))?
    }

    /// Answers one request, on the calling thread, and writes the response to `output`: the status, the headers, an
    /// empty line, and the body as it arrives. Returns the status.
    ///
    /// The body is read from the request's file, pipe or terminal, to its end; its length is announced if the request
    /// has a Content-Length header. Failures are logged and isolated parts are isolated, as with every transport;
    /// a crash is not caught.
    ///
    /// # Errors
    ///
    /// When the loop cannot be created, or the response cannot be written in full.
    pub fn request(
        self,
        request: Request<Option<OwnedFd>>,
        output: OwnedFd,
    ) -> Result<StatusCode, Error> {
        event_loop::run(self.answer(request, output)).map_err(Error::Loop)?
    }

    /// As [`request`](Self::request), on a loop that is already running.
    ///
    /// # Errors
    ///
    /// When the response cannot be written in full.
    pub async fn answer(
        self,
        request: Request<Option<OwnedFd>>,
        output: OwnedFd,
    ) -> Result<StatusCode, Error> {
        shell::answer(self.application(), request, output).await
    }

    /// As [`answer`](Self::answer), for a request as a web server describes it by CGI variables (RFC 3875): over FastCGI
    /// with a role, over CGI without one. A body is read only as far as CONTENT_LENGTH says, if it is there.
    ///
    /// # Errors
    ///
    /// When the response cannot be written in full.
    pub async fn answer_variables<'v>(
        self,
        variables: impl IntoIterator<Item = (&'v [u8], &'v [u8])>,
        role: Option<Role>,
        body: Option<OwnedFd>,
        output: OwnedFd,
    ) -> Result<StatusCode, Error> {
        let variables = Params::from_pairs(variables);
        shell::answer_variables(self.application(), variables, role, body, output).await
    }

    /// For one request.
    fn application(self) -> Application<S> {
        let Parts { service, settings, host, .. } = self.parts;
        let recovery = Recovery::without_handlers(&settings);
        Application::new(service, settings, host, recovery, Surroundings::default())
    }

    /// As [`run`](Self::run), on a loop that is already running (`event_loop::run`): for programs with tasks of their
    /// own besides the server, and for tests.
    ///
    /// Handles SIGTERM and SIGINT. When dropped, it ends without draining.
    ///
    /// # Errors
    ///
    /// When the listen socket cannot be created, or CGI's only response was not sent in full.
    pub async fn serve(self, transport: Transport) -> Result<(), Error> {
        signals::ignore_failed_writes().map_err(Error::Loop)?;
        let recovery = Recovery::new(&self.parts.settings, transport.reply_format());
        let Some(listen) = transport.listen() else {
            let Parts { service, settings, host, .. } = self.parts;
            let application =
                Application::new(service, settings, host, recovery, Surroundings::default());
            return cgi::serve(Rc::new(application)).await;
        };
        let (process, inherited) = start::open(self.parts, &listen, recovery)?;
        process.run(inherited).await;
        Ok(())
    }
}

impl<S: HttpService> ServingProcess<S> {
    /// Runs each phase until the process has nothing left to do. `inherited`: what it has to take over, if another
    /// image of it came before.
    async fn run(mut self, inherited: HandoverState) {
        let mut inherited = Some(inherited);
        loop {
            let event = match self.connections.phase() {
                Phase::Starting => {
                    self.take_over(inherited.take().unwrap_or_default());
                    Trigger::Listening
                }
                Phase::Serving | Phase::Withdrawing => self.accept_connections().await,
                Phase::HandingOver => self.hand_over().await,
                Phase::Draining => return self.drain().await,
                Phase::DrainingChild => return self.drain_as_child().await,
            };
            self.enter(event);
        }
    }
}
