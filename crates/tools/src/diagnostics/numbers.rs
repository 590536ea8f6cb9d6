//! Numbers that clients append and read again: whether each acknowledged change of the store is there, and once.

use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::CACHE_CONTROL;
use site::HttpError;
use site::storage::{Store, params};

use super::refused;

pub(super) fn routes() -> Router {
    Router::new().route("/numbers", get(list).post(append))
}

/// Answers once the number is stored.
async fn append(
    Extension(store): Extension<Store>,
    RawQuery(query): RawQuery,
) -> Result<String, HttpError> {
    let number: Option<i64> = query.and_then(|query| query.parse().ok());
    let number = number.ok_or_else(|| refused("Write a number: ?17".to_owned()))?;
    let insert = "INSERT INTO diagnostics_numbers (number) VALUES ($1)";
    store.write(async |store| store.execute(insert, params![number]).await).await?;
    Ok(format!("{number}\n"))
}

/// Lists all numbers, in order.
async fn list(Extension(store): Extension<Store>) -> Result<Response, HttpError> {
    let numbers: Vec<i64> = store
        .read(async |store| {
            store.query("SELECT number FROM diagnostics_numbers ORDER BY number", &[]).await
        })
        .await?;
    let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Ok(([(CACHE_CONTROL, "no-store")], lines).into_response())
}
