//! error: a router needs `.with_state(…)`, and a handler needs a router: `Result<Router<Shop>, std::io::Error>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: a `Router<State>` becomes a `Router` by `.with_state(state)`

use axum::extract::State;
use axum::{Router, routing::get};

use crate::parts::Shop;

fn router() -> Result<Router<Shop>, std::io::Error> {
    Ok(Router::new().route("/", get(|State(_): State<Shop>| async { "Hello" })))
}

fn main() -> std::process::ExitCode {
    hosted::main(router)
}
