//! The life of a serving process: start, accept, hand over to a newer version or drain, exit.
//! [`phase::Phase`] is the phase it is in; this file says what it does in each.

mod accept;
mod drain;
mod hand_over;

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use event_loop::signals::{self, Signal, Signals};
use http::{Request, StatusCode};
use process::reexec;

use crate::cause::Cause;
use crate::connections::Connections;
use crate::error::{Error, check_descriptors};
use crate::host::{Host, NoHost};
use crate::listen;
use crate::listen::{Listening, WebServers};
use crate::phase::{Phase, Trigger};
use crate::recovery::panics;
use crate::recovery::{self, CrashGuard, Recovery};
use crate::request::application::Application;
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::shutdown::shutdown_signals;
use crate::transport::{Listen, Transport, cgi, shell};
use crate::upgrade::handover::{HandoverState, Reason};
use crate::upgrade::upgrader::{Circumstances, Upgrader};
use crate::worker::end_with_supervisor;

/// A server for one service: `Server::new(service).run(transport)`.
///
/// The service does not have to be `Send`, `Sync` or `Clone`. No thread is started.
pub struct Server<S> {
    service: S,
    settings: Settings,
    host: Rc<dyn Host>,
}

impl<S> Server<S> {
    /// A server with default settings and no host.
    pub fn new(service: S) -> Self
    where
        S: HttpService,
    {
        Server { service, settings: Settings::default(), host: Rc::new(NoHost) }
    }

    /// Sets limits and deadlines.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the program around the server: parts, error pages.
    #[must_use]
    pub fn host(mut self, host: impl Host) -> Self {
        self.host = Rc::new(host);
        self
    }
}

impl<S: HttpService> Server<S> {
    /// Serves on the calling thread until SIGTERM or SIGINT, then drains: accepts no new connection, completes the
    /// requests in flight (for at most [`Settings::drain_timeout`]), returns. With [`Transport::Cgi`] it answers one
    /// request and returns.
    ///
    /// # Errors
    /// When the listen socket or the loop cannot be created, or CGI's only response was not sent in full.
    pub fn run(self, transport: Transport) -> Result<(), Error> {
        let _guard = self.prepare(&transport)?;
        event_loop::run(self.serve(transport)).map_err(Error::Loop)?
    }

    /// As [`run`](Self::run), inside a tokio `current_thread` runtime: for applications that use tokio's timers, its
    /// sockets, `tokio::spawn`, or layers that do. Still one thread; what needs more threads (`spawn_blocking`,
    /// `tokio::fs`) fails where hosts refuse threads. Costs three more system calls per wake-up.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    #[cfg(feature = "tokio")]
    pub fn run_in_tokio(self, transport: Transport) -> Result<(), Error> {
        let _guard = self.prepare(&transport)?;
        event_loop::run_in_tokio(self.serve(transport)).map_err(Error::Loop)?
    }

    fn prepare(&self, transport: &Transport) -> Result<CrashGuard, Error> {
        if *transport != Transport::Cgi {
            check_descriptors()?;
        }
        panics::install_hook();
        Ok(CrashGuard::begin(&self.settings, transport.reply_format()))
    }

    /// Answers one request, on the calling thread, and writes the response to `output`: the status, the headers, an
    /// empty line, and the body as it arrives. Returns the status.
    ///
    /// The body is read from the request's file, pipe or terminal, to its end; its length is announced if the request
    /// has a Content-Length header. Failures are logged and isolated parts are isolated, as with every transport;
    /// a crash is not caught.
    ///
    /// # Errors
    /// When the loop cannot be created, or the response cannot be written in full.
    pub fn request(
        self,
        request: Request<Option<OwnedFd>>,
        output: OwnedFd,
    ) -> Result<StatusCode, Error> {
        let recovery = Recovery::without_handlers(&self.settings);
        let application = Application::new(self.service, self.settings, self.host, recovery);
        event_loop::run(shell::answer(application, request, output)).map_err(Error::Loop)?
    }

