//! error: a router needs `.with_state(…)`, and a handler needs a router: `Router<Shop>` is not a service
//! label: not a `Service` of `http::Request<app_server::Body>`
//! note: a `Router<State>` becomes a `Router` by `.with_state(state)`

use std::process::ExitCode;

use axum::extract::State;
use axum::{Router, routing::get};

use crate::parts::Shop;

async fn main() -> ExitCode {
    let router: Router<Shop> =
        Router::new().route("/", get(|State(_): State<Shop>| async { "Hello" }));
    hosted::serve(router).await
}
