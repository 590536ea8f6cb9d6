//! Phase starting: opens the listen socket, or takes over what the previous image of the process has left, and
//! puts together everything that serves.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::rc::Rc;

use event_loop::signals::{self, Signal, Signals};
use event_loop::time;
use process::reexec;

use crate::error::Error;
use crate::host::Host;
use crate::listen::{self, Listening};
use crate::recovery::{self, Recovery};
use crate::request::application::{Application, Surroundings};
use crate::request::service::HttpService;
use crate::server::Parts;
use crate::server::process::ServingProcess;
use crate::settings::Settings;
use crate::shutdown::shutdown_signals;
use crate::transport::Listen;
use crate::upgrade::Upgrade;
use crate::upgrade::decide::INTERVAL;
use crate::upgrade::handover::{HandoverState, Reason};
use crate::upgrade::upgrader::{Circumstances, Upgrader};
use crate::worker::{WITHDRAW, end_with_supervisor, is_worker};

/// Opens the listen socket. Returns the process, still in phase starting, and what it has to take over.
///
/// # Errors
///
/// When the socket cannot be opened or signals cannot be received.
pub(super) fn open<S: HttpService>(
    parts: Parts<S>,
    listen: &Listen,
    recovery: Recovery,
) -> Result<(ServingProcess<S>, HandoverState), Error> {
    let Parts { service, settings, host, upgrade } = parts;
    let inherited = HandoverState::take();
    let signals = receive_signals(upgrade.is_some()).map_err(Error::Loop)?;
    if inherited.is_some() {
        reexec::release_signals();
        process::adopt_inherited().map_err(Error::Loop)?;
    }
    end_with_supervisor().map_err(Error::Loop)?;
    let mut inherited = inherited.unwrap_or_default();
    let listening = listen::open(listen, inherited.listener.take())?;
    // Only now: a failed start leaves nothing behind.
    recovery.make_folder(&settings);
    recovery::set_listener(Some(listening.listener.as_fd()), listening.on.is_on_stdin());
    let origin = inherited.origin.take();
    let upgrader = upgrade.and_then(|it| upgrader(it, &listening, origin, &settings, &host));
    let refuses_all = listening.refusal();
    if let Some(cause) = &refuses_all {
        tracing::error!("Refusing every request: {cause}.");
    }
    announce(&listening, &inherited, &*host);
    let surroundings =
        Surroundings { refuses_all, is_behind_mod_fcgid: listening.is_behind_mod_fcgid() };
    let application = Application::new(service, settings, host, recovery, surroundings);
    let (application, connections) = (Rc::new(application), Rc::default());
    let process = ServingProcess {
        application,
        listening,
        connections,
        signals,
        upgrader,
        next_look: time::sleep(INTERVAL),
        drain_at: None,
    };
    Ok((process, inherited))
}

/// Receives the signals that end the process, a worker also those of its supervisor, and SIGHUP, by convention a reload for servers, if it can be
/// upgraded. At a terminal SIGHUP means that the terminal is gone.
fn receive_signals(can_be_upgraded: bool) -> io::Result<Signals> {
    let mut wanted = shutdown_signals();
    if can_be_upgraded && !io::stdin().is_terminal() {
        wanted.push(Signal::Hangup);
    }
    if is_worker() {
        wanted.push(WITHDRAW);
    }
    listen::patiently(|| signals::listen(&wanted))
}

fn upgrader(
    upgrade: Upgrade,
    listening: &Listening,
    origin: Option<String>,
    settings: &Settings,
    host: &Rc<dyn Host>,
) -> Option<Upgrader> {
    let circumstances = Circumstances {
        // The supervisor would only start another worker.
        idle_exit: (listening.on.is_on_stdin() && !is_worker()).then_some(settings.idle_exit),
        origin,
        is_known_by_launcher: listening.is_behind_mod_fcgid(),
        host: host.clone(),
    };
    let upgrader = Upgrader::new(upgrade, circumstances)
        .inspect_err(|error| {
            tracing::error!("This process cannot be upgraded in place: {error}.");
        })
        .ok()?;
    if let Some(origin) = upgrader.origin() {
        recovery::set_origin(origin);
    }
    Some(upgrader)
}

fn announce(listening: &Listening, inherited: &HandoverState, host: &dyn Host) {
    let on = &listening.on;
    match inherited.reason {
        None => {
            tracing::info!("Serving {on}.");
            host.on_listening(&on.to_string());
        }
        Some(Reason::Upgrade) => tracing::info!("Upgraded; serving {on}."),
        Some(Reason::Crash | Reason::Stall) => {
            let part = inherited.part.as_deref();
            tracing::info!(part, "Restarted in place; serving {on}.");
        }
    }
}
