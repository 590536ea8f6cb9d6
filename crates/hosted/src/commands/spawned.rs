//! A web server started the program with a listening socket at descriptor 0.

use std::time::Duration;

use app_server::Transport;

use super::{Context, serving};
use crate::app::{App, By, Surroundings};
use crate::config::CommandLine;
use crate::job::Job;
use crate::report::Failure;
use crate::{log, processes, upgrade};

/// Serves FastCGI until the web server stops it. Wrong settings do not end it: the web server would only start it
/// again, and visitors would see "500".
pub(crate) fn job<A: App>(context: &Context<A>) -> Job {
    let (command_line, keys) = (CommandLine::default(), &context.keys);
    let parts = context.app.parts();
    let upgrade = parts.upgrades.then(|| upgrade::begin(keys, &command_line, true));
    let mut configuration = upgrade::or_last_good(keys, keys.load(&command_line));
    serving::name_node(&configuration.settings);
    let log = match parts.log_file {
        true => log::begin_spawned(&configuration),
        false => log::to_stderr(),
    };
    log::configuration(&configuration);
    configuration.settings.server.drain_wait = Duration::ZERO;
    let upgrade = upgrade.and_then(upgrade::log_if_unavailable);
    let host = Surroundings::of(&*context.app, &configuration.settings).log(log);
    let host = host.on_listening(upgrade::save_when_listening(keys, &configuration));
    if context.app.may_keep_state_in_memory() {
        processes::note_others();
    }
    let by = By::WebServer { is_tcp: !is_unix_socket() };
    let served = serving::Serving { configuration, by, host, upgrade };
    served.job(&context.app, Transport::Spawned).then(|outcome| {
        outcome.map_err(|failure| {
            failure.log();
            Failure::silent(1)
        })
    })
}

/// Whether the web server's socket is a file, which only accounts of this machine with access to it can reach.
fn is_unix_socket() -> bool {
    let address = rustix::net::getsockname(std::io::stdin());
    address.is_ok_and(|address| address.address_family() == rustix::net::AddressFamily::UNIX)
}
