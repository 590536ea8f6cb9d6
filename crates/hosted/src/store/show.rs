//! `store` and `store check`: where the store is, how large, what is in it, and whether it is intact.

use storage::{SchemaStatistics, Statistics};

use super::{Keeps, Kept, place_of};
use crate::report::{self, Failure};

impl<A: Keeps> Kept<'_, A> {
    pub(super) fn show(&self) -> Result<(), Failure> {
        let place = self.place_of_some()?;
        let statistics = event_loop::run(self.store.statistics(&self.app.schemas(&self.store)))
            .map_err(Failure::refused)?
            .map_err(|error| Failure::refused(format!("Cannot look into {place}: {error}.")))?;
        report::print(&text(&place, &statistics))
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        let place = self.place_of_some()?;
        event_loop::run(self.store.check())
            .map_err(Failure::refused)?
            .map_err(|error| Failure::refused(format!("{place} did not pass: {error}.")))?;
        report::print(&match self.store.file() {
            Some(_) => format!("{place} is intact.\n"),
            None => format!("{place} responds. Whether its files are intact, pg_amcheck says.\n"),
        })
    }

    /// Returns where the store is, if there is one.
    fn place_of_some(&self) -> Result<String, Failure> {
        let place = place_of(&self.store);
        if self.store.exists() {
            return Ok(place);
        }
        Err(Failure::refused(format!("There is no store yet: {place} does not exist.")).hint(
            "The site creates it when it first stores something; set data if it is elsewhere.",
        ))
    }
}

fn text(place: &str, statistics: &Statistics) -> String {
    let Statistics { bytes, free_bytes, schemas, other_tables } = statistics;
    let unused = match free_bytes {
        None | Some(0) => String::new(),
        Some(free) => format!(", of which {} are unused", report::size(*free)),
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
    format!("{place}: {}{unused}\n\n{table}", report::size(*bytes))
}

fn applied(schema: &SchemaStatistics) -> String {
    match schema.known {
        Some(known) => format!("{} of {known}", schema.applied),
        None => format!("{}, unknown to this version", schema.applied),
    }
}
