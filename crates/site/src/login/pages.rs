//! The login's own pages: `/login`, `/logout`, `/account…` and `/set-up`.
//!
//! One file per page. What they share is in `login_request.rs` (what a handler knows of its request), `attempts.rs`
//! (trying a password), `waiting.rs` (asking to wait) and `new_session.rs` (logging in and out).

mod account;
mod attempts;
mod log_in;
mod login_request;
mod new_session;
mod second_factor;
mod set_up;
mod store;
mod waiting;

use std::sync::Arc;

use axum::extract::{Extension, Request};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use storage::Schema;

use super::gate::SharedGate;

/// The path of the page about the store.
const STORE_PAGE: &str = "/account/store";

/// All schemas of the site's store. An extension.
#[derive(Clone)]
struct Schemas(Arc<[Schema]>);

/// Returns the routes, below BASE. `known` is what the site and its tools keep in the store.
pub(crate) fn routes(gate: SharedGate, known: Arc<[Schema]>) -> Router {
    Router::new()
        .route("/login", get(log_in::form).post(log_in::log_in))
        .route("/logout", post(log_in::log_out))
        .route("/account", get(account::page))
        .route("/account/sessions", post(account::end_sessions))
        .route("/account/password", post(account::change_password))
        .route("/account/second-factor", get(second_factor::page).post(second_factor::change))
        .route(STORE_PAGE, get(store::page).post(store::change))
        .route("/set-up", get(set_up::form).post(set_up::set_password))
        .layer(middleware::from_fn(never_stored))
        .layer(Extension(Schemas(known)))
        .layer(Extension(gate))
}

/// Returns whether a path below BASE is one of the login's pages.
pub(crate) fn is_page(path: &str) -> bool {
    ["/login", "/logout", "/account", "/set-up"].contains(&path) || path.starts_with("/account/")
}

/// Keeps every response of the login out of all caches.
async fn never_stored(request: Request, next: middleware::Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
