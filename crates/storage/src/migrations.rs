//! The tables of the site, of each tool, of an app: each is a [`Schema`], a series of migrations.
//!
//! The store's table `migrations` lists what was applied. A migration that has shipped is never changed: its checksum
//! is compared. Several versions of a program may use one store at the same time, on several machines or during an
//! upgrade: first a migration that *expands* (adds a column or a table, which older programs do not notice) ships;
//! once no older program is left, one that *contracts* (removes or renames) may follow, and older programs refuse
//! the store from then on.

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use crate::error::StoreError;
use crate::params;
use crate::session::Dialect;
use crate::transaction::{Snapshot, Transaction};

/// One step from one version of a schema to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    sqlite: &'static str,
    postgres: &'static str,
    expands: bool,
}

impl Migration {
    /// Statements that older programs do not notice: `CREATE TABLE`, `CREATE INDEX`, `ADD COLUMN` with a default.
    /// They go on using the store.
    pub const fn expand(sql: &'static str) -> Self {
        Migration { sqlite: sql, postgres: sql, expands: true }
    }

    /// Statements after which older programs cannot use the tables: they refuse the store.
    pub const fn contract(sql: &'static str) -> Self {
        Migration { sqlite: sql, postgres: sql, expands: false }
    }

    /// Says it in PostgreSQL's own words, where no statement means the same to both.
    pub const fn on_postgres(self, sql: &'static str) -> Self {
        Migration { postgres: sql, ..self }
    }

    fn sql(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }

    fn checksum(&self, dialect: Dialect) -> String {
        HEXLOWER.encode(digest(&SHA256, self.sql(dialect).as_bytes()).as_ref())
    }
}

/// The tables of one part of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name, unique in a store: `site`, or a tool's name.
    pub name: &'static str,
    /// What makes it, in order. One that has shipped stays as it is; new ones are appended.
    pub migrations: &'static [Migration],
}

/// The name of the table of what was applied.
pub(crate) const TABLE_NAME: &str = "migrations";

/// The table of what was applied. `oldest` is how many migrations a program has to know to use the tables.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
         schema TEXT NOT NULL,
         number BIGINT NOT NULL,
         checksum TEXT NOT NULL,
         oldest BIGINT NOT NULL,
         applied_at BIGINT NOT NULL,
         PRIMARY KEY (schema, number)
     )";

/// The tables that belong to no schema of a program: they stay where they are when a store is moved.
pub(crate) const ENGINE_TABLES: [&str; 3] = [TABLE_NAME, "commits", "wake_ups"];

/// The schema among them.
pub(crate) const ENGINE_SCHEMA: &str = "commits";

/// What stands in that table, in the place of a schema, while a store is the target of a move and its source is still in
/// use; and in the source, once it has moved. No tool has such a name.
pub(crate) const UNFINISHED: &str = "(unfinished)";
pub(crate) const MOVED: &str = "(moved)";

/// A row of it: the checksum, and `oldest`.
type Applied = (String, i64);

/// Schemas that are known to be applied, and the version of the tables at which that was so: a number that is another one
/// as soon as somebody else may have changed them. What is counted is up to the engine.
#[derive(Debug, Default)]
pub(crate) struct KnownSchemas(Vec<(Schema, i64)>);

