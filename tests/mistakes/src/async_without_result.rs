//! error: a router needs `.with_state(…)`, and a handler needs a router: `impl Future<Output = ()>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these

use axum::{Router, routing::get};

async fn router() {
    Router::<()>::new().route("/", get(|| async { "Hello" }));
}

fn main() -> std::process::ExitCode {
    hosted::main(router)
}
