//! The last phases: what is in flight is finished, in the process itself or in the child that it has left behind.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use event_loop::time;
use process::draining_child;

use crate::request::service::HttpService;
use crate::server::ServingProcess;

/// Connections that may wait to be accepted: what Linux allows at most by default (somaxconn). A bound for
/// draining a socket to which new ones keep coming.
const MAX_BACKLOG: usize = 4096;

impl<S: HttpService> ServingProcess<S> {
    /// Takes what is in the backlog, finishes all, returns.
    pub(super) async fn drain(mut self) {
        if self.listening.ours_alone {
            // A unix socket refuses new connects at once and keeps its backlog.
            if let Err(error) = self.listening.listener.stop_connects() {
                tracing::debug!("The listen socket could not be shut down: {error}.");
            }
        }
        // Connections in the backlog would be reset when the socket closes.
        for _ in 0..MAX_BACKLOG {
            let Ok(Some((stream, peer))) = self.listening.listener.accept_waiting() else { break };
            self.start(stream, peer);
        }
        // `signals` lives on: a second signal must not end the process by its default action.
        let ServingProcess { application, listening, connections, signals: _signals, upgrader: _ } =
            self;
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
        tracing::info!("Exited.");
    }

    /// Finishes what was in flight when the process became the new version, and ends the child.
    pub(super) async fn drain_as_child(self) {
        let ServingProcess { application, listening, connections, mut signals, upgrader } = self;
        // They are the new version's.
        drop((connections.take_collected(), listening, upgrader));
        tracing::info!(open = connections.len(), "Draining child: finishing requests in flight.");
        let mut patience = None;
        poll_fn(|context: &mut Context<'_>| {
            // A signal comes from the process itself, or when that has ended.
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
