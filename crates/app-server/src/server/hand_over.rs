//! Phase handing over: the process becomes the new version, keeping its listen socket and its idle
//! connections. Requests that are still in flight after a grace period are left to a draining child.

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use event_loop::time;
use process::draining_child::{self, Forked};
use process::{descriptors, reexec};

use crate::connections::IdleConnection;
use crate::phase::Trigger;
use crate::request::service::HttpService;
use crate::server::process::ServingProcess;
use crate::upgrade::decide::Obstacle;
use crate::upgrade::handover::{self, Item, Reason};
use crate::upgrade::upgrader::Upgrader;

/// How long accepting pauses for requests in flight to complete before they are left to a draining child.
const GRACE: Duration = Duration::from_secs(1);

impl<S: HttpService> ServingProcess<S> {
    /// Becomes the new version. Returns if that fails, and in the draining child.
    pub(super) async fn hand_over(&mut self) -> Trigger {
        let mut grace = time::sleep(GRACE);
        let shutdown = poll_fn(|context| {
            if let Some(shutdown) = self.poll_shutdown_signal(context) {
                return Poll::Ready(Some(shutdown));
            }
            if Pin::new(&mut grace).poll(context).is_ready() {
                return Poll::Ready(None);
            }
            self.connections.poll_fewer_than(1, context).map(|()| None)
        })
        .await;
        shutdown.unwrap_or_else(|| self.upgrade())
    }

    /// Executes the new program. Returns if that fails, and in the draining child.
    fn upgrade(&mut self) -> Trigger {
        let Some(mut upgrader) = self.upgrader.take() else { return Trigger::PutOff };
        let trigger = self.upgrade_by(&mut upgrader).unwrap_or_else(|obstacle| {
            upgrader.put_off(obstacle);
            Trigger::PutOff
        });
        self.upgrader = Some(upgrader);
        trigger
    }

    fn upgrade_by(&mut self, upgrader: &mut Upgrader) -> Result<Trigger, Obstacle> {
        let in_flight = self.connections.len();
        if let Some(obstacle) = upgrader.obstacle(in_flight) {
            if obstacle == Obstacle::InFlight && !upgrader.was_put_off() {
                tracing::info!(
                    in_flight,
                    "Upgrade postponed until requests in flight have finished."
                );
            }
            return Err(obstacle);
        }
        // From here on, a signal stays pending for the new program's handlers, or for ours if the exec
        // fails.
        let held = reexec::Held::begin();
        process::reap_now();
        let mut context = Context::from_waker(Waker::noop());
        if let Some(shutdown) = self.poll_shutdown_signal(&mut context) {
            return Ok(shutdown);
        }
        let _ = io::stdout().flush();
        let original = match fork_draining_child(in_flight, upgrader)? {
            Some(Forked::Original(original)) => Some(original),
            Some(Forked::DrainingChild) => {
                drop(held);
                return Ok(Trigger::Forked);
            }
            None => None,
        };
        let error = self.execute(in_flight, upgrader);
        // The child waits for this to close, then exits.
        drop(original);
        if self.listening.on.is_on_stdin()
            && let Err(error) = descriptors::replace_stdin_with_null()
        {
            tracing::error!("Cannot release descriptor 0, still the listen socket: {error}.");
        }
        drop(held);
        Err(if error.kind() == io::ErrorKind::ExecutableFileBusy {
            tracing::info!("Upgrade postponed: the new version is still being written.");
            Obstacle::BeingWritten
        } else {
            tracing::error!("Upgrade failed; the running version continues: {error}.");
            Obstacle::NotExecuted
        })
    }

    /// Executes the new program with the handover state. Returns only on failure.
    fn execute(&self, in_flight: usize, upgrader: &mut Upgrader) -> io::Error {
        let mut words = handover::no_words();
        Item::Reason(Reason::Upgrade).encode(&mut words);
        if let Some(origin) = upgrader.origin() {
            Item::Origin(origin).encode(&mut words);
        }
        let listener = self.listening.listener.as_fd();
        if !self.listening.on.is_on_stdin() {
            Item::Listener(listener.as_raw_fd()).encode(&mut words);
        } else if let Err(error) = descriptors::put_on_stdin(listener) {
            return error;
        }
        // Beyond some 1,400, they do not fit into the handover state. The rest is closed, as idle connections
        // may be at any time.
        let collected = self.connections.collected();
        let fits = |kept: &IdleConnection| {
            let connection = Item::KeepAlive(kept.stream.as_fd().as_raw_fd());
            words.has_room() && connection.encode(&mut words)
        };
        let handed_over = collected.iter().map(fits).filter(|fits| *fits).count();
        drop(collected);
        match in_flight {
            0 => tracing::info!("Upgrading in place: {handed_over} idle connections handed over."),
            _ => tracing::info!(
                "Upgrading in place: {handed_over} idle connections handed over, {in_flight} active \
                 ones left to a draining child."
            ),
        }
        upgrader.image().exec(&mut words)
    }
}

/// Leaves the requests in flight to a draining child; `None` when there are none.
fn fork_draining_child(in_flight: usize, upgrader: &Upgrader) -> Result<Option<Forked>, Obstacle> {
    if in_flight == 0 {
        return Ok(None);
    }
    draining_child::fork().map(Some).map_err(|error| {
        if !upgrader.was_put_off() {
            tracing::warn!(
                in_flight,
                "Upgrade postponed until requests in flight have finished: no process could be \
                 created to drain them ({error})."
            );
        }
        Obstacle::InFlight
    })
}
