//! error: function is expected to take 1 argument, but it takes 0 arguments
//! label: expected function that takes 1 argument

use axum::Router;
use hosted::Application;
use hosted::store::Schema;

const SCHEMA: Schema = Schema { name: "shop", migrations: &[] };

fn router() -> Router {
    Router::new()
}

fn main() -> std::process::ExitCode {
    Application::with_store(SCHEMA, router).main()
}
