//! `toolshed check --upgrade`: how a running process checks a version, including its own, before it upgrades to it. The
//! output is for a program: one line, and the exit code.
//!
//! It does everything that a start does, and renders one page. It changes nothing of a site except the copies of the
//! version and settings that passed.

use std::fs::File;
use std::os::fd::OwnedFd;

use app_server::Server;

use crate::application::{self, SiteHost};
use crate::config::CommandLine;
use crate::report::{self, Failure};
use crate::{commands, upgrade};

/// Checks; `keep`: keeps a copy of this version, for the launcher.
///
/// # Errors
///
/// If this version, with this configuration, could not serve.
pub(crate) fn run(command_line: &CommandLine, keep: bool) -> Result<(), Failure> {
    let configuration = commands::valid_settings(command_line)?;
    let save = upgrade::save_configuration;
    let settings = application::server_settings(&configuration.settings);
    let mut request = http::Request::new(None);
    let host = http::HeaderValue::from_static("localhost");
    request.headers_mut().insert(http::header::HOST, host);
    let null = File::options().write(true).open("/dev/null").map_err(Failure::refused)?;
    let site = application::site(configuration.clone());
    let server = Server::new(site).settings(settings).host(SiteHost::new(&configuration.settings));
    let status = server.request(request, OwnedFd::from(null))?;
    if status.is_server_error() {
        return Err(Failure::refused(format!("The front page was answered with {status}.")));
    }
    // The version serves without a copy, too; but a later broken version then has nothing to fall back to.
    let copies = [save(&configuration), if keep { upgrade::save_program() } else { Ok(()) }];
    for error in copies.into_iter().filter_map(Result::err) {
        report::print(&format!("It could not be kept as the last good version: {error}.\n"))?;
    }
    report::print(&format!("{}\n", upgrade::MARKER))
}
