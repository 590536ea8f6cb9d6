//! The rows that a program keeps: where its store is, its commands, and what `check` finds out about it.
//!
//! A store is a file, `data/NAME.db` beside the program, or a database of PostgreSQL's that the setting `database` names; what
//! it is for a program is the crate `storage`'s, whose items are here, too. An [`Application`](crate::Application) says
//! which tables are its own:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use axum::Router;
//! use axum::extract::State;
//! use axum::routing::get;
//! use hosted::{Application, HttpError};
//! use hosted::store::{Migration, Schema, Store, params};
//!
//! const SCHEMA: Schema = Schema {
//!     name: "visits",
//!     migrations: &[Migration::expand("CREATE TABLE visits (page TEXT PRIMARY KEY, count BIGINT NOT NULL)")],
//! };
//!
//! fn main() -> ExitCode {
//!     Application::with_store(SCHEMA, router).main()
//! }
//!
//! fn router(store: Store) -> Router {
//!     Router::new().route("/", get(visit)).with_state(store)
//! }
//!
//! async fn visit(State(store): State<Store>) -> Result<String, HttpError> {
//!     let change = "INSERT INTO visits (page, count) VALUES ($1, 1)
//!                       ON CONFLICT (page) DO UPDATE SET count = visits.count + 1 RETURNING count";
//!     let count = store.write(async |store| store.query_one::<i64>(change, params!["/"]).await);
//!     Ok(format!("Visit {}\n", count.await?))
//! }
//! ```
//!
//! A program with more than that in its store implements [`Keeps`], as the site does, and has [`Command`] among its commands.
//!
//! `application.rs` is the simplest such program; `backup.rs`, `restore.rs`, `show.rs` and `relocation.rs` are the commands, `setting.rs` is the setting `database`, `look.rs` is `check`, `entries.rs` the files.

mod application;
mod backup;
pub mod entries;
mod look;
mod relocation;
mod restore;
mod setting;
mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

#[doc(no_inline)]
pub use storage::*;

pub use self::application::{KeepsRows, WithStore};
pub use self::look::{is_lasting, look};
pub use self::setting::{SETTING, name_machine, setting, take_setting};
use crate::app::App;
use crate::config::{CommandLine, Settings};
use crate::installation::DATA;
use crate::program::Program;
use crate::report::Failure;

/// A program that keeps rows in a store.
pub trait Keeps: App {
    /// Returns the store; `trust`: whose folder it may be in. Neither opens nor creates anything.
    fn store(&self, settings: &Settings<Self::Own>, trust: Trust) -> Store;

    /// Returns all that the program keeps in its store: that store's own schema, and others.
    fn schemas(&self, store: &Store) -> Vec<Schema>;

    /// Returns files of the program's own, which a backup must not replace. Default: none beside those that every program
    /// has.
    fn own_files(&self, _: &Settings<Self::Own>) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Puts a backup in the place of the store. Default: as it is ([`Store::restore`]).
    ///
    /// # Errors
    ///
    /// Those of [`Store::restore`].
    fn restore(
        &self,
        store: &Store,
        backup: &Path,
    ) -> impl Future<Output = Result<Option<PathBuf>, StoreError>> {
        async { store.restore(backup, &self.schemas(store), async |_| Ok(())).await }
    }

    /// Returns what is said after a command beside what it did: whole lines. Default: nothing.
    fn remark(&self, _: &Settings<Self::Own>, _: Done<'_>) -> String {
        String::new()
    }
}

/// What a command has done to the store.
#[derive(Clone, Copy, Debug)]
pub enum Done<'a> {
    /// A backup was made.
    BackedUp,
    /// A backup was put in its place.
    Restored,
    /// It was moved into a file in this folder.
    MovedToFolder(&'a Path),
    /// It was moved to a database of PostgreSQL's.
    MovedToPostgres,
}

/// The commands about the store: `backup`, `restore`, `store`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Back up the store: all rows.
    Backup(Backup),
    /// Put a backup in the place of the store.
    Restore(Restore),
    /// Show where the store is, how large, and what is in it.
    Store(StoreFlags),
}

/// What `backup` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use. The copy may contain secrets; its mode is 600.\n\
                  Restore it with {name} restore. Files and blobs are not in it."
)]
pub struct Backup {
    /// Where to write it; replaced atomically.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What `restore` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use; running processes notice. What was there is kept\n\
                  as data/{name}.db-replaced until the next time."
)]
pub struct Restore {
    /// A file made by {name} backup; it stays where it is.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What `store` takes.
#[derive(Debug, Args)]
#[command(after_help = "Works while the site is in use.")]
pub struct StoreFlags {
    #[command(subcommand)]
    command: Option<StoreCommand>,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
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
struct Move {
    /// From where, and to where there is nothing yet.
    #[arg(value_name = "[FROM] TO", required = true, num_args = 1..=2)]
    places: Vec<String>,
}

/// Runs one of the commands.
///
/// # Errors
///
/// What is printed, with the exit code.
pub fn run<A: Keeps>(
    app: &A,
    command: &Command,
    command_line: &CommandLine,
) -> Result<(), Failure> {
    let keys = app.keys();
    let configuration = keys.load_valid(command_line)?;
    let store = app.store(&configuration.settings, Trust::of_command());
    let kept = Kept { app, program: keys.program(), settings: &configuration.settings, store };
    match command {
        Command::Backup(backup) => {
            let settings_file = keys.file(command_line);
            kept.back_up(&backup.file, configuration.file.iter().chain(&settings_file))
        }
        Command::Restore(restore) => kept.restore(&restore.file),
        Command::Store(StoreFlags { command: Some(StoreCommand::Move(places)) }) => {
            kept.relocate(&places.places)
        }
        Command::Store(StoreFlags { command: None }) => kept.show(),
        Command::Store(StoreFlags { command: Some(StoreCommand::Check) }) => kept.check(),
    }
}

/// What a command works with.
struct Kept<'a, A: Keeps> {
    app: &'a A,
    program: Program,
    settings: &'a Settings<A::Own>,
    store: Store,
}

/// Returns the store of a program that has nothing else in it than these tables: `data/NAME.db`, or the setting `database`.
pub fn at<O>(program: Program, settings: &Settings<O>, trust: Trust, schema: Schema) -> Store {
    match &settings.database {
        Some(url) => Store::in_postgres(url, schema),
        None => {
            let data = settings.data_folder().unwrap_or_else(|| DATA.name(program).into());
            Store::in_file(entries::STORE.of(program, &data), trust, schema)
        }
    }
}

/// Where a store is, as it is shown: a URL has a password in it.
fn place_of(store: &Store) -> String {
    store.file().map_or("PostgreSQL".to_owned(), |file| file.display().to_string())
}
