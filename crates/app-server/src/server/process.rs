//! A serving process: what it holds in every phase, its transitions, and a task for each connection.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use event_loop::net::Stream;
use event_loop::signals::{Signal, Signals};
use event_loop::time::{self, Sleep};

use crate::connections::{Connections, IdleConnection};
use crate::listen::{Listening, WebServers};
use crate::phase::{Phase, Trigger};
use crate::recovery;
use crate::request::application::Application;
use crate::request::service::HttpService;
use crate::shutdown::set_draining;
use crate::transport::{Protocol, fastcgi, http as http_transport};
use crate::upgrade::upgrader::Upgrader;
use crate::worker::{WITHDRAW, is_worker};

pub(super) struct ServingProcess<S> {
    pub(super) application: Rc<Application<S>>,
    pub(super) listening: Listening,
    pub(super) connections: Rc<Connections>,
    pub(super) signals: Signals,
    pub(super) upgrader: Option<Upgrader>,
    /// When the host looks next, without an upgrader.
    pub(super) next_look: Sleep,
    /// When to drain, while the process is withdrawing. A worker waits for its supervisor's signal.
    pub(super) drain_at: Option<Sleep>,
}

impl<S: HttpService> ServingProcess<S> {
    /// Moves to the next phase.
    pub(super) fn enter(&mut self, event: Trigger) {
        let phase = self.connections.phase();
        let next = phase.after(event).unwrap_or_else(|| {
            debug_assert!(false, "{event:?} in phase {phase:?}");
            Phase::Draining
        });
        if phase == Phase::HandingOver && next != Phase::DrainingChild {
            // These were waiting for the new version. A request may have arrived on them meanwhile, so they are
            // served before the process drains.
            self.connections.set_phase(Phase::Serving);
            for idle in self.connections.take_collected() {
                self.resume_connection(idle);
            }
        }
        self.connections.set_phase(next);
        if next == Phase::Withdrawing {
            self.upgrader = None;
            let wait = self.application.settings.drain_wait;
            self.drain_at = (!is_worker()).then(|| time::sleep(wait));
        }
        // A worker that is only replaced, and the draining child of an upgrade, leave others that serve on.
        if next == Phase::Withdrawing || next == Phase::Draining && !is_worker() {
            set_draining();
        }
        if next.is_final() {
            // A crash must not restart a process that is about to end.
            recovery::exit_afterwards();
        }
    }

    /// Returns what follows from a signal other than the one that requests an upgrade, if one has arrived.
    pub(super) fn poll_shutdown_signal(&mut self, context: &mut Context<'_>) -> Option<Trigger> {
        while let Poll::Ready(signal) = self.signals.poll_recv(context) {
            if signal != Signal::Hangup {
                return Some(self.shutdown_by(signal));
            }
        }
        None
    }

    /// Returns what a signal that ends the process leads to. Ctrl-C and a second signal are in a hurry.
    pub(super) fn shutdown_by(&self, signal: Signal) -> Trigger {
        let wait = self.application.settings.drain_wait;
        let waits = match signal {
            WITHDRAW => true,
            Signal::Terminate => !is_worker() && !wait.is_zero(),
            _ => false,
        };
        if waits && self.connections.phase() != Phase::Withdrawing {
            tracing::info!(%signal, "Signal received; draining in {} s (drain_wait).", wait.as_secs());
            return Trigger::Withdraw;
        }
        tracing::info!(%signal, "Signal received; draining.");
        Trigger::Shutdown
    }

    /// Spawns a task for a new connection and runs it at once: a request that has arrived in full is answered
    /// before anything else happens.
    pub(super) fn start_connection(&self, stream: Stream, peer: Option<SocketAddr>) {
        if let (WebServers::Named(allowed), Some(peer)) = (&self.listening.web_servers, peer)
            && !is_allowed(allowed, peer.ip())
        {
            tracing::warn!(
                address = %peer.ip(),
                "Connection refused: its address is not listed in FCGI_WEB_SERVER_ADDRS."
            );
            return;
        }
        self.spawn(stream, peer, true);
    }

    /// Resumes a connection that is between two requests.
    pub(super) fn resume_connection(&self, idle: IdleConnection) {
        let IdleConnection { guard, stream, peer } = idle;
        drop(guard);
        self.spawn(stream, peer, false);
    }

    fn spawn(&self, stream: Stream, peer: Option<SocketAddr>, is_new: bool) {
        let registration = self.connections.enter(peer.map(|peer| peer.ip()));
        let application = self.application.clone();
        match self.listening.on.protocol {
            Protocol::FastCgi => {
                let serving = fastcgi::serve(application, stream, registration, is_new);
                event_loop::spawn_now(serving).detach();
            }
            Protocol::Http => {
                let serving =
                    http_transport::serve(application, stream, peer, registration, is_new);
                event_loop::spawn_now(serving).detach();
            }
        }
    }
}

fn is_allowed(allowed: &[IpAddr], peer: IpAddr) -> bool {
    allowed.iter().any(|address| address.to_canonical() == peer.to_canonical())
}
