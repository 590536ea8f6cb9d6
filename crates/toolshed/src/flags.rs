//! The command line. What it means is in `commands/`; the values of flags that are also settings are checked with all
//! others in `config.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::CommandLine;

/// A tools site, and a server for it, for the hosting most people can afford.
#[derive(Debug, Parser)]
#[command(
    name = "toolshed",
    version,
    disable_help_subcommand = true,
    after_help = "Without a command: serves the web server that started it; otherwise like serve."
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Read the settings from this file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Fastcgi(Fastcgi),
    Request(RequestFlags),
    /// List the tools of the site and who may use them.
    Tools,
    Check(Check),
    Install(Install),
    Settings(SettingsFlags),
    /// Set the owner's password in toolshed.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | toolshed set-password\n\
                      The rest of the file stays unchanged. All sessions end.")]
    SetPassword,
    /// Print the line that sets the owner's password in toolshed.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | toolshed hash-password")]
    HashPassword,
    Backup(Backup),
    Restore(Restore),
    Store(Store),
    Blobs(Blobs),
    Completions(Completions),
}

/// Serve the site over HTTP: to try it, develop, or behind a proxy.
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
    pub(crate) workers: Option<String>,
}

/// Serve the site over FastCGI: for nginx, caddy, mod_proxy_fcgi.
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
    after_help = "The previous version is kept as toolshed.previous. Running processes upgrade\n\
                        by themselves, without losing a request (docs/reloading.md)."
)]
pub(crate) struct Install {
    /// The new program.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// List the settings and where each is set, or explain one.
#[derive(Debug, Default, Args)]
#[command(after_help = "Set them in toolshed.toml, or as TOOLSHED_NAME in the environment.")]
pub(crate) struct SettingsFlags {
    /// The setting to explain.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Back up the store: sessions, and the rows of all tools.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use. The copy contains secrets; its mode is 600.\n\
                  Restore it with toolshed restore. Blobs are not in it; see toolshed blobs."
)]
pub(crate) struct Backup {
    /// Where to write it; replaced atomically.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Put a backup in the place of the store.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use; running processes notice. What was there is kept\n\
                  as data/toolshed.db-replaced until the next time."
)]
pub(crate) struct Restore {
    /// A file made by toolshed backup; it stays where it is.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Show where the store is, how large, and what is in it.
#[derive(Debug, Args)]
#[command(after_help = "Works while the site is in use.")]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: Option<StoreCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of the store and report damage.
    Check,
    Move(Move),
}

/// Move the store to a database of PostgreSQL, or back into a file.
#[derive(Debug, Args)]
#[command(
    after_help = "A place is the path of a file or a postgres:// URL; without FROM, the configured\n\
                  one is moved. Meanwhile the site can read and not write; afterwards, set\n\
                  database (docs/storing.md). If it is interrupted, run it again."
)]
pub(crate) struct Move {
    /// From where, and to where there is nothing yet.
    #[arg(value_name = "[FROM] TO", required = true, num_args = 1..=2)]
    pub(crate) places: Vec<String>,
}

/// Show where the site's blobs are, how many, and how large.
#[derive(Debug, Args)]
#[command(after_help = "Blobs are the large values that tools keep, such as uploads.")]
pub(crate) struct Blobs {
    #[command(subcommand)]
    pub(crate) command: Option<BlobsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlobsCommand {
    Copy(CopyBlobs),
}

/// Copy all blobs to another place: as a backup, or to move the site.
#[derive(Debug, Args)]
#[command(
    after_help = "A place is a folder, or s3 for the bucket that is set by s3_endpoint and others;\n\
                  without FROM, the site's own blobs are copied. Works while the site is in use.\n\
                  What is there already is passed over: run it again if it was interrupted, and\n\
                  for what was put since (docs/storing.md)."
)]
pub(crate) struct CopyBlobs {
    /// From where, and to where.
    #[arg(value_name = "[FROM] TO", required = true, num_args = 1..=2)]
    pub(crate) places: Vec<String>,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "For bash, in ~/.bashrc: source <(toolshed completions bash)")]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

impl Flags {
    /// The part that concerns settings.
    pub(crate) fn command_line(&self) -> CommandLine {
        let (listen, log, workers) = match &self.command {
            Some(Command::Serve(Serve { listen, log, workers })) => (listen, log, workers),
            Some(Command::Fastcgi(Fastcgi { listen, log, workers })) => (listen, log, workers),
            Some(
                Command::Request(_)
                | Command::Tools
                | Command::Check(_)
                | Command::Install(_)
                | Command::Settings(_)
                | Command::SetPassword
                | Command::HashPassword
                | Command::Backup(_)
                | Command::Restore(_)
                | Command::Store(_)
                | Command::Blobs(_)
                | Command::Completions(_),
            )
            | None => (&None, &None, &None),
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

/// Print the site's response to one request, without a server.
#[derive(Debug, Args)]
#[command(after_help = "What would be logged goes to standard error.\n\
                  Exit codes: 0 success, 4 a status of 4xx, 5 a status of 5xx.\n\
                  Example: toolshed request GET /healthz")]
pub(crate) struct RequestFlags {
    /// GET, POST, …
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// Below the site's address, with its query: /tools/checksum?alg=md5
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Send this header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Send this file, or standard input (-).
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }
}
