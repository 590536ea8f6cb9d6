//! The final phases: requests in flight are completed, either by the process itself or by the draining
//! child it leaves behind.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use event_loop::time;
use process::draining_child;

use crate::request::service::HttpService;
use crate::server::process::ServingProcess;

/// The maximum number of connections in the backlog: Linux's default limit (somaxconn). Bounds the
/// draining of a socket to which new connections keep arriving.
const MAX_BACKLOG: usize = 4096;

impl<S: HttpService> ServingProcess<S> {
    /// Accepts what is in the backlog, completes all requests, and returns.
    pub(super) async fn drain(mut self) {
        if self.listening.is_exclusive {
            // A unix socket refuses new connections at once and keeps its backlog.
            if let Err(error) = self.listening.listener.stop_connects() {
                tracing::debug!("Cannot shut down the listen socket: {error}.");
            }
        }
        // Closing the socket would reset the connections in its backlog.
        for _ in 0..MAX_BACKLOG {
            let Ok(Some((stream, peer))) = self.listening.listener.accept_waiting() else { break };
            self.start_connection(stream, peer);
        }
        // Keep `signals` alive: the default action of a second signal would kill the process.
        let ServingProcess { application, listening, connections, signals: _signals, .. } = self;
        drop(listening);
        let mut patience = time::sleep(application.settings.drain_timeout);
        poll_fn(|context: &mut Context<'_>| {
            if Pin::new(&mut patience).poll(context).is_ready() {
                tracing::warn!(
                    open = connections.len(),
                    "Exiting with connections open after {} s (drain_timeout).",
                    application.settings.drain_timeout.as_secs()
                );
                return Poll::Ready(());
            }
            connections.poll_fewer_than(1, context)
        })
        .await;
        tracing::info!("Exiting.");
    }

    /// Completes the requests that were in flight at the upgrade, then ends the child.
    pub(super) async fn drain_as_child(self) {
        let ServingProcess { application, listening, connections, mut signals, upgrader, .. } =
            self;
        // These belong to the new version.
        drop((connections.take_collected(), listening, upgrader));
        tracing::info!(open = connections.len(), "Draining child: finishing requests in flight.");
        let mut patience = None;
        poll_fn(|context: &mut Context<'_>| {
            // A signal comes from the upgraded process, or when that process has ended.
            while signals.poll_recv(context).is_ready() {
                patience.get_or_insert_with(|| time::sleep(application.settings.drain_timeout));
            }
            if let Some(patience) = &mut patience
                && Pin::new(patience).poll(context).is_ready()
            {
                tracing::warn!(
                    open = connections.len(),
                    "Draining child: exiting with connections open."
                );
                return Poll::Ready(());
            }
            connections.poll_fewer_than(1, context)
        })
        .await;
        tracing::info!("Draining child: finished.");
        draining_child::leave(0);
    }
}
