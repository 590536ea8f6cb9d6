//! Handlers of axum's have to be `Send`, so what they await has to be.

use storage::{Schema, Snapshot, Store, StoreError, Transaction, Trust, params};

fn is_send<T: Send>(value: T) -> T {
    value
}

async fn count(store: &Snapshot<'_>, name: &str) -> Result<i64, StoreError> {
    store.query_one("SELECT count(*) FROM t WHERE name = $1", params![name]).await
}

async fn add(store: &Transaction<'_>, name: &str) -> Result<u64, StoreError> {
    store.execute("INSERT INTO t (name) VALUES ($1)", params![name]).await
}

#[test]
fn a_handler_that_reads_and_writes_is_send() {
    let store =
        Store::in_file("/nowhere", Trust::OwnAccount, Schema { name: "t", migrations: &[] });
    let name = String::from("a");
    let handler = async move {
        let before = store.read(async |store| count(store, &name).await).await?;
        store.write(async |store| add(store, &name).await).await?;
        Ok::<i64, StoreError>(before)
    };
    drop(is_send(handler));
}
