//! Connections to PostgreSQL for a process with one thread and our event loop.
//!
//! [`Pool`] hands out connections, each of which is a [`tokio_postgres::Client`]: statements, transactions, streams of
//! rows, COPY. [`Settings`] has the URL and the limits, [`PoolError`] says why there is no connection.
//!
//! ```no_run
//! use postgres_pool::{Pool, Settings};
//!
//! # async fn handler() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(Settings::from_url("postgres://me@%2Fvar%2Frun%2Fpostgresql/mine")?);
//! let connection = pool.connection().await?;
//! let statement = connection.prepare_cached("SELECT name FROM people WHERE id = $1").await?;
//! let name: String = connection.query_one(&statement, &[&7i64]).await?.get(0);
//! connection.release();
//! # Ok(())
//! # }
//! ```
//!
//! * **No thread, and nothing blocks**: tokio-postgres runs on our streams and tasks, without tokio's runtime. Host names
//!   are looked up by a child process.
//! * **Everything ends**: attempts to connect, waits for a connection, statements, waits for locks, and transactions in
//!   which nothing happens have deadlines, all in [`Settings`]. What a vanished visitor has asked for is cancelled.
//! * **Memory is bounded**: rows arrive as they are taken (`query_raw`; `query` collects them all), each as a whole.
//!   Connections, callers that wait, and prepared statements are counted.
//! * **TLS is what was asked for, or an error.** By default the server has to prove its name.
//! * **The password** is in no message, no log line and no `Debug`.
//!
//! | file | subject |
//! | --- | --- |
//! | `pool.rs`, `connection.rs` | what callers hold |
//! | `shared.rs`, `back_off.rs` | who gets a connection, and when one is opened or closed |
//! | `connector.rs`, `endpoint.rs` | opening one: hosts, addresses, login, what went wrong |
//! | `tls.rs`, `certificate.rs` | which certificates are accepted; channel binding |
//! | `open.rs`, `wire.rs`, `statements.rs` | an open connection, its stream, and its prepared statements |
//! | `listener.rs`, `inbox.rs` | waiting for notifications |
//! | `settings.rs`, `url.rs` | the settings |
//! | `error.rs` | errors for owners |
//!
//! *Absent on purpose*: what is stored, retries of transactions, migrations; client certificates,
//! Kerberos, `.pgpass` and libpq's environment variables; pgbouncer, which refuses our options unless it is told of
//! them.
#![forbid(unsafe_code)]

mod back_off;
mod certificate;
mod connection;
mod connector;
mod endpoint;
mod error;
mod inbox;
mod listener;
mod open;
mod pool;
mod settings;
mod shared;
mod statements;
mod tls;
mod url;
mod wire;

pub use tokio_postgres;

pub use connection::PooledConnection;
pub use error::PoolError;
pub use listener::Listener;
pub use pool::Pool;
pub use settings::Settings;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
