//! `toolshed store`: where the store is, how large, and what is in it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use atomic_file::{FileIdentity, folder_of};
use hosted::config::CommandLine;
use hosted::report::{self, Failure};
use site::login::KEY_FILE;
use site::storage::{
    DatabaseUrl, MOVED_SUFFIX, Progress, Schema, SchemaStatistics, Statistics, Store, StoreError,
    Trust,
};
use site::{LoginSettings, size};

use super::blobs;
use crate::application;
use crate::config::{Settings, keys};
use crate::flags::StoreCommand;
use crate::installation::{PROGRAM, STORE};

pub(crate) fn run(
    command_line: &CommandLine,
    command: Option<&StoreCommand>,
) -> Result<(), Failure> {
    let configuration = keys().load_valid(command_line)?;
    let login = application::login(&configuration.settings);
    let store = LoginSettings { trust: Trust::of_command(), ..login }.store();
    if let Some(StoreCommand::Move(places)) = command {
        let (from, to) = match places.places.as_slice() {
            [from, to] => (at(from, &store)?, target(to, &store)?),
            [to] => (store.clone(), target(to, &store)?),
            _ => return Err(Failure::wrong("Name the place to move the store to.")),
        };
        if is_same(&from, &to) {
            let place = place_of(&to);
            return Err(Failure::refused(format!(
                "Nothing was moved: the store is in {place} already."
            )));
        }
        return move_store(&from, &to, &configuration.settings);
    }
    let place = place_of(&store);
    if !store.exists() {
        return Err(Failure::refused(format!("There is no store yet: {place} does not exist."))
            .hint(
                "The site creates it when it first stores something; set data if it is elsewhere.",
            ));
    }
    match command {
        None => show(&store, &place),
        _ => check(&store, &place),
    }
}

fn show(store: &Store, place: &str) -> Result<(), Failure> {
    let statistics = event_loop::run(store.statistics(&schemas(store)))
        .map_err(Failure::refused)?
        .map_err(|error| Failure::refused(format!("Cannot look into {place}: {error}.")))?;
    report::print(&text(place, &statistics))
}

fn check(store: &Store, place: &str) -> Result<(), Failure> {
    event_loop::run(store.check())
        .map_err(Failure::refused)?
        .map_err(|error| Failure::refused(format!("{place} did not pass: {error}.")))?;
    report::print(&match store.file() {
        Some(_) => format!("{place} is intact.\n"),
        None => format!("{place} responds. Whether its files are intact, pg_amcheck says.\n"),
    })
}

/// Returns the store in a file or at a URL.
fn at(place: &str, like: &Store) -> Result<Store, Failure> {
    // A mistyped scheme is no folder to move the store into.
    if place.contains("://") || place.starts_with("postgres:") || place.starts_with("postgresql:") {
        let url = place.parse::<DatabaseUrl>();
        let mut url = url.map_err(|error| Failure::wrong(format!("{error}.")))?;
        // Arguments can be seen by other accounts of the machine, the environment cannot.
        if let Ok(password) = std::env::var("PGPASSWORD") {
            url = url.or_password(&password);
        }
        return Ok(Store::in_postgres(&url, like.schema()));
    }
    Ok(Store::in_file(place, Trust::of_command(), like.schema()))
}

/// The same, for a place that settings can name.
fn target(place: &str, like: &Store) -> Result<Store, Failure> {
    let store = at(place, like)?;
    let name = STORE.name(PROGRAM);
    if store.file().is_some_and(|file| file.file_name() != Some(OsStr::new(&name))) {
        return Err(Failure::wrong(format!(
            "Nothing was moved: a store in a file is called {name}; write its folder before it, as in \
             FOLDER/{name}."
        )));
    }
    Ok(store)
}

/// Whether two stores are one file. Of two URLs, the move finds out.
fn is_same(one: &Store, other: &Store) -> bool {
    let identity = |store: &Store| store.file().and_then(FileIdentity::of);
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Where a store is, as it is shown: a URL has a password in it.
fn place_of(store: &Store) -> String {
    store.file().map_or("PostgreSQL".to_owned(), |file| file.display().to_string())
}

fn move_store(from: &Store, to: &Store, settings: &Settings) -> Result<(), Failure> {
    let mut shown = Instant::now();
    let progress = |now: Progress<'_>| {
        if shown.elapsed() >= report::PROGRESS_INTERVAL {
            shown = Instant::now();
            // If it cannot be shown, the end still is.
            let _ = writeln!(io::stderr(), "{}: {} rows …", now.table, now.rows);
        }
    };
    let moved = event_loop::run(from.move_to(to, &schemas(from), progress))
        .map_err(Failure::refused)?
        .map_err(|error| match error {
            StoreError::MoveUnfinished(why) => Failure::refused(format!(
                "Everything has been copied, but the move is not finished: {why}."
            ))
            .hint("Run the same command again, with both places: toolshed store move FROM TO"),
            error => Failure::refused(format!("Nothing was moved: {error}.")),
        })?;
    let (place, target) = (place_of(from), place_of(to));
    let mut said = match moved {
        Some(moved) => format!(
            "Moved {} rows in {} tables from {place} to {target}, and compared them.\n",
            moved.rows, moved.tables
        ),
        None => format!("Everything was in {target} already; the move is finished.\n"),
    };
    said += &match to.file() {
        Some(file) => {
            let folder = folder_of(file);
            let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            let key = application::login(settings).data.join(KEY_FILE);
            let copy = match key.exists() && !folder.join(KEY_FILE).exists() {
                true => format!(
                    "Copy {} there, too: without it, all browsers are logged out and second factors lost.\n",
                    key.display()
                ),
                false => String::new(),
            };
            format!(
                "Now set data to {}, unless it is that already, and remove the setting database.\n{copy}",
                folder.display()
            )
        }
        None => "Now set database to that URL.\n".to_owned(),
    };
    if from.file().is_some() {
        said += &format!("What was there is kept as {place}{MOVED_SUFFIX}.\n");
    }
    said += &blobs::remark(settings, |place| {
        format!("Blobs are not part of the store: they are still in {place}.\n")
    });
    report::print(&said)
}

/// Everything that this program keeps in its store.
pub(super) fn schemas(store: &Store) -> Vec<Schema> {
    site::schemas(store, tools::TABLE)
}

fn text(place: &str, statistics: &Statistics) -> String {
    let Statistics { bytes, free_bytes, schemas, other_tables } = statistics;
    let unused = match free_bytes {
        None | Some(0) => String::new(),
        Some(free) => format!(", of which {} are unused", size(*free)),
    };
    let mut rows = Vec::new();
    for schema in schemas {
        let tables = schema.tables.iter().map(|table| (table.name.clone(), table.rows.to_string()));
        // A schema without tables still has a line.
        let tables = tables.chain(schema.tables.is_empty().then(|| ("-".into(), "-".into())));
        let applied = applied(schema);
        rows.extend(
            tables.map(|(table, rows)| [schema.name.clone(), applied.clone(), table, rows]),
        );
    }
    let others = other_tables.iter();
    rows.extend(
        others.map(|table| ["-".into(), "-".into(), table.name.clone(), table.rows.to_string()]),
    );
    let table = report::table(["SCHEMA", "MIGRATIONS", "TABLE", "ROWS"], &rows);
    format!("{place}: {}{unused}\n\n{table}", size(*bytes))
}

fn applied(schema: &SchemaStatistics) -> String {
    match schema.known {
        Some(known) => format!("{} of {known}", schema.applied),
        None => format!("{}, unknown to this version", schema.applied),
    }
}
