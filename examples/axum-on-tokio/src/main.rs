//! An application that uses tokio: its clock, its sockets, tower-http's `TimeoutLayer`. With
//! `Server::run_in_tokio` (feature `tokio`) it runs as it is, on one thread.
//!
//! What needs a second thread (`spawn_blocking`, `tokio::fs`, host names in `TcpStream::connect`)
//! is not supported: hosts refuse threads.

use std::process::ExitCode;
use std::time::Duration;

use app_server::{Server, Transport};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_http::timeout::TimeoutLayer;

fn application() -> Router {
    let limit =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(500));
    Router::new()
        .route("/", get(|| async { "Hello from tokio on one thread\n" }))
        .route("/sleep/{milliseconds}", get(sleep))
        .route("/socket", get(socket))
        .layer(limit)
}

/// Sleeps by tokio's clock; after half a second the layer responds with 504.
async fn sleep(Path(milliseconds): Path<u64>) -> String {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("slept {milliseconds} ms\n")
}

/// Sends a message through a tokio socket to a tokio task and back.
async fn socket() -> Result<String, StatusCode> {
    through_a_socket().await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn through_a_socket() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut message = [0; 5];
        stream.read_exact(&mut message).await?;
        stream.write_all(&message).await
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"there").await?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await?;
    echo.await.map_err(std::io::Error::other)??;
    Ok(format!("{echoed} and back\n"))
}

fn main() -> ExitCode {
    // A log that cannot be written must not cause a panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_writer(std::io::stderr).init();
    let argument = std::env::args().nth(1).unwrap_or("http:127.0.0.1:8080".to_owned());
    let result =
        Transport::inherited().map_or_else(|| argument.parse(), Ok).and_then(|transport| {
            Server::new(application()).run_in_tokio(transport).map_err(|error| error.to_string())
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axum-on-tokio: {error}");
            ExitCode::FAILURE
        }
    }
}
