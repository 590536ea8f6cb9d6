//! A web server runs the program as plain CGI: one request, then exit.
//!
//! Each request starts a process, so nothing is opened until it is needed: the log file by the first message.

use app_server::Transport;

use super::{Context, serving};
use crate::app::{App, By, Surroundings};
use crate::config::CommandLine;
use crate::job::Job;
use crate::log;
use crate::report::Failure;

/// Answers the one request.
pub(crate) fn job<A: App>(context: &Context<A>) -> Job {
    // What is printed while the service is made must not come before the response. If it cannot be reserved, serving fails
    // for the same reason, and says so.
    let _ = app_server::reserve_standard_output();
    let configuration = context.keys.load(&CommandLine::default());
    serving::name_node(&configuration.settings);
    match context.app.parts().log_file {
        true => log::begin_when_needed(&configuration),
        false => log::to_stderr(),
    };
    log::configuration(&configuration);
    let host = Surroundings::of(&*context.app, &configuration.settings);
    // The web server's own socket.
    let by = By::WebServer { is_tcp: false };
    let served = serving::Serving { configuration, by, host, upgrade: None };
    let answered = |outcome: Result<_, Failure>| outcome.inspect_err(Failure::log);
    served.job(&context.app, Transport::Cgi).then(answered)
}
