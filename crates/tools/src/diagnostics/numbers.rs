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
    store.write(async |store| store.execute(INSERT, params![number]).await).await?;
    Ok(format!("{number}\n"))
}

/// Lists all numbers, in order.
async fn list(Extension(store): Extension<Store>) -> Result<Response, HttpError> {
    let numbers: Vec<i64> = store.read(async |store| store.query(SELECT, &[]).await).await?;
    let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Ok(([(CACHE_CONTROL, "no-store")], lines).into_response())
}

// What a version of the program knows of the table. The next one has another column (`TABLES`) and fills both, so that
// either version reads what the other has stored; the one after it has only the new column.
#[cfg(not(feature = "next-version"))]
const INSERT: &str = "INSERT INTO diagnostics_numbers (number) VALUES ($1)";
#[cfg(not(feature = "next-version"))]
const SELECT: &str = "SELECT number FROM diagnostics_numbers ORDER BY number";

#[cfg(all(feature = "next-version", not(feature = "contracting-version")))]
const INSERT: &str =
    "INSERT INTO diagnostics_numbers (number, text) VALUES ($1, CAST(CAST($1 AS BIGINT) AS TEXT))";
#[cfg(all(feature = "next-version", not(feature = "contracting-version")))]
const SELECT: &str = "SELECT CAST(coalesce(text, CAST(number AS TEXT)) AS BIGINT) FROM diagnostics_numbers ORDER BY 1";

#[cfg(feature = "contracting-version")]
const INSERT: &str =
    "INSERT INTO diagnostics_numbers (text) VALUES (CAST(CAST($1 AS BIGINT) AS TEXT))";
#[cfg(feature = "contracting-version")]
const SELECT: &str = "SELECT CAST(text AS BIGINT) FROM diagnostics_numbers ORDER BY 1";
