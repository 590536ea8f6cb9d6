//! What the cases share.

pub(crate) use std::time::{Duration, Instant};

pub(crate) use event_loop::spawn;
pub(crate) use event_loop::time::{sleep, timeout};
pub(crate) use postgres_fixture::{Authority, PASSWORD, PASSWORD_IN_URL, Server, Shutdown};
use postgres_pool::tokio_postgres::SimpleQueryMessage;
pub(crate) use postgres_pool::{Pool, PoolError, PooledConnection, Settings};

/// Runs a case on a loop, within a time. No thread may be left.
pub(crate) fn run<F: Future>(case: F) {
    event_loop::run(async { drop(timeout(PATIENCE, case).await.expect("in time")) }).unwrap();
    assert_eq!(sys::threads::count().unwrap(), 1);
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn pool(url: &str) -> Pool {
    pool_with(url, |_| ())
}

pub(crate) fn pool_with(url: &str, change: impl FnOnce(&mut Settings)) -> Pool {
    let mut settings = Settings::from_url(url).unwrap();
    change(&mut settings);
    Pool::new(settings)
}

/// Returns the only value of the only row.
pub(crate) async fn value(connection: &PooledConnection, sql: &str) -> String {
    let rows = connection.simple_query(sql).await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap().get(0).unwrap().to_owned()
}

pub(crate) async fn process_of(connection: &PooledConnection) -> String {
    value(connection, "SELECT pg_backend_pid()").await
}

/// Returns why there is no connection. Neither form of the error contains the password.
pub(crate) async fn failure(pool: &Pool) -> PoolError {
    let failure = pool.connection().await.map(PooledConnection::release).unwrap_err();
    for text in [failure.to_string(), format!("{failure:?} {pool:?}")] {
        assert!(!text.contains(PASSWORD) && !text.contains(PASSWORD_IN_URL), "{text}");
    }
    let text = failure.to_string();
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    failure
}

/// Waits until the server says `expected`.
pub(crate) async fn until(server: &Server, sql: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let rows = server.psql(sql);
        if rows == expected {
            return;
        }
        assert!(start.elapsed() < milliseconds(10_000), "{sql}: {rows}, not {expected}");
        sleep(milliseconds(5)).await;
    }
}

/// How many connections of pools there are.
pub(crate) const CONNECTIONS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'toolshed'";

/// How many statements of pools are being executed.
pub(crate) const ACTIVE: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE application_name = 'toolshed' AND state = 'active'";
