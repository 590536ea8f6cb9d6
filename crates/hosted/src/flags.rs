//! The command line. What it means is in `commands/`; the values of flags that are also settings are checked with all
//! others in `config.rs`.

#[cfg(feature = "development")]
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
#[cfg(feature = "development")]
use host_emulator::Host;

use crate::app::App;
use crate::config::CommandLine;
use crate::front::Front;
use crate::program::Program;

// In these texts, `{name}` is the program's name, and `{NAME_}` what its variables start with.
#[derive(Debug, Parser)]
#[command(
    disable_help_subcommand = true,
    after_help = "Without a command: serves the web server that started it; otherwise like serve."
)]
pub(crate) struct Flags<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: Option<Command<C>>,
    /// Read the settings from this file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command<C: Subcommand> {
    Serve(Serve),
    #[cfg(feature = "development")]
    Watch(Watch),
    Fastcgi(Fastcgi),
    Request(RequestFlags),
    Check(Check),
    Install(Install),
    Launcher(LauncherFlags),
    Settings(SettingsFlags),
    #[command(flatten)]
    Own(C),
    Completions(Completions),
}

/// Serve over HTTP: to try it, develop, or behind a proxy.
#[derive(Debug, Default, Args)]
#[command(after_help = "Ctrl-C or SIGTERM stops it once the requests in flight are complete.")]
pub(crate) struct Serve {
    /// HOST:PORT or unix:PATH [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Log to this file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<String>,
    /// Processes: N, MIN-MAX by load, or auto [default: 1]
    #[arg(long, value_name = "N")]
    #[cfg_attr(feature = "development", arg(conflicts_with = "host"))]
    pub(crate) workers: Option<String>,
    #[cfg(feature = "development")]
    #[command(flatten)]
    pub(crate) like: Like,
}

/// Serve as a host would.
#[cfg(feature = "development")]
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Like {
    /// With the rules of a host: mod_fcgid, cgi, cloudlinux.
    // The host starts the program without arguments.
    #[arg(long = "like", value_name = "HOST", conflicts_with = "config")]
    pub(crate) host: Option<Host>,
    /// Another value of a rule: FcgidIOTimeout=300
    #[arg(long = "rule", value_name = "NAME=N", requires = "host")]
    pub(crate) rules: Vec<String>,
}

/// Serve, and build the program again when its sources change.
#[cfg(feature = "development")]
#[derive(Debug, Args)]
#[command(after_help = "In the folder of a cargo project: cargo run -- watch\n\
                        The new version takes over without losing a request; if it does not build,\n\
                        or does not pass its check, the running one continues.")]
pub(crate) struct Watch {
    /// HOST:PORT or unix:PATH [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    #[command(flatten)]
    pub(crate) like: Like,
    /// For `cargo build`, after --: such as --features x
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) cargo: Vec<OsString>,
}

/// Serve over FastCGI: for nginx, caddy, mod_proxy_fcgi.
#[derive(Debug, Args)]
#[command(
    after_help = "Wrong settings do not stop it: visitors get a 503, the log has the cause.\n\
                        Ctrl-C or SIGTERM stops it once the requests in flight are complete."
)]
pub(crate) struct Fastcgi {
    /// unix:PATH (for this account only) or HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Log to this file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<String>,
    /// Processes: N, MIN-MAX by load, or auto [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,
}

/// Report what is installed and what would fail; change nothing.
#[derive(Debug, Default, Args)]
#[command(after_help = "Exit codes: 0 no problems, 1 something would fail, 2 a setting is wrong.")]
pub(crate) struct Check {
    /// The site's folder, the one with dispatch.fcgi in it.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// For running processes: whether this version can take their place.
    // Processes of older versions pass --renewal.
    #[arg(long, alias = "renewal", hide = true)]
    pub(crate) upgrade: bool,
    /// With --upgrade: keep a copy of a version that can.
    #[arg(long, hide = true)]
    pub(crate) keep: bool,
}