impl KnownSchemas {
    pub(crate) fn version_of(&self, schema: Schema) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known == schema).map(|(_, version)| *version)
    }

    pub(crate) fn add(&mut self, schema: Schema, version: i64) {
        self.0.retain(|(known, _)| *known != schema);
        self.0.push((schema, version));
    }

    /// Returns whether the tables of a schema may have changed since they were known. Then nothing is known any more.
    pub(crate) fn have_changed(&mut self, schema: Option<Schema>, version: i64) -> bool {
        let known = schema.and_then(|schema| self.version_of(schema));
        let have_changed = known.is_some_and(|known| known != version);
        if have_changed {
            self.clear();
        }
        have_changed
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A schema, and the tables that its migrations make.
pub(crate) struct Expected {
    pub(crate) schema: Schema,
    pub(crate) tables: Vec<String>,
}

impl Expected {
    /// Returns whether all migrations were applied. `earlier`: how many were before there was a table of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`], [`StoreError::Altered`]; [`StoreError::MissingTable`] and [`StoreError::ForeignTable`] if the
    /// tables that are `present` are not those that were made.
    pub(crate) async fn examine(
        &self,
        store: &Snapshot<'_>,
        present: &[String],
        earlier: usize,
    ) -> Result<bool, StoreError> {
        let applied = self.schema.applied(store).await?.len().max(earlier);
        let are_applied = applied >= self.schema.migrations.len();
        let find = |is_there| self.tables.iter().find(|name| present.contains(name) == is_there);
        match (applied, find(true), find(false)) {
            (0, Some(taken), _) => Err(StoreError::ForeignTable(taken.clone())),
            (_, _, Some(missing)) if are_applied => Err(StoreError::MissingTable(missing.clone())),
            _ => Ok(are_applied),
        }
    }
}

impl Schema {
    /// Returns by how many rows it is recognized, if all are applied.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] and [`StoreError::Altered`].
    pub(crate) async fn are_applied(
        &self,
        store: &Snapshot<'_>,
    ) -> Result<Option<i64>, StoreError> {
        let applied = self.applied(store).await?.len();
        Ok((applied >= self.migrations.len()).then_some(applied as i64))
    }

    /// Counts the rows by which it is recognized.
    pub(crate) async fn rows(&self, store: &Snapshot<'_>) -> Result<i64, StoreError> {
        let count = "SELECT count(*) FROM migrations WHERE schema IN ($1, $2, $3)";
        store.query_one(count, params![self.name, MOVED, UNFINISHED]).await.map_err(foreign)
    }

    /// Applies those that are missing. In a store from the time before the table of migrations, the first `earlier`
    /// ones are there already.
    ///
    /// # Errors
    ///
    /// If one fails; [`StoreError::Newer`] and [`StoreError::Altered`].
    pub(crate) async fn apply(
        &self,
        store: &Transaction<'_>,
        earlier: usize,
        now: i64,
    ) -> Result<(), StoreError> {
        store.run(TABLE).await?;
        let applied = self.applied(store).await?.len();
        let earlier = if applied == 0 { earlier } else { 0 };
        for index in applied..self.migrations.len() {
            if index >= earlier {
                store.run(self.migrations[index].sql(store.dialect())).await?;
            }
            self.record(store, index, now).await?;
        }
        Ok(())
    }

    /// Returns how many migrations a program has to know to use the tables.
    pub(crate) fn oldest(&self) -> usize {
        oldest(self.migrations)
    }

    async fn record(
        &self,
        store: &Transaction<'_>,
        index: usize,
        now: i64,
    ) -> Result<(), StoreError> {
        let oldest = oldest(&self.migrations[..=index]) as i64;
        let checksum = self.migrations[index].checksum(store.dialect());
        store
            .execute(
                "INSERT INTO migrations (schema, number, checksum, oldest, applied_at)
                     VALUES ($1, $2, $3, $4, $5)",
                params![self.name, index as i64 + 1, checksum, oldest, now],
            )
            .await?;
        Ok(())
    }

    /// Returns what was applied, once it is certain that this program can use it.
    async fn applied(&self, store: &Snapshot<'_>) -> Result<Vec<Applied>, StoreError> {
        let rows: Vec<(String, String, i64)> = store
            .query(
                "SELECT schema, checksum, oldest FROM migrations WHERE schema IN ($1, $2, $3)
                     ORDER BY number",
                params![self.name, MOVED, UNFINISHED],
            )
            .await
            .map_err(foreign)?;
        let mut applied = Vec::new();
        for (schema, checksum, oldest) in rows {
            refuse_mark(&schema)?;
            applied.push((checksum, oldest));
        }
        let known = self.migrations.len() as i64;
        if applied.last().is_some_and(|(_, oldest)| *oldest > known) {
            let (schema, found) = (self.name.to_owned(), applied.len() as i64);
            return Err(StoreError::Newer { schema, found, known });
        }
        let is_other = |((checksum, _), known): (&Applied, &Migration)| {
            *checksum != known.checksum(store.dialect())
        };
        if let Some(at) = applied.iter().zip(self.migrations).position(is_other) {
            return Err(StoreError::Altered {
                schema: self.name.to_owned(),
                number: at as i64 + 1,
            });
        }
        Ok(applied)
    }
}

/// Refuses a store that is not in use: the source of a move after it, or the target during it.
///
/// # Errors
///
/// [`StoreError::Moved`] and [`StoreError::Unfinished`].
pub(crate) async fn refuse_moved(store: &Snapshot<'_>) -> Result<(), StoreError> {
    let marks = "SELECT schema FROM migrations WHERE schema IN ($1, $2)";
    let marks: Vec<String> =
        store.query(marks, params![MOVED, UNFINISHED]).await.map_err(foreign)?;
    marks.iter().try_for_each(|mark| refuse_mark(mark))
}

/// Returns the names of the schemas that a store has, and the marks on it.
pub(crate) async fn names(store: &Snapshot<'_>) -> Result<Vec<String>, StoreError> {
    let names = "SELECT schema FROM migrations WHERE number = 1";
    store.query(names, &[]).await.map_err(foreign)
}

/// What an error of our own statements means: they do not fit a table that another program has made.
fn foreign(error: StoreError) -> StoreError {
    let is_foreign = error.is_mistake() && !error.is_about_tables();
    if is_foreign { StoreError::ForeignTable(TABLE_NAME.to_owned()) } else { error }
}

fn refuse_mark(schema: &str) -> Result<(), StoreError> {
    match schema {
        MOVED => Err(StoreError::Moved),
        UNFINISHED => Err(StoreError::Unfinished),
        _ => Ok(()),
    }
}

fn oldest(migrations: &[Migration]) -> usize {
    migrations.iter().rposition(|migration| !migration.expands).map_or(0, |index| index + 1)
}
