//! error: pass a function that makes the service, such as `|| router` or `async fn router() -> Router`: `Router<_>` is none
//! label: not a function without arguments
//! note: in async code that has the service already: `hosted::serve(router).await`

use axum::{Router, routing::get};

fn main() -> std::process::ExitCode {
    hosted::main(Router::new().route("/", get(|| async { "Hello" })))
}