/// Replace this version by a new one that passes its check.
#[derive(Debug, Args)]
#[command(
    after_help = "The previous version is kept as {name}.previous. Running processes upgrade\n\
                        by themselves, without losing a request (docs/reloading.md)."
)]
pub(crate) struct Install {
    /// The new program.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Write dispatch.fcgi and .htaccess, by which Apache starts it.
#[derive(Debug, Args)]
#[command(
    after_help = "What is there already is not overwritten. Other web servers: docs/deploying.md."
)]
pub(crate) struct LauncherFlags {
    /// The site's folder: the document root, or a folder in it.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// List the settings and where each is set, or explain one.
#[derive(Debug, Default, Args)]
#[command(after_help = "Set them in {name}.toml, or as {NAME_}SETTING in the environment.")]
pub(crate) struct SettingsFlags {
    /// The setting to explain.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "For bash, in ~/.bashrc: source <({name} completions bash)")]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

/// Print the response to one request, without a server.
#[derive(Debug, Args)]
#[command(after_help = "What would be logged goes to standard error.\n\
                  Exit codes: 0 success, 4 a status of 4xx, 5 a status of 5xx.\n\
                  Example: {name} request GET /")]
pub(crate) struct RequestFlags {
    /// GET, POST, …
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// Below the site's address, with its query: /hello?name=Ann
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Send this header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Send this file, or standard input (-).
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// As it comes from mod_fcgid, mod_cgi, nginx, …
    #[arg(long = "as", value_name = "SERVER", hide_possible_values = true)]
    pub(crate) front: Option<Front>,
    /// The folder that the site is in, such as /project.
    #[arg(long, value_name = "PATH", requires = "front")]
    pub(crate) base: Option<String>,
}

impl<C: Subcommand> Flags<C> {
    /// Reads the arguments of this process.
    pub(crate) fn parse<A: App<Commands = C>>(
        app: &A,
        program: Program,
    ) -> Result<Self, clap::Error> {
        let mut matches = definition(app, program).try_get_matches()?;
        Flags::from_arg_matches_mut(&mut matches)
    }

    /// The part that concerns settings.
    pub(crate) fn command_line(&self) -> CommandLine {
        let (listen, log, workers) = match &self.command {
            Some(Command::Serve(Serve { listen, log, workers, .. })) => (listen, log, workers),
            Some(Command::Fastcgi(Fastcgi { listen, log, workers })) => (listen, log, workers),
            Some(
                Command::Request(_)
                | Command::Check(_)
                | Command::Install(_)
                | Command::Launcher(_)
                | Command::Settings(_)
                | Command::Own(_)
                | Command::Completions(_),
            )
            | None => (&None, &None, &None),
            // They are the server's.
            #[cfg(feature = "development")]
            Some(Command::Watch(_)) => (&None, &None, &None),
        };
        let keys = [
            ("--listen", "listen", listen),
            ("--log", "log", log),
            ("--workers", "workers", workers),
        ];
        let given = |(flag, key, value): (_, _, &Option<String>)| Some((flag, key, value.clone()?));
        CommandLine {
            config: self.config.clone(),
            keys: keys.into_iter().filter_map(given).collect(),
        }
    }
}

/// Returns the command line of a program.
pub(crate) fn definition<A: App>(app: &A, program: Program) -> clap::Command {
    let definition = Flags::<A::Commands>::command();
    let definition = definition.name(program.name).version(program.version).about(app.about());
    named(definition, program)
}

/// Puts the program's name into help, and into that of all commands.
fn named(mut command: clap::Command, program: Program) -> clap::Command {
    let in_words = |help: &StyledStr| {
        let help = help.to_string();
        help.replace("{name}", program.name).replace("{NAME_}", &program.variable(""))
    };
    if let Some(help) = command.get_about().map(in_words) {
        command = command.about(help);
    }
    if let Some(help) = command.get_after_help().map(in_words) {
        command = command.after_help(help);
    }
    let command = command.mut_args(|argument| match argument.get_help().map(in_words) {
        Some(help) => argument.help(help),
        None => argument,
    });
    let names: Vec<_> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| named(command, program))
    })
}
