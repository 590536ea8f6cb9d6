//! `check --upgrade`: how a running process checks a version, including its own, before it upgrades to it. The
//! output is for a program: one line, and the exit code.
//!
//! It does everything that a start does, and renders one page. It changes nothing of a site except the copies of the
//! version and settings that passed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use app_server::Server;

use super::{Context, serving};
use crate::app::{App, By, Start, Surroundings};
use crate::config::CommandLine;
use crate::job::Job;
use crate::late_service::make;
use crate::report::{self, Failure};
use crate::{log, upgrade};

/// Checks; `keep`: keeps a copy of this version, for the launcher. It fails if this version, with this configuration, could
/// not serve.
///
/// # Errors
///
/// If a setting is wrong.
pub(crate) fn job<A: App>(
    context: &Rc<Context<A>>,
    command_line: &CommandLine,
    keep: bool,
) -> Result<Job, Failure> {
    let context = Rc::clone(context);
    let configuration = context.keys.load_valid(command_line)?;
    let settings = serving::server_settings(&configuration);
    let mut request = http::Request::new(None);
    let host = http::HeaderValue::from_static("localhost");
    request.headers_mut().insert(http::header::HOST, host);
    let null = File::options().write(true).open("/dev/null").map_err(Failure::refused)?;
    let host = Surroundings::of(&*context.app, &configuration.settings);
    let start = Start::new(configuration.clone(), By::Check);
    // As when it serves: an application that also sets up a log fails there, and should fail here. And the cause of a
    // failure belongs to the verdict.
    log::to_stderr_from(tracing::Level::ERROR);
    Ok(Job::new(async move {
        let service = make(&*context.app, start).await?;
        let server = Server::new(service).settings(settings).host(host);
        let status = server.answer(request, OwnedFd::from(null)).await?;
        if status.is_server_error() {
            return Err(Failure::refused(format!("The front page was answered with {status}.")));
        }
        // The version serves without a copy, too; but a later broken version then has nothing to fall back to.
        let keys = &context.keys;
        let copies = [
            upgrade::save_configuration(keys, &configuration),
            if keep { upgrade::save_program(keys.program()) } else { Ok(()) },
        ];
        for error in copies.into_iter().filter_map(Result::err) {
            report::print(&format!("It could not be kept as the last good version: {error}.\n"))?;
        }
        report::print(&format!("{}\n", upgrade::MARKER))
    }))
}
