//! An application of somebody's own with rows and a login: a guest book whose owner removes entries.

use std::process::ExitCode;

use axum::Router;
use axum::extract::{Path, State};
use axum::middleware::from_fn;
use axum::response::Redirect;
use axum::routing::{get, post};
use hosted::HttpError;
use hosted::store::{Migration, Schema, Store, params};
use hosted_login::{Application, Visitor, owner_only};

const SCHEMA: Schema = Schema {
    name: "guests",
    migrations: &[Migration::expand("CREATE TABLE guests (name TEXT PRIMARY KEY)")],
};

fn router(store: Store) -> Router {
    let private = Router::new()
        .route("/admin", get(|| async { "what only the owner sees\n" }))
        .route("/admin/{name}/remove", post(remove))
        .route("/admin/fails", get(fails))
        .route_layer(from_fn(owner_only));
    Router::new().route("/", get(list).post(sign)).merge(private).with_state(store)
}

async fn fails() -> Result<(), HttpError> {
    Err("the secret reason")?
}

async fn list(State(store): State<Store>, visitor: Visitor) -> Result<String, HttpError> {
    let names = "SELECT name FROM guests ORDER BY name";
    let names: Vec<String> = store.read(async |store| store.query(names, &[]).await).await?;
    Ok(format!("{} guests: {}\n", visitor.is_owner(), names.join(" ")))
}

async fn sign(State(store): State<Store>, name: String) -> Result<Redirect, HttpError> {
    let sign = "INSERT INTO guests (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    store.write(async |store| store.execute(sign, params![&name]).await).await?;
    Ok(Redirect::to("."))
}

async fn remove(
    State(store): State<Store>,
    Path(name): Path<String>,
) -> Result<&'static str, HttpError> {
    let remove = "DELETE FROM guests WHERE name = $1";
    store.write(async |store| store.execute(remove, params![&name]).await).await?;
    Ok("removed\n")
}

fn main() -> ExitCode {
    Application::new(SCHEMA, router).title("The guest book").main()
}
