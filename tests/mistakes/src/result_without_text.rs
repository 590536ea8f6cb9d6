//! error: a router needs `.with_state(…)`, and a handler needs a router: `impl Future<Output = Result<Router, Wrong>>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: the error of a `Result` needs to be `Display`

use axum::Router;

struct Wrong;

async fn router() -> Result<Router, Wrong> {
    Ok(Router::new())
}

fn main() -> std::process::ExitCode {
    hosted::main(router)
}
