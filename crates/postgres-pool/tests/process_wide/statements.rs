//! Statements that take too long, that nobody waits for any longer, that are prepared, and that return much.

use std::pin::pin;

use futures_util::TryStreamExt;
use postgres_pool::tokio_postgres::Error;
use postgres_pool::tokio_postgres::error::SqlState;

use super::common::*;

pub(crate) fn slow_statements_end() {
    let server = Server::start();
    server.psql("CREATE TABLE t (x int)");
    run(async {
        let pool = pool_with(&server.url(), |settings| {
            settings.statement_timeout = milliseconds(400);
            settings.lock_timeout = milliseconds(100);
            settings.idle_in_transaction_timeout = milliseconds(200);
        });
        let connection = pool.connection().await.unwrap();
        let error = connection.query("SELECT pg_sleep(100)", &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));

        let mut holder = pool.connection().await.unwrap();
        let transaction = holder.transaction().await.unwrap();
        transaction.execute("LOCK TABLE t", &[]).await.unwrap();
        let error = connection.query("SELECT * FROM t", &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
        // Whoever holds the lock and does nothing loses it.
        sleep(milliseconds(200)).await;
        connection.query("SELECT * FROM t", &[]).await.unwrap();
        transaction.commit().await.unwrap_err();
    });
}

pub(crate) fn dropped_statements_are_cancelled() {
    let server = Server::start();
    run(async {
        let pool = pool_with(&server.url(), |settings| settings.max = 1);
        for sql in [
            "SELECT pg_sleep(100)",
            // Returns rows while it is executed.
            "SELECT repeat('x', 1000) FROM generate_series(1, 100000000)",
            // Inside a transaction.
            "BEGIN; CREATE TABLE t (x int); SELECT pg_sleep(100)",
        ] {
            let visit = spawn({
                let pool = pool.clone();
                async move {
                    let connection = pool.connection().await.unwrap();
                    let rows = connection.simple_query_raw(sql).await.unwrap();
                    pin!(rows).try_for_each(|_| sleep_for(milliseconds(1))).await.unwrap();
                }
            });
            until(&server, ACTIVE, "1").await;
            let start = Instant::now();
            drop(visit);
            // The only connection there may be is closed by then.
            let connection = pool.connection().await.unwrap();
            assert_eq!(value(&connection, ACTIVE).await, "1", "{sql}");
            assert_eq!(value(&connection, CONNECTIONS).await, "1", "{sql}");
            assert!(start.elapsed() < milliseconds(2000), "{sql}: {:?}", start.elapsed());
            connection.release();
        }
        assert!(server.log().contains("canceling statement due to user request"));
    });
}

async fn sleep_for(duration: Duration) -> Result<(), Error> {
    sleep(duration).await;
    Ok(())
}

pub(crate) fn dropped_transactions_are_rolled_back() {
    let server = Server::start();
    server.psql("CREATE TABLE t (x int)");
    run(async {
        let pool = pool(&server.url());
        let visit = spawn({
            let pool = pool.clone();
            async move {
                let mut connection = pool.connection().await.unwrap();
                let transaction = connection.transaction().await.unwrap();
                transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
                transaction.execute("LOCK TABLE t", &[]).await.unwrap();
                sleep(PATIENCE).await;
            }
        });
        until(&server, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'", "1")
            .await;
        drop(visit);
        let connection = pool.connection().await.unwrap();
        assert_eq!(value(&connection, "SELECT count(*) FROM t").await, "0");
    });
}

pub(crate) fn prepared_statements_are_kept() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let connection = pool.connection().await.unwrap();
        let known = "SELECT count(*) FROM pg_prepared_statements";
        for number in 0..150 {
            let sql = format!("SELECT {}::bigint + $1::bigint", number % 120);
            let statement = connection.prepare_cached(&sql).await.unwrap();
            let row = connection.query_one(&statement, &[&1i64]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), number % 120 + 1);
            let count: i64 = value(&connection, known).await.parse().unwrap();
            assert_eq!(count, (number + 1).min(100));
        }
        let process = process_of(&connection).await;
        connection.release();
        // Preparing it again would be another parse.
        let connection = pool.connection().await.unwrap();
        assert_eq!(process_of(&connection).await, process);
        let statement = connection.prepare_cached("SELECT 29::bigint + $1::bigint").await.unwrap();
        let again = connection.prepare_cached("SELECT 29::bigint + $1::bigint").await.unwrap();
        assert_eq!(format!("{statement:?}"), format!("{again:?}"));
        assert_eq!(value(&connection, known).await, "100");
        connection.prepare_cached("SELECT nonsense").await.unwrap_err();
    });
}

/// 200 MB pass through, and a caller that is slower than the server makes it wait.
pub(crate) fn rows_are_streamed() {
    let server = Server::start();
    run(async {
        let connection = pool(&server.url()).connection().await.unwrap();
        let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)";
        let before = resident_kilobytes();
        let mut rows = pin!(connection.query_raw(sql, [0i64; 0]).await.unwrap());
        let (mut count, mut max) = (0, 0);
        while let Some(row) = rows.try_next().await.unwrap() {
            assert_eq!(row.get::<_, &str>(0).len(), 1000);
            count += 1;
            if count % 20_000 == 1 {
                sleep(milliseconds(20)).await;
                max = max.max(resident_kilobytes());
            }
        }
        assert_eq!(count, 200_000);
        assert!(max < before + 8_000, "{before} kB before, {max} kB at most");
    });
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
