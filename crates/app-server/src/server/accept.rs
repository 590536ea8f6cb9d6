//! Phases serving and withdrawing: accepts connections and spawns a task for each.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event_loop::signals::Signal;
use event_loop::time;
use process::is_short;

use crate::connections::should_warn;
use crate::phase::Trigger;
use crate::request::service::HttpService;
use crate::server::process::ServingProcess;
use crate::upgrade::decide::IDLE_INTERVAL;
use crate::upgrade::upgrader::{Act, Upgrader};

/// How often accepting is retried while the descriptor table is full, besides whenever a connection ends:
/// the application may hold descriptors too.
const RETRY_ACCEPT: Duration = Duration::from_millis(100);

impl<S: HttpService> ServingProcess<S> {
    /// Accepts connections until it is time to drain, or to tell load balancers so; until a newer version is ready, or another
    /// process that shares the socket has shut it down, after which no connection can arrive.
    pub(super) async fn accept_connections(&mut self) -> Trigger {
        let warned_at = Cell::new(None);
        loop {
            let limit = self.application.settings.max_connections;
            // Wait for room first: a connection accepted beyond the limit would stay beyond it.
            while self.connections.len() >= limit {
                if should_warn(&warned_at) {
                    tracing::warn!(
                        "Connection limit reached (max_connections = {limit}); closing idle and \
                         incomplete connections to make room."
                    );
                }
                if let Some(next) = self.make_room(limit).await {
                    return next;
                }
            }
            let accepted = poll_fn(|context| {
                if let Some(next) = self.poll_events(context) {
                    return Poll::Ready(Err(next));
                }
                loop {
                    if self.upgrader.as_ref().is_some_and(Upgrader::holds) {
                        return Poll::Pending;
                    }
                    // Check the launcher one last time, right before the accept.
                    if let Some(upgrader) = &mut self.upgrader
                        && ready!(self.listening.listener.poll_acceptable(context)).is_ok()
                        && upgrader.looks_before_accept()
                    {
                        match self.poll_events(context) {
                            Some(next) => return Poll::Ready(Err(next)),
                            None => continue,
                        }
                    }
                    return self.listening.listener.poll_accept(context).map(Ok);
                }
            })
            .await;
            match accepted {
                Err(next) => return next,
                Ok(Ok((stream, peer))) => self.start_connection(stream, peer),
                Ok(Err(error)) if is_short(&error) => {
                    let open = self.connections.len();
                    if should_warn(&warned_at) {
                        tracing::warn!(open, "Accepting paused: {error}.");
                    }
                    if let Some(next) = self.make_room(open).await {
                        return next;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                    tracing::info!("Listen socket shut down; draining.");
                    return Trigger::Shutdown;
                }
                // The peer may have left before it was accepted; the next connection may succeed.
                Ok(Err(error)) => tracing::debug!("Accept failed: {error}."),
            }
        }
    }

    /// Polls for signals and newer versions; `None` while neither calls for action.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Option<Trigger> {
        while let Poll::Ready(signal) = self.signals.poll_recv(context) {
            match (signal, &mut self.upgrader) {
                (Signal::Hangup, Some(upgrader)) => upgrader.ask(),
                // While it is withdrawing.
                (Signal::Hangup, None) => {}
                _ => return Some(self.shutdown_by(signal)),
            }
        }
        if let Some(drain_at) = &mut self.drain_at {
            return Pin::new(drain_at).poll(context).is_ready().then_some(Trigger::Shutdown);
        }
        let Some(upgrader) = &mut self.upgrader else {
            self.look(context);
            return None;
        };
        match upgrader.poll(&*self.connections, context) {
            Poll::Ready(Act::Upgrade) => Some(Trigger::UpgradeReady),
            Poll::Ready(Act::Exit) => Some(Trigger::Shutdown),
            Poll::Pending => None,
        }
    }

    /// Lets the host look if it is time.
    fn look(&mut self, context: &mut Context<'_>) {
        while Pin::new(&mut self.next_look).poll(context).is_ready() {
            self.application.host.on_look();
            self.next_look.reset(time::now() + IDLE_INTERVAL);
        }
    }

    /// Waits, out of the poll set, until fewer than `open` connections are open or it is time to retry.
    async fn make_room(&mut self, open: usize) -> Option<Trigger> {
        self.listening.listener.pause();
        if !self.connections.make_room() {
            self.application.permits.make_room();
        }
        let mut again = time::sleep(RETRY_ACCEPT);
        poll_fn(|context| {
            if let Some(next) = self.poll_events(context) {
                return Poll::Ready(Some(next));
            }
            if Pin::new(&mut again).poll(context).is_ready() {
                return Poll::Ready(None);
            }
            self.connections.poll_fewer_than(open, context).map(|()| None)
        })
        .await
    }
}
