//! Lists that clients append numbers to and read: whether what several machines say about the store agrees.

use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::CACHE_CONTROL;
use site::HttpError;
use site::storage::{Store, params};

use super::refused;

pub(super) fn routes() -> Router {
    Router::new().route("/lists/{name}", get(read).post(append))
}

/// Answers once the number is at the end of the list. It reads before it writes, so two of these are in conflict.
async fn append(
    Extension(store): Extension<Store>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<String, HttpError> {
    let number: Option<i64> = query.and_then(|query| query.parse().ok());
    let number = number.ok_or_else(|| refused("Write a number: ?17".to_owned()))?;
    store
        .write(async |store| {
            let count = "SELECT count(*) FROM diagnostics_lists WHERE name = $1";
            let length: i64 = store.query_one(count, params![name]).await?;
            let insert =
                "INSERT INTO diagnostics_lists (name, position, number) VALUES ($1, $2, $3)";
            store.execute(insert, params![name, length, number]).await
        })
        .await?;
    Ok(format!("{number}\n"))
}

/// Lists the numbers in their order.
async fn read(
    Extension(store): Extension<Store>,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    let numbers: Vec<i64> = store
        .read(async |store| {
            let select = "SELECT number FROM diagnostics_lists WHERE name = $1 ORDER BY position";
            store.query(select, params![name]).await
        })
        .await?;
    let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Ok(([(CACHE_CONTROL, "no-store")], lines).into_response())
}
