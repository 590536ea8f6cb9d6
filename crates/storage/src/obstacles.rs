//! What would keep the transactions of a program from working, found without changing anything.

use crate::error::StoreError;
use crate::migrations::{self, Schema};
use crate::postgres::rights;
use crate::transaction::Snapshot;

/// Fails as the first transaction of a program with these schemas would, on a database server.
pub(crate) async fn look(store: &Snapshot<'_>, known: &[Schema]) -> Result<(), StoreError> {
    let mut are_all_there = store.has_table(migrations::TABLE_NAME).await?;
    if are_all_there {
        migrations::refuse_moved(store).await?;
        for schema in known {
            are_all_there &= schema.are_applied(store).await?.is_some();
        }
    }
    rights::examine(store, known, are_all_there).await
}
