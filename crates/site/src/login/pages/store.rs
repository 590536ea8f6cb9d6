//! `/account/store`: how large the store is, what is in it, and its backups.
//!
//! As everywhere in the account, every change asks for the password; so does a download, which has everything in it.

use axum::body::Body;
use axum::extract::Extension;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};
use storage::{Schema, Statistics, TableStatistics};
use tera::context;

use super::account::{changed_on, client_of, done, is_owner_present, proof, session_of};
use super::login_request::{LoginRequest, WithoutBody};
use super::new_session::start_session;
use super::{STORE_PAGE, Schemas};
use crate::http::download::disposition;
use crate::http::error::HttpError;
use crate::http::file_body::FileBody;
use crate::login::backups::{Backup, Backups};
use crate::login::clock::now;
use crate::login::events::{self, ago};
use crate::login::throttle;
use crate::words::size;

/// The section of the page that shows messages, by its `id`.
const BACKUPS: &str = "backups";

/// `GET /account/store`
pub(super) async fn page(
    Extension(Schemas(known)): Extension<Schemas>,
    WithoutBody(request): WithoutBody,
) -> Result<Response, HttpError> {
    if request.visitor.session().is_none() {
        return Ok(request.ask_to_log_in());
    }
    show(&request, &known, None).await
}

async fn show(
    request: &LoginRequest,
    known: &[Schema],
    failure: Option<String>,
) -> Result<Response, HttpError> {
    session_of(request)?;
    let (store, now) = (&request.gate.store, now());
    let statistics = store.statistics(known).await?;
    let events = store.read(async |store| events::list(store).await).await?;
    let listed = match store.file() {
        Some(_) => backups(request).list(),
        None => Ok(Vec::new()),
    };
    let is_refusal = failure.is_some();
    let (backups, failure) = match listed {
        Ok(backups) => (backups, failure),
        Err(why) => (Vec::new(), failure.or(Some(format!("{why}.")))),
    };
    let done = done(request, events.first(), now, DONE).filter(|_| failure.is_none());
    let backups: Vec<_> = backups.iter().map(|backup| backup_row(backup, now)).collect();
    let mut response = request.page.show(
        "store.html",
        context! {
            file => &store.file().map(|file| file.display().to_string()),
            size => &size(statistics.bytes),
            unused => &statistics.free_bytes.filter(|&free| free > 0).map(size),
            tables => &table_rows(&statistics),
            backups => &backups,
            failure => &failure,
            done => &done,
        },
    );
    if is_refusal {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// The message after a change, by the event that was recorded for it.
const DONE: &[(&str, &str)] = &[
    (events::BACKUP_MADE, "The backup has been made. It is below."),
    (events::BACKUP_DELETED, "The backup has been deleted."),
    (
        events::RESTORED,
        "The backup has been restored, and all other browsers have been logged out.",
    ),
];

/// A table as the template shows it.
#[derive(Serialize)]
struct TableRow<'a> {
    schema: &'a str,
    table: &'a str,
    rows: String,
}

fn table_rows(statistics: &Statistics) -> Vec<TableRow<'_>> {
    let of_schemas = statistics
        .schemas
        .iter()
        .flat_map(|schema| schema.tables.iter().map(|table| (schema.name.as_str(), table)));
    let others = statistics.other_tables.iter().map(|table| ("", table));
    of_schemas.chain(others).map(|(schema, table)| table_row(schema, table)).collect()
}

fn table_row<'a>(schema: &'a str, table: &'a TableStatistics) -> TableRow<'a> {
    TableRow { schema, table: &table.name, rows: table.rows.to_string() }
}

/// A backup as the template shows it.
fn backup_row(backup: &Backup, now: i64) -> Value {
    json!({
        "name": backup.name,
        "size": size(backup.bytes),
        "made": ago(backup.modified, now),
        "is_replaced": backup.is_replaced,
    })
}

fn backups(request: &LoginRequest) -> Backups<'_> {
    Backups::of(&request.gate.settings, &request.gate.store, request.process())
}

/// `POST /account/store`
pub(super) async fn change(
    Extension(Schemas(known)): Extension<Schemas>,
    request: LoginRequest,
) -> Result<Response, HttpError> {
    let refused = async |words: &str| show(&request, &known, Some(words.to_owned())).await;
    let action = request.field("action");
    if !is_owner_present(&request).await? {
        return refused("Wrong password.").await;
    }
    // While the password was checked, another request may have restored a store in which this session has ended.
    let head = &request.head;
    if request.gate.recognize(&head.headers, &head.extensions).await?.session().is_none() {
        return Ok(request.ask_to_log_in());
    }
    let (backups, store, client) =
        (backups(&request), &request.gate.store, client_of(&request).await?);
    store.write(async |store| throttle::forgive(store, &client).await).await?;
    if store.file().is_none() {
        return Err(HttpError::new(StatusCode::CONFLICT)
            .message("The store is a PostgreSQL database: back it up with pg_dump."));
    }
    let record = async |event| {
        let origin = request.origin();
        let recorded =
            store.write(async |store| events::record(store, now(), event, &origin).await);
        recorded.await.map_err(HttpError::from)
    };
    if action == "make" {
        if let Err(error) = backups.make().await {
            tracing::error!("No backup was made: {error}.");
            return refused(&format!("No backup was made: {error}.")).await;
        }
        record(events::BACKUP_MADE).await?;
        tracing::info!("The owner made a backup.");
        return Ok(changed_on(&request, STORE_PAGE, BACKUPS));
    }
    let chosen = request.field("backup");
    let listed = match backups.list() {
        Ok(listed) => listed,
        Err(why) => return refused(&format!("{why}.")).await,
    };
    let Some(backup) = listed.iter().find(|backup| backup.name == chosen) else {
        return refused("Choose a backup that is there.").await;
    };
    match action {
        "download" => {
            record(events::BACKUP_DOWNLOADED).await?;
            tracing::info!("The owner downloads a backup.");
            download(backup)
        }
        "delete" => {
            if let Err(error) = backup.delete() {
                return refused(&format!("The backup was not deleted: {error}.")).await;
            }
            record(events::BACKUP_DELETED).await?;
            tracing::info!("The owner deleted a backup.");
            Ok(changed_on(&request, STORE_PAGE, BACKUPS))
        }
        "restore" => {
            let origin = request.origin();
            if let Err(error) = backups.restore(backup, &known, &origin).await {
                tracing::error!("Nothing was restored: {error}.");
                return refused(&format!("Nothing was restored: {error}.")).await;
            }
            tracing::info!("The owner restored a backup.");
            let mut response = changed_on(&request, STORE_PAGE, BACKUPS);
            let proof = proof(&request).await?;
            let browser = request.client(request.gate.secrets().await?, &proof);
            start_session(&request, &browser, &proof, response.headers_mut()).await?;
            Ok(response)
        }
        _ => Err(HttpError::new(StatusCode::BAD_REQUEST)),
    }
}

fn download(backup: &Backup) -> Result<Response, HttpError> {
    let body = backup.open().and_then(FileBody::of).map_err(unreadable)?;
    let headers = [
        (CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (CONTENT_DISPOSITION, disposition(&backup.name)),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::new(body)).into_response())
}

fn unreadable(error: std::io::Error) -> HttpError {
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE)
        .cause(format!("the backup cannot be read: {error}"))
}
