//! `fastcgi --listen ADDRESS`: FastCGI on a socket of our own.

use app_server::{Address, Protocol, Transport};

use super::{Context, serving};
use crate::app::{App, By, Surroundings};
use crate::config::CommandLine;
use crate::job::Job;
use crate::report::Failure;
use crate::{log, processes, upgrade};

/// Serves until SIGTERM or Ctrl-C. Wrong settings do not end it, unless they are on the command line or leave no
/// address: a page and the log report them.
pub(crate) fn job<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
) -> Result<Job, Failure> {
    let keys = &context.keys;
    let upgrade = context.app.parts().upgrades;
    let upgrade = upgrade.then(|| upgrade::begin(keys, command_line, false));
    let configuration = upgrade::or_last_good(keys, keys.load(command_line));
    if configuration.has_wrong_flags() {
        return Err(configuration.failure());
    }
    let Some(listen) = configuration.settings.listen.clone() else {
        let name = keys.program().name;
        return Err(match configuration.problems.is_empty() {
            true => Failure::wrong("fastcgi needs an address to listen on.")
                .hint(format!("{name} fastcgi --listen unix:/run/{name}.sock")),
            false => configuration.failure(),
        });
    };
    serving::name_node(&configuration.settings);
    let (log, terminal) = log::begin(&configuration);
    log::configuration(&configuration);
    let upgrade = upgrade.and_then(upgrade::log_if_unavailable);
    let mut host = Surroundings::of(&*context.app, &configuration.settings).log(log);
    if command_line.config.is_none() {
        host = host.on_listening(upgrade::save_when_listening(keys, &configuration));
    }
    if let Some(workers) = serving::workers(&configuration.settings) {
        if context.app.may_keep_state_in_memory() {
            processes::note(workers.max);
        }
        let settings = serving::server_settings(&configuration);
        let work = async move {
            Ok(app_server::supervise(Protocol::FastCgi, listen, workers, &settings, &host).await?)
        };
        return Ok(Job::new(work).then(move |outcome| terminal.report(outcome)));
    }
    let by = By::WebServer { is_tcp: matches!(listen, Address::Tcp(_)) };
    let served = serving::Serving { configuration, by, host, upgrade };
    let job = served.job(&context.app, Transport::FastCgi(listen));
    Ok(job.then(move |outcome| terminal.report(outcome)))
}
