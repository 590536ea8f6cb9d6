//! What the user of the server may do.

use crate::error::StoreError;
use crate::migrations::{self, Expected};
use crate::params;
use crate::transaction::Snapshot;

/// Fails if something is missing that transactions need: to change the rows of these schemas' tables and, unless all tables
/// are there, to make them.
pub(crate) async fn examine(
    store: &Snapshot<'_>,
    known: &[Expected],
    are_all_there: bool,
) -> Result<(), StoreError> {
    let only_reads =
        "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'";
    if store.query_one(only_reads, &[]).await? {
        return Err(StoreError::ReadOnly);
    }
    // NULL if none of those in search_path is there, or may be used.
    if !store.query_one("SELECT current_schema() IS NOT NULL", &[]).await? {
        let what = "use any schema of its search_path".to_owned();
        return Err(StoreError::MissingRight(what));
    }
    let may_make = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), FALSE)";
    if !are_all_there && !store.query_one(may_make, &[]).await? {
        return Err(StoreError::MissingRight("create tables in the database".to_owned()));
    }
    let mut own = migrations::ENGINE_TABLES.map(str::to_owned).to_vec();
    own.extend(known.iter().flat_map(|schema| schema.tables.clone()));
    // Whoever makes no tables need not write down that they were made.
    own.retain(|name| !are_all_there || name != migrations::TABLE_NAME);
    let closed = tables_without(store, &["SELECT", "INSERT", "UPDATE", "DELETE"]).await?;
    match closed.into_iter().find(|name| own.contains(name)) {
        Some(name) => {
            Err(StoreError::MissingRight(format!("read and change all of the table {name}")))
        }
        None => Ok(()),
    }
}

/// Fails if the user may not do what the end of a move does, when all has been copied.
pub(crate) async fn examine_retirement(store: &Snapshot<'_>) -> Result<(), StoreError> {
    let of_others = "SELECT count(*) FROM pg_class
                         WHERE oid IN (to_regclass('commits'), to_regclass('migrations'))
                         AND NOT pg_has_role(relowner, 'USAGE')";
    match store.query_one::<i64>(of_others, &[]).await? {
        0 => Ok(()),
        _ => Err(StoreError::MissingRight("retire the store when all is copied".to_owned())),
    }
}

/// Returns the names of the tables for which the user lacks one of these rights.
pub(crate) async fn tables_without(
    store: &Snapshot<'_>,
    rights: &[&str],
) -> Result<Vec<String>, StoreError> {
    let mut found: Vec<String> = Vec::new();
    for right in rights {
        let tables =
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                          WHERE nspname = current_schema() AND relkind IN ('r', 'p')
                          AND NOT has_table_privilege(pg_class.oid, $1)";
        found.extend(store.query::<String>(tables, params![*right]).await?);
    }
    Ok(found)
}
