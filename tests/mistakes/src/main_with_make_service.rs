//! error: a router needs `.with_state(…)`, and a handler needs a router: `IntoMakeService<Router>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: what `.into_make_service()` returns makes services: leave the call out

use axum::{
    Router,
    routing::{IntoMakeService, get},
};

fn router() -> IntoMakeService<Router> {
    Router::new().route("/", get(|| async { "Hello" })).into_make_service()
}

fn main() -> std::process::ExitCode {
    hosted::main(router)
}
