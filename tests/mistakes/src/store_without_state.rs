//! error: a router needs `.with_state(…)`, and a handler needs a router: `Router<hosted::store::Store>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: a `Router<State>` becomes a `Router` by `.with_state(state)`

use axum::extract::State;
use axum::{Router, routing::get};
use hosted::Application;
use hosted::store::{Schema, Store};

const SCHEMA: Schema = Schema { name: "shop", migrations: &[] };

fn router(_store: Store) -> Router<Store> {
    Router::new().route("/", get(|State(_): State<Store>| async { "Hello" }))
}

fn main() -> std::process::ExitCode {
    Application::with_store(SCHEMA, router).main()
}
