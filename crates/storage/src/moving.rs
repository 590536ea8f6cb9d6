//! Moves a whole store to another place: from a file to a database or back.
//!
//! - **The source does not change meanwhile**: it is locked against writes, which fail with an error after a while;
//!   reads go on. When all is done, it is retired: programs that still use it refuse, and say that it has moved.
//! - **The target is whole or not there**: a file gets its name, and a transaction of the database is committed, when
//!   everything has been read back and compared. Until the source is retired, programs refuse the target as well, so
//!   that at no moment both are in use.
//! - Killed at any moment and started again, it starts over, or does what is left.
//! - Of several at once, one moves a store, and one to a place.
//!
//! Tables are created by the migrations of their schemas, in the target's dialect, and rows are copied as values, some
//! at a time in the order of the primary key. What the program does not know is refused, not left behind. The two
//! sides are in `moving/side.rs`; how a table is copied and summed is in `moving/table.rs`.

mod side;
mod table;

use atomic_file::{FileIdentity, folder_of};

use crate::error::StoreError;
use crate::migrations::{self, MOVED, Schema, UNFINISHED};
use crate::tables::tables_of;
use crate::transaction::{Snapshot, Transaction};
use crate::{Engine, Store, params};
use side::{Held, Side};

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many tables.
    pub tables: usize,
    /// How many rows are in them.
    pub rows: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The table that is being copied.
    pub table: &'a str,
    /// How many of its rows were copied.
    pub rows: u64,
}

/// Which part of a move a store has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    InUse,
    Unfinished,
    Moved,
}

/// Moves everything from one store to another. `None` if that had been done, except for its end.
pub(crate) async fn move_store(
    from: &Store,
    to: &Store,
    known: &[Schema],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<Moved>, StoreError> {
    // Before its folder would be made.
    if !from.exists() {
        return Err(StoreError::NothingToMove);
    }
    let is_same = is_same(from, to).await?;
    let _nobody_else = match is_same || are_in_one_folder(from, to) {
        true => vec![Held::on(&from.engine).await?],
        false => vec![Held::on(&from.engine).await?, Held::on(&to.engine).await?],
    };
    match (state(from).await?, state(to).await?) {
        (State::Moved, State::Unfinished) => return finish(to).await.map(|()| None),
        (State::Empty, _) => return Err(StoreError::NothingToMove),
        (State::Unfinished, _) => return Err(StoreError::Unfinished),
        (State::Moved, _) => return Err(StoreError::Moved),
        (State::InUse, State::InUse) if is_same => return Err(StoreError::SamePlace),
        (State::InUse, State::InUse) => return Err(StoreError::NotEmpty),
        (State::InUse, _) => {}
    }
    let schemas = bring_up_to_date(from, known).await?;
    let tables = tables_of_all(&schemas)?;
    let source = Side::locked(&from.engine, &tables).await?;
    // Where folders have no locks, only this one keeps others from moving it.
    migrations::refuse_moved(&Snapshot::new(source.session())).await?;
    refuse_unknown(&source, known, &tables).await?;
    let target = Side::draft(&to.engine, &schemas, known).await?;
    let mut moved = Moved { tables: tables.len(), rows: 0 };
    for name in tables {
        let copied = table::copy(&source, &target, &name, progress).await;
        moved.rows += copied.map_err(|error| match error {
            StoreError::Sql(error) => {
                StoreError::NotMovable { table: name, why: error.to_string() }
            }
            error => error,
        })?;
    }
    mark(&target, UNFINISHED).await?;
    target.publish(&to.engine).await?;
    let unfinished = |error| StoreError::MoveUnfinished(Box::new(error));
    source.retire(&from.engine).await.map_err(unfinished)?;
    finish(to).await.map_err(unfinished)?;
    Ok(Some(moved))
}

/// Whether two stores are one, however their places are written. Of two files, their caller knows.
async fn is_same(one: &Store, other: &Store) -> Result<bool, StoreError> {
    match (&*one.engine, &*other.engine) {
        (Engine::Postgres(one), Engine::Postgres(other)) => one.is_same(other).await,
        _ => Ok(false),
    }
}

fn are_in_one_folder(one: &Store, other: &Store) -> bool {
    let folder = |store: &Store| store.file().and_then(|file| FileIdentity::of(folder_of(file)));
    folder(one).is_some_and(|one| folder(other) == Some(one))
}

async fn state(store: &Store) -> Result<State, StoreError> {
    if !store.exists() {
        return Ok(State::Empty);
    }
    let look = async |store: &Snapshot<'_>| {
        if !store.has_table(migrations::TABLE_NAME).await? {
            return Ok(State::Empty);
        }
        let schemas = migrations::names(store).await?;
        let has = |schema: &str| schemas.iter().any(|found| found == schema);
        Ok(match () {
            () if has(MOVED) => State::Moved,
            () if has(UNFINISHED) => State::Unfinished,
            () if schemas.is_empty() => State::Empty,
            () => State::InUse,
        })
    };
    store.read_any(look).await
}

/// Returns the schemas that are in a store, with all migrations applied.
async fn bring_up_to_date(store: &Store, known: &[Schema]) -> Result<Vec<Schema>, StoreError> {
    let names = store.read_any(migrations::names).await?;
    let present = known.iter().filter(|schema| names.iter().any(|name| name == schema.name));
    let present: Vec<Schema> = present.copied().collect();
    for &schema in &present {
        store.with_schema(schema).read(async |_| Ok(())).await?;
    }
    Ok(present)
}

/// Returns the tables to copy, in an order in which each may refer to those before it.
fn tables_of_all(schemas: &[Schema]) -> Result<Vec<String>, StoreError> {
    let tables = schemas.iter().map(|&schema| tables_of(schema));
    Ok(tables.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Refuses a store in which there is something of ours that is not copied. What is only beside it, other programs have made:
/// it stays where it is.
async fn refuse_unknown(
    source: &Side,
    known: &[Schema],
    tables: &[String],
) -> Result<(), StoreError> {
    let snapshot = Snapshot::new(source.session());
    let names = migrations::names(&snapshot).await?;
    let is_known = |name: &String| {
        name == migrations::ENGINE_SCHEMA || known.iter().any(|schema| schema.name == name)
    };
    if names.iter().all(is_known) {
        return Ok(());
    }
    let mut others: Vec<String> = snapshot.query(snapshot.dialect().tables(), &[]).await?;
    others.retain(|name| {
        !migrations::ENGINE_TABLES.contains(&name.as_str()) && !tables.contains(name)
    });
    Err(StoreError::UnknownTables(others))
}

/// Writes down which part of a move a store is.
async fn mark(store: &Side, what: &str) -> Result<(), StoreError> {
    let transaction = Transaction::new(store.session());
    let mark = "INSERT INTO migrations (schema, number, checksum, oldest, applied_at)
                    VALUES ($1, 1, '', 0, 0)";
    transaction.execute(mark, params![what]).await.map(drop)
}

/// Lets programs use the target.
async fn finish(to: &Store) -> Result<(), StoreError> {
    let finish = "DELETE FROM migrations WHERE schema = $1";
    to.write_any(async |store| store.execute(finish, params![UNFINISHED]).await).await.map(drop)
}
