//! Everything that can be awaited is `Send`, so that handlers that hold it across an await are, as axum requires. The
//! compiler checks this file; there is nothing to run.

use postgres_pool::{Pool, PoolError, PooledConnection, Settings};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn value_is_send(_: impl Send) {}

#[test]
fn handles_and_their_futures_are_send() {
    is_send::<Pool>();
    is_sync::<Pool>();
    is_send::<PooledConnection>();
    is_sync::<PooledConnection>();
    is_send::<PoolError>();
    let settings = Settings::from_url("postgres://nobody@localhost").unwrap();
    let pool = Pool::new(settings);
    value_is_send(async move {
        let mut connection = pool.connection().await?;
        let statement = connection.prepare_cached("SELECT $1::bigint").await?;
        connection.query(&statement, &[&1i64]).await?;
        let transaction = connection.transaction().await?;
        let rows = transaction.query_raw("SELECT 1", [0i64; 0]).await?;
        transaction.commit().await?;
        drop(rows);
        connection.release();
        Ok::<(), Box<dyn std::error::Error>>(())
    });
}
