//! `watch`: serves, and when a source of the program has changed, builds it and has the new version take over.
//!
//! The server is another process, `serve`: it becomes the new version without losing a request, as on a host. This process
//! only looks at files, runs cargo, and sends SIGHUP.

use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use event_loop::signals::{self, Signal, Signals};
use event_loop::time;
use process::{Child, Command, Stdio};

use crate::app::App;
use crate::cargo_project::CargoProject;
use crate::commands::Context;
use crate::config::CommandLine;
use crate::flags::Watch;
use crate::job::Job;
use crate::report::Failure;
use crate::{log, upgrade};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(300);

/// How long the server may take to end. Its own limit is 30 s for requests in flight.
const PATIENCE: Duration = Duration::from_secs(35);

/// Watches until SIGTERM or Ctrl-C, or until the server has ended.
pub(crate) fn job<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
    flags: &Watch,
) -> Result<Job, Failure> {
    let name = context.keys.program().name;
    let no_project = |why: String| {
        Failure::refused(format!("watch builds a cargo project, and this is not one: {why}.")).hint(
            format!("In the project's folder: cargo run -- watch. Without building: {name} serve"),
        )
    };
    let program = upgrade::program_file().map_err(|error| no_project(error.to_string()))?;
    let package = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_dir().map_err(Failure::refused)?,
    };
    let project = CargoProject::find(&program, &package).map_err(no_project)?;
    log::to_stderr();
    let arguments = serve_arguments(command_line, flags);
    let watching = Watching { program, arguments, project, for_cargo: flags.cargo.clone() };
    Ok(Job::new(watching.run()))
}

/// The arguments of the server.
fn serve_arguments(command_line: &CommandLine, flags: &Watch) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["serve".into()];
    if let Some(listen) = &flags.listen {
        arguments.extend(["--listen".into(), listen.into()]);
    }
    if let Some(host) = flags.like.host {
        arguments.extend(["--like".into(), host.name().into()]);
    }
    for rule in &flags.like.rules {
        arguments.extend(["--rule".into(), rule.into()]);
    }
    if let Some(file) = &command_line.config {
        arguments.extend(["--config".into(), file.into()]);
    }
    arguments
}

struct Watching {
    program: PathBuf,
    arguments: Vec<OsString>,
    project: CargoProject,
    for_cargo: Vec<OsString>,
}

/// What ends the watching.
enum End {
    Signal,
    Served(io::Result<ExitStatus>),
}

impl Watching {
    async fn run(mut self) -> Result<(), Failure> {
        let mut signals =
            signals::listen(&[Signal::Terminate, Signal::Interrupt]).map_err(Failure::refused)?;
        let server = Command::new(&self.program)
            .args(&self.arguments)
            // Not the terminal: there SIGHUP means that it is gone.
            .stdin(Stdio::null())
            .lead_group()
            .spawn();
        let mut server = server.map_err(Failure::refused)?;
        tracing::info!("Watching the sources of {}.", self.project.folder.display());
        match self.watch(&mut server, &mut signals).await {
            End::Served(status) => match status.map_err(Failure::refused)?.code() {
                Some(0) => Ok(()),
                // It has said why.
                code => {
                    Err(Failure::silent(code.and_then(|code| code.try_into().ok()).unwrap_or(1)))
                }
            },
            End::Signal => {
                server.signal(Signal::Terminate).map_err(Failure::refused)?;
                // If it does not end, dropping its handle kills it.
                let _ = time::timeout(PATIENCE, server.wait()).await;
                Ok(())
            }
        }
    }

    async fn watch(&mut self, server: &mut Child, signals: &mut Signals) -> End {
        loop {
            if let Some(end) = pause(server, signals).await {
                return end;
            }
            let Some(changed) = self.project.changed() else { continue };
            // An editor may be writing others.
            if let Some(end) = pause(server, signals).await {
                return end;
            }
            tracing::info!("Building: {} has changed.", changed.display());
            self.project.note();
            let built = self.build(server, signals).await;
            match built {
                Err(end) => return end,
                Ok(Ok(status)) if status.success() => match server.signal(Signal::Hangup) {
                    Ok(()) => tracing::info!("Built; the new version is checked, and takes over."),
                    Err(error) => tracing::error!("Cannot signal the server: {error}."),
                },
                Ok(Ok(_)) => tracing::warn!("Build failed; the running version continues."),
                Ok(Err(error)) => tracing::error!("Cannot run cargo: {error}."),
            }
        }
    }

    /// Runs cargo, whose messages go to the terminal.
    async fn build(
        &self,
        server: &mut Child,
        signals: &mut Signals,
    ) -> Result<io::Result<ExitStatus>, End> {
        // Cargo says which one it is.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(self.project.build_arguments()).args(&self.for_cargo);
        build.current_dir(&self.project.folder).stdin(Stdio::null()).lead_group();
        // `cargo run` has set them. Build scripts that look at them would run again, and with them all that follows.
        let names = std::env::vars_os().map(|(name, _)| name);
        let of_run = |name: &OsString| {
            let prefixes = ["CARGO_MANIFEST_", "CARGO_PKG_"];
            prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
        };
        for name in names.filter(of_run) {
            build.env_remove(name);
        }
        let mut build = match build.spawn() {
            Ok(build) => build,
            Err(error) => return Ok(Err(error)),
        };
        poll_fn(|context| {
            if let Poll::Ready(end) = poll_end(server, signals, context) {
                return Poll::Ready(Err(end));
            }
            build.poll_wait(context).map(Ok)
        })
        .await
    }
}

/// Waits a moment. Returns why there is nothing more to wait for, if that is so.
async fn pause(server: &mut Child, signals: &mut Signals) -> Option<End> {
    let mut over = time::sleep(INTERVAL);
    poll_fn(|context| match poll_end(server, signals, context) {
        Poll::Ready(end) => Poll::Ready(Some(end)),
        Poll::Pending => Pin::new(&mut over).poll(context).map(|()| None),
    })
    .await
}

fn poll_end(
    server: &mut Child,
    signals: &mut Signals,
    context: &mut std::task::Context<'_>,
) -> Poll<End> {
    if signals.poll_recv(context).is_ready() {
        return Poll::Ready(End::Signal);
    }
    server.poll_wait(context).map(End::Served)
}
