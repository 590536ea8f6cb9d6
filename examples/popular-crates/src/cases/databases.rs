//! Databases, and what is put between them and a handler.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use redis::AsyncCommands;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement};

use crate::case::{Answer, MadeRouter, Problem, handler, made, server};

const SUM: &str = "SELECT 40 + 2 AS sum";

pub(crate) fn rusqlite() -> MadeRouter {
    handler(async || -> Answer {
        let connection = rusqlite::Connection::open_in_memory()?;
        let sum: i64 = connection.query_row(SUM, [], |row| row.get(0))?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn tokio_rusqlite() -> MadeRouter {
    handler(async || -> Answer {
        let connection = tokio_rusqlite::Connection::open_in_memory().await?;
        let sum: i64 = connection
            .call(|connection| connection.query_row(SUM, [], |row| row.get(0)))
            .await?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn r2d2() -> MadeRouter {
    made(async {
        let manager = r2d2_sqlite::SqliteConnectionManager::memory();
        let builder = r2d2::Pool::builder().max_size(2);
        let pool = builder.connection_timeout(std::time::Duration::from_secs(3)).build(manager)?;
        let page = get(async |State(pool): State<r2d2::Pool<_>>| -> Answer {
            let connection: r2d2::PooledConnection<r2d2_sqlite::SqliteConnectionManager> =
                pool.get()?;
            let sum: i64 = connection.query_row(SUM, [], |row| row.get(0))?;
            Ok(format!("sum {sum}"))
        });
        Ok(Router::new().route("/", page).with_state(pool))
    })
}

pub(crate) fn sqlx_sqlite() -> MadeRouter {
    made(async {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
        let page = get(async |State(pool): State<sqlx::SqlitePool>| -> Answer {
            let sum: i64 = sqlx::query_scalar(SUM).fetch_one(&pool).await?;
            Ok(format!("sum {sum}"))
        });
        Ok(Router::new().route("/", page).with_state(pool))
    })
}

pub(crate) fn sqlx_postgres() -> MadeRouter {
    made(async {
        let pool = sqlx::PgPool::connect(&server("TRY_POSTGRES")?).await?;
        let page = get(async |State(pool): State<sqlx::PgPool>| -> Answer {
            let sum: i32 = sqlx::query_scalar(SUM).fetch_one(&pool).await?;
            Ok(format!("sum {sum}"))
        });
        Ok(Router::new().route("/", page).with_state(pool))
    })
}

async fn sea_orm(url: String) -> Result<Router, Problem> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2).sqlx_logging(false);
    let database = Database::connect(options).await?;
    let page = get(async |State(database): State<sea_orm::DatabaseConnection>| -> Answer {
        let statement = Statement::from_string(database.get_database_backend(), SUM);
        let row = database.query_one_raw(statement).await?.ok_or("there is no row")?;
        let sum: i32 = row.try_get("", "sum")?;
        Ok(format!("sum {sum}"))
    });
    Ok(Router::new().route("/", page).with_state(database))
}

pub(crate) fn sea_orm_sqlite() -> MadeRouter {
    made(sea_orm("sqlite::memory:".to_owned()))
}

pub(crate) fn sea_orm_postgres() -> MadeRouter {
    made(async { sea_orm(server("TRY_POSTGRES")?).await })
}

pub(crate) fn diesel_sqlite() -> MadeRouter {
    handler(async || -> Answer {
        let mut connection = SqliteConnection::establish(":memory:")?;
        let sum = diesel::select(40.into_sql::<diesel::sql_types::Integer>() + 2);
        let sum: i32 = diesel::RunQueryDsl::get_result(sum, &mut connection)?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn diesel_async() -> MadeRouter {
    handler(async || -> Answer {
        let mut connection = AsyncPgConnection::establish(&server("TRY_POSTGRES")?).await?;
        let sum = diesel::select(40.into_sql::<diesel::sql_types::Integer>() + 2);
        let sum: i32 = diesel_async::RunQueryDsl::get_result(sum, &mut connection).await?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn tokio_postgres() -> MadeRouter {
    handler(async || -> Answer {
        let url = server("TRY_POSTGRES")?;
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let sum: i32 = client.query_one(SUM, &[]).await?.get(0);
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn deadpool_postgres() -> MadeRouter {
    made(async {
        let mut config = deadpool_postgres::Config::new();
        config.url = Some(server("TRY_POSTGRES")?);
        let runtime = Some(deadpool_postgres::Runtime::Tokio1);
        let pool = config.create_pool(runtime, tokio_postgres::NoTls)?;
        let page = get(async |State(pool): State<deadpool_postgres::Pool>| -> Answer {
            let sum: i32 = pool.get().await?.query_one(SUM, &[]).await?.get(0);
            Ok(format!("sum {sum}"))
        });
        Ok(Router::new().route("/", page).with_state(pool))
    })
}

pub(crate) fn redis_async() -> MadeRouter {
    made(async {
        let client = redis::Client::open(server("TRY_REDIS")?)?;
        let manager = redis::aio::ConnectionManager::new(client).await?;
        let page =
            get(async |State(mut manager): State<redis::aio::ConnectionManager>| -> Answer {
                let _: () = manager.set("sum", 42).await?;
                let sum: i64 = manager.get("sum").await?;
                Ok(format!("sum {sum}"))
            });
        Ok(Router::new().route("/", page).with_state(manager))
    })
}

pub(crate) fn redis_blocking() -> MadeRouter {
    handler(async || -> Answer {
        let client = redis::Client::open(server("TRY_REDIS")?)?;
        let mut connection = client.get_connection()?;
        let _: () = redis::Commands::set(&mut connection, "sum", 42)?;
        let sum: i64 = redis::Commands::get(&mut connection, "sum")?;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn redb() -> MadeRouter {
    handler(async || -> Answer {
        use redb::ReadableDatabase;
        const TABLE: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("sums");
        let folder = tempfile::tempdir()?;
        let database = redb::Database::create(folder.path().join("sums.redb"))?;
        let write = database.begin_write()?;
        write.open_table(TABLE)?.insert("sum", 42)?;
        write.commit()?;
        let table = database.begin_read()?.open_table(TABLE)?;
        let sum = table.get("sum")?.ok_or("there is no row")?.value();
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn sled() -> MadeRouter {
    handler(async || -> Answer {
        let folder = tempfile::tempdir()?;
        let database = sled::open(folder.path().join("sums"))?;
        database.insert("sum", "42")?;
        database.flush()?;
        let sum = database.get("sum")?.ok_or("there is no row")?;
        Ok(format!("sum {}", String::from_utf8(sum.to_vec())?))
    })
}
