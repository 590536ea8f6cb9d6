//! What would keep the transactions of a program from working, found without changing anything.

use crate::error::StoreError;
use crate::migrations::{self, Expected};
use crate::postgres::rights;
use crate::transaction::Snapshot;

/// Fails as the first transaction of a program with these schemas would, on a database server.
pub(crate) async fn look(store: &Snapshot<'_>, known: &[Expected]) -> Result<(), StoreError> {
    let mut are_all_there = store.has_table(migrations::TABLE_NAME).await?;
    let present: Vec<String> = store.query(store.dialect().tables(), &[]).await?;
    if are_all_there {
        migrations::refuse_moved(store).await?;
        for schema in known {
            are_all_there &= schema.examine(store, &present, 0).await?;
        }
    } else {
        let mut ours = known.iter().flat_map(|schema| &schema.tables);
        if let Some(taken) = ours.find(|name| present.contains(name)) {
            return Err(StoreError::ForeignTable(taken.clone()));
        }
    }
    rights::examine(store, known, are_all_there).await
}
