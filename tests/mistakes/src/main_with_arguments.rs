//! error: function is expected to take 0 arguments, but it takes 1 argument

use axum::Router;

fn router(_name: String) -> Router {
    Router::new()
}

fn main() -> std::process::ExitCode {
    hosted::main(router)
}
