//! The commands that every program has, one file each, and which of them runs.

mod cgi;
pub(crate) mod check;
mod completions;
mod fastcgi;
mod install;
mod launched;
mod launcher;
mod request;
mod serve;
mod serving;
mod settings;
mod spawned;
mod upgrade_check;

use std::process::ExitCode;
use std::rc::Rc;

use app_server::Transport;

use crate::app::App;
use crate::config::Keys;
use crate::flags::{Command, Flags};

/// A program, and its settings.
pub(crate) struct Context<A: App> {
    pub(crate) app: Rc<A>,
    pub(crate) keys: Keys<A::Own>,
}

/// Runs the program: serves the web server that started it, or does what its arguments say. The exit code is 0 for
/// success, 1 if the machine refused, 2 for a mistake on the command line or in a setting.
pub fn run<A: App>(app: A) -> ExitCode {
    // It cannot fail for an existing signal.
    let _ = event_loop::signals::ignore_failed_writes();
    let context = Context { keys: app.keys(), app: Rc::new(app) };
    let program = context.keys.program();
    // A web server that starts the program passes no arguments that matter, so they are not even parsed. For CGI this
    // is also a matter of security, since a query may become arguments (RFC 3875 §4.4). A worker's socket comes from
    // our own supervisor, and its arguments are the supervisor's.
    let inherited = if app_server::is_worker() { None } else { Transport::inherited() };
    match inherited {
        Some(Transport::Cgi) => return program.exit_code(cgi::run(&context)),
        Some(_) => return program.exit_code(spawned::run(&context)),
        None => {}
    }
    let flags = match Flags::<A::Commands>::parse(&*context.app, program) {
        Ok(flags) => flags,
        Err(error) => return program.usage(&error),
    };
    let command_line = flags.command_line();
    program.exit_code(match flags.command {
        Some(Command::Serve(_)) => serve::run(&context, &command_line),
        Some(Command::Fastcgi(_)) => fastcgi::run(&context, &command_line),
        Some(Command::Request(request)) => request::run(&context, &command_line, &request),
        Some(Command::Check(check)) if check.upgrade => {
            upgrade_check::run(&context, &command_line, check.keep)
        }
        Some(Command::Check(check)) => check::run(&context, &command_line, check.folder.as_deref()),
        Some(Command::Install(install)) => {
            install::run(&context.keys, &command_line, &install.file)
        }
        Some(Command::Settings(settings)) => {
            settings::run(&context, &command_line, settings.name.as_deref())
        }
        Some(Command::Launcher(launcher)) => launcher::run(program, &launcher.folder),
        Some(Command::Completions(completions)) => {
            completions::run(&*context.app, program, completions.shell)
        }
        Some(Command::Own(own)) => context.app.run(own, &command_line),
        None if launched::is_asked_for(program) => launched::run(&context),
        None => serve::run(&context, &command_line),
    })
}