    /// As [`run`](Self::run), on a loop that is already running (`event_loop::run`): for programs with tasks of their own
    /// besides the server, and for tests.
    ///
    /// Handles SIGTERM and SIGINT. When dropped, it ends without draining.
    ///
    /// # Errors
    /// When the listen socket cannot be created, or CGI's only response was not sent in full.
    pub async fn serve(self, transport: Transport) -> Result<(), Error> {
        let Server { service, mut settings, host } = self;
        let upgrade = settings.upgrade.take();
        let recovery = Recovery::new(&settings, transport.reply_format());
        let application = Rc::new(Application::new(service, settings, host.clone(), recovery));
        signals::ignore_failed_writes().map_err(Error::Loop)?;
        let Some(listen) = transport.listen() else {
            return cgi::serve(application).await;
        };
        let inherited = HandoverState::take();
        let mut wanted = shutdown_signals();
        // By convention a reload for servers. At a terminal it means that the terminal is gone.
        let hears_hangup = upgrade.is_some() && !io::stdin().is_terminal();
        if hears_hangup {
            wanted.push(Signal::Hangup);
        }
        let signals = listen::patiently(|| signals::listen(&wanted)).map_err(Error::Loop)?;
        let was_here = inherited.is_some();
        let mut inherited = inherited.unwrap_or_default();
        if was_here {
            reexec::release_signals();
            process::adopt_inherited().map_err(Error::Loop)?;
        }
        end_with_supervisor().map_err(Error::Loop)?;
        let listening = listen::open(&listen, inherited.listener.take())?;
        application.recovery.make_folder(&application.settings);
        if let WebServers::Unreadable(value) = &listening.web_servers {
            let cause = Cause::WebServerAddresses(value.clone());
            tracing::error!("{cause}.");
            application.refuse_all(cause);
        }
        recovery::set_listener(Some(listening.listener.as_fd()), listen == Listen::Spawned);
        let is_behind_mod_fcgid = listen == Listen::Spawned && listening.ours_alone;
        application.is_behind_mod_fcgid.set(is_behind_mod_fcgid);
        let idle_exit = application.settings.idle_exit;
        let circumstances = Circumstances {
            idle_exit: (listen == Listen::Spawned).then_some(idle_exit),
            origin: inherited.origin.take(),
            is_known_by_launcher: is_behind_mod_fcgid,
            host: host.clone(),
        };
        let upgrader = upgrade.and_then(|upgrade| {
            Upgrader::new(upgrade, circumstances)
                .inspect_err(|error| {
                    tracing::error!("This process cannot be upgraded in place: {error}.");
                })
                .ok()
        });
        if let Some(origin) = upgrader.as_ref().and_then(Upgrader::origin) {
            recovery::set_origin(origin);
        }
        match inherited.reason {
            None => {
                tracing::info!("Serving {}.", listening.on);
                host.on_listening(&listening.on.to_string());
            }
            Some(Reason::Upgrade) => tracing::info!("Upgraded; serving {}.", listening.on),
            Some(Reason::Crash | Reason::Stall) => {
                let part = inherited.part.as_deref();
                tracing::info!(part, "Restarted in place; serving {}.", listening.on);
            }
        }

        let connections = Rc::default();
        let mut process = ServingProcess { application, listening, connections, signals, upgrader };
        process.take_over(inherited);
        process.run().await;
        Ok(())
    }
}

/// A serving process.
struct ServingProcess<S> {
    application: Rc<Application<S>>,
    listening: Listening,
    connections: Rc<Connections>,
    signals: Signals,
    upgrader: Option<Upgrader>,
}

impl<S: HttpService> ServingProcess<S> {
    /// Runs each phase until the process has nothing left to do.
    async fn run(mut self) {
        loop {
            let event = match self.connections.phase() {
                Phase::Starting => Trigger::Listening,
                Phase::Serving => self.accept_connections().await,
                Phase::HandingOver => self.hand_over().await,
                Phase::Draining => return self.drain().await,
                Phase::DrainingChild => return self.drain_as_child().await,
            };
            self.enter(event);
        }
    }

    /// Moves to the next phase.
    fn enter(&mut self, event: Trigger) {
        let phase = self.connections.phase();
        let next = phase.after(event).unwrap_or_else(|| {
            debug_assert!(false, "{event:?} in phase {phase:?}");
            Phase::Draining
        });
        if phase == Phase::HandingOver && next != Phase::DrainingChild {
            // These were waiting for the new version. A request may have arrived on them meanwhile, so they are
            // served before the process drains.
            self.connections.set_phase(Phase::Serving);
            for kept in self.connections.take_collected() {
                self.start_kept(kept);
            }
        }
        self.connections.set_phase(next);
        if next.is_final() {
            // A crash must not restart a process that is about to end.
            recovery::end_afterwards();
            recovery::set_listener(None, false);
        }
    }

    /// Returns whether a signal other than the one that requests an upgrade has arrived.
    fn poll_shutdown_signal(&mut self, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(signal) = self.signals.poll_recv(context) {
            if signal != Signal::Hangup {
                tracing::info!("{signal} received; draining.");
                return true;
            }
        }
        false
    }
}
