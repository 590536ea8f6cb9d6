//! An axum application, unchanged, on FastCGI or HTTP. No tokio runtime is needed.
//!
//! ```text
//! cargo run --release -p axum-example                                    # http://127.0.0.1:8080
//! cargo run --release -p axum-example fastcgi:unix:/tmp/axum.sock
//! ```

use std::process::ExitCode;

use app_server::{Server, Transport};
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};

fn application() -> Router {
    Router::new()
        .route("/", get(|| async { "Hello, world!\n" }))
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>| async move { format!("Hello, {name}!\n") }),
        )
        // The body streams through: what comes in goes out, however large.
        .route("/echo", post(|body: Body| async { body }))
}

fn main() -> ExitCode {
    // A log that cannot be written must not cause a panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_writer(std::io::stderr).init();
    let argument = std::env::args().nth(1).unwrap_or("http:127.0.0.1:8080".to_owned());
    let result =
        Transport::inherited().map_or_else(|| argument.parse(), Ok).and_then(|transport| {
            Server::new(application()).run(transport).map_err(|error| error.to_string())
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum: {error}");
            ExitCode::FAILURE
        }
    }
}
