//! `toolshed store`: where the store is, how large, and what is in it.

use site::LoginSettings;
use site::storage::{Rows, Schema, SchemaStatistics, Statistics, Store, Trust};

use super::valid_settings;
use crate::application;
use crate::config::CommandLine;
use crate::flags::StoreCommand;
use crate::report::{self, Failure};

pub(crate) fn run(
    command_line: &CommandLine,
    command: Option<&StoreCommand>,
) -> Result<(), Failure> {
    let configuration = valid_settings(command_line)?;
    let login = application::login(&configuration.settings);
    let store = LoginSettings { trust: Trust::of_command(), ..login }.store();
    let place = store.file().map_or("PostgreSQL".to_owned(), |file| file.display().to_string());
    if !store.exists() {
        return Err(Failure::refused(format!("There is no store yet: {place} does not exist."))
            .hint(
                "The site creates it when it first stores something; set data if it is elsewhere.",
            ));
    }
    match command {
        None => show(&store, &place),
        Some(StoreCommand::Check) => check(&store, &place),
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
    report::print(&format!("{place} is intact.\n"))
}

/// Everything that this program keeps in its store.
pub(super) fn schemas(store: &Store) -> Vec<Schema> {
    let of_tools = tools::TABLE.iter().map(site::Tool::schema);
    std::iter::once(store.schema()).chain(of_tools).collect()
}

fn text(place: &str, statistics: &Statistics) -> String {
    let Statistics { bytes, free_bytes, schemas, other_tables } = statistics;
    let unused = match free_bytes {
        None | Some(0) => String::new(),
        Some(free) => format!(", of which {} are unused", size(*free)),
    };
    let mut rows = Vec::new();
    for schema in schemas {
        let tables = schema.tables.iter().map(|table| (table.name.clone(), count(table.rows)));
        // A schema without tables still has a line.
        let tables = tables.chain(schema.tables.is_empty().then(|| ("-".into(), "-".into())));
        let applied = applied(schema);
        rows.extend(
            tables.map(|(table, rows)| [schema.name.clone(), applied.clone(), table, rows]),
        );
    }
    let others = other_tables.iter();
    rows.extend(
        others.map(|table| ["-".into(), "-".into(), table.name.clone(), count(table.rows)]),
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

fn count(rows: Rows) -> String {
    match rows {
        Rows::Exactly(rows) => rows.to_string(),
        Rows::Many => format!("more than {}", Rows::MAX_COUNTED),
    }
}

fn size(bytes: u64) -> String {
    match bytes.div_ceil(1024) {
        kib @ ..10_240 => format!("{kib} KiB"),
        kib => format!("{} MiB", kib.div_ceil(1024)),
    }
}
