//! The commands that every program has, one file each, and which of them runs.

mod cgi;
pub(crate) mod check;
mod completions;
mod fastcgi;
mod install;
mod launched;
mod launcher;
#[cfg(feature = "development")]
mod like;
mod request;
mod serve;
mod serving;
mod settings;
mod spawned;
mod upgrade_check;
#[cfg(feature = "development")]
mod watch;

use std::process::ExitCode;
use std::rc::Rc;

use app_server::Transport;

use crate::app::App;
use crate::config::{CommandLine, Keys};
#[cfg(feature = "development")]
use crate::flags::Serve;
use crate::flags::{Command, Flags};
use crate::job::Job;
use crate::report::Failure;

/// A program, and its settings.
pub(crate) struct Context<A: App> {
    pub(crate) app: Rc<A>,
    pub(crate) keys: Keys<A::Own>,
}

/// Runs the program: serves the web server that started it, or does what its arguments say. The exit code is 0 for
/// success, 1 if the machine refused, 2 for a mistake on the command line or in a setting.
pub fn run<A: App>(app: A) -> ExitCode {
    let context = Context::new(app);
    let begun = context.begin();
    context.end(begun.map(|job| job.map_or(Ok(()), |job| job.run(context.app.runtime()))))
}

/// Same as [`run`], in the tokio runtime that the caller is in, which has to be a `current_thread` runtime.
#[cfg(feature = "tokio")]
pub(crate) async fn run_in_this_tokio<A: App>(app: A) -> ExitCode {
    let context = Context::new(app);
    let done = match context.begin() {
        Ok(Some(job)) => Ok(job.run_in_this_tokio().await),
        Ok(None) => Ok(Ok(())),
        Err(failed) => Err(failed),
    };
    context.end(done)
}

/// Whether a running process asks if this version can take its place.
fn is_upgrade_check() -> bool {
    std::env::args_os().skip(1).take(2).eq(["check", "--upgrade"])
}

/// Why nothing was begun.
enum NotBegun {
    Usage(clap::Error),
    Failed(Failure),
}

impl<A: App> Context<A> {
    fn new(app: A) -> Rc<Self> {
        // It cannot fail for an existing signal.
        let _ = event_loop::signals::ignore_failed_writes();
        Rc::new(Context { keys: app.keys(), app: Rc::new(app) })
    }

    /// Does what needs no loop, and returns the rest.
    fn begin(self: &Rc<Self>) -> Result<Option<Job>, NotBegun> {
        // A web server that starts the program passes no arguments that matter, so they are not even parsed. For CGI this
        // is also a matter of security, since a query may become arguments (RFC 3875 §4.4). A worker's socket comes from
        // our own supervisor, and its arguments are the supervisor's.
        let inherited = if app_server::is_worker() { None } else { Transport::inherited() };
        match inherited {
            Some(Transport::Cgi) => return Ok(Some(cgi::job(self))),
            Some(_) => return Ok(Some(spawned::job(self))),
            None => {}
        }
        if !self.app.parts().command_line && !is_upgrade_check() {
            let served = serve::job(self, &CommandLine::default());
            return served.map(Some).map_err(NotBegun::Failed);
        }
        let flags = Flags::<A::Commands>::parse(&*self.app, self.keys.program());
        let flags = flags.map_err(NotBegun::Usage)?;
        self.command(flags).map_err(NotBegun::Failed)
    }

    /// Runs a command, as far as it needs no loop.
    fn command(self: &Rc<Self>, flags: Flags<A::Commands>) -> Result<Option<Job>, Failure> {
        let (program, command_line) = (self.keys.program(), flags.command_line());
        match flags.command {
            #[cfg(feature = "development")]
            Some(Command::Serve(Serve { like, .. })) if like.host.is_some() => {
                return like::job(self, &command_line, &like).map(Some);
            }
            #[cfg(feature = "development")]
            Some(Command::Watch(watch)) => {
                return watch::job(self, &command_line, &watch).map(Some);
            }
            Some(Command::Serve(_)) => return serve::job(self, &command_line).map(Some),
            Some(Command::Fastcgi(_)) => return fastcgi::job(self, &command_line).map(Some),
            Some(Command::Request(request)) => {
                return request::job(self, &command_line, &request).map(Some);
            }
            Some(Command::Check(check)) if check.upgrade => {
                return upgrade_check::job(self, &command_line, check.keep).map(Some);
            }
            None if !launched::is_asked_for(program) => {
                return serve::job(self, &command_line).map(Some);
            }
            Some(Command::Check(check)) => check::run(self, &command_line, check.folder.as_deref()),
            Some(Command::Install(install)) => {
                install::run(&self.keys, &command_line, &install.file)
            }
            Some(Command::Settings(settings)) => {
                settings::run(self, &command_line, settings.name.as_deref())
            }
            Some(Command::Launcher(launcher)) => launcher::run(program, &launcher.folder),
            Some(Command::Completions(completions)) => {
                completions::run(&*self.app, program, completions.shell)
            }
            Some(Command::Own(own)) => self.app.run(own, &command_line),
            None => launched::run(self),
        }
        .map(|()| None)
    }

    /// Reports what has failed, and returns the exit code.
    fn end(&self, done: Result<Result<(), Failure>, NotBegun>) -> ExitCode {
        let program = self.keys.program();
        match done {
            Ok(outcome) => program.exit_code(outcome),
            Err(NotBegun::Failed(failure)) => program.exit_code(Err(failure)),
            Err(NotBegun::Usage(error)) => program.usage(&error),
        }
    }
}
