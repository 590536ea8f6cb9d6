//! Blobs that clients put, upload in parts, get and delete: what a tool that keeps files does, and nothing else.

use std::num::NonZeroU16;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{post, put};
use axum::{Extension, Router};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use site::blobs::{Key, PutOptions, UploadId};
use site::{Blobs, Download, HttpError};

use super::refused;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/blobs/{*key}", put(store).get(send).delete(remove))
        .route("/uploads/{key}", post(begin))
        .route("/uploads/{key}/{upload}/parts/{number}", put(put_part))
        .route("/uploads/{key}/{upload}/{length}", post(finish))
}

/// Answers once the blob is stored.
async fn store(
    Path(key): Path<String>,
    Extension(blobs): Extension<Blobs>,
    headers: HeaderMap,
    content: Body,
) -> Result<&'static str, HttpError> {
    blobs.put(&parse(&key)?, content, options(&headers)).await?;
    Ok("Stored.\n")
}

async fn send(
    Path(key): Path<String>,
    Extension(blobs): Extension<Blobs>,
    download: Download,
) -> Result<Response, HttpError> {
    let file_name = key.rsplit('/').next().unwrap_or_default();
    download.send(&blobs, &parse(&key)?, file_name).await
}

async fn remove(
    Path(key): Path<String>,
    Extension(blobs): Extension<Blobs>,
) -> Result<&'static str, HttpError> {
    blobs.delete(&parse(&key)?).await?;
    Ok("Deleted.\n")
}

/// Answers with the upload's id.
async fn begin(
    Path(key): Path<String>,
    Extension(blobs): Extension<Blobs>,
    headers: HeaderMap,
) -> Result<String, HttpError> {
    Ok(blobs.begin_upload(&parse(&key)?, options(&headers)).await?.to_string())
}

async fn put_part(
    Path((key, upload, number)): Path<(String, String, NonZeroU16)>,
    Extension(blobs): Extension<Blobs>,
    content: Body,
) -> Result<&'static str, HttpError> {
    blobs.put_part(&parse(&key)?, &parse_upload(&upload)?, number, content).await?;
    Ok("Stored.\n")
}

async fn finish(
    Path((key, upload, length)): Path<(String, String, u64)>,
    Extension(blobs): Extension<Blobs>,
) -> Result<&'static str, HttpError> {
    blobs.finish_upload(&parse(&key)?, &parse_upload(&upload)?, length).await?;
    Ok("Finished.\n")
}

fn parse_upload(id: &str) -> Result<UploadId, HttpError> {
    id.parse().map_err(|error| refused(format!("{id:?}: {error}.")))
}

fn options(headers: &HeaderMap) -> PutOptions {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    PutOptions { content_type: content_type.map(str::to_owned), expires: None }
}

fn parse(key: &str) -> Result<Key, HttpError> {
    key.parse().map_err(|error| refused(format!("{key:?} is not a key: {error}.")))
}
