//! `serve`: the service over HTTP.

use std::rc::Rc;

use app_server::{Address, Protocol, Transport};

use super::{Context, serving};
use crate::app::{App, By, Introduction, Surroundings};
use crate::config::CommandLine;
use crate::job::Job;
use crate::report::Failure;
use crate::{log, processes, upgrade};

/// The default address of `serve`: only this machine can reach it.
pub(crate) const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn job<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
) -> Result<Job, Failure> {
    let upgrade = context.app.parts().upgrades;
    let upgrade = upgrade.then(|| upgrade::begin(&context.keys, command_line, false));
    let mut configuration = context.keys.load_valid(command_line)?;
    serving::name_node(&configuration.settings);
    let (log, terminal) = log::begin(&configuration);
    log::configuration(&configuration);
    if let Err(error) = app_server::check_descriptors() {
        return terminal.report(Err(error.into())).map(|()| Job::new(async { Ok(()) }));
    }
    let listen = configuration.settings.listen.clone();
    let listen = listen.unwrap_or(Address::Tcp(ADDRESS));
    let Introduction { variables, greeting } = context.app.introduce(&listen, &mut configuration);
    let upgrade = upgrade.and_then(upgrade::log_if_unavailable).map(|upgrade| {
        variables.iter().fold(upgrade, |upgrade, (name, value)| upgrade.variable(name, value))
    });
    let terminal = Rc::new(terminal);
    let mut host = Surroundings::of(&*context.app, &configuration.settings).log(log);
    // The supervisor greets for its workers.
    if !app_server::is_worker() {
        let terminal = terminal.clone();
        host = host.on_listening(move |address| terminal.print(&greeting(address)));
    }
    if let Some(mut workers) = serving::workers(&configuration.settings) {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        workers.variables.extend(variables);
        if context.app.may_keep_state_in_memory() {
            processes::note(workers.max);
        }
        let settings = serving::server_settings(&configuration);
        let work = async move {
            Ok(app_server::supervise(Protocol::Http, listen, workers, &settings, &host).await?)
        };
        return Ok(Job::new(work).then(move |outcome| terminal.report(outcome)));
    }
    let served = serving::Serving { configuration, by: By::Http, host, upgrade };
    let job = served.job(&context.app, Transport::Http(listen));
    Ok(job.then(move |outcome| terminal.report(outcome)))
}
