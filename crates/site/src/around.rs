//! The login around an application of somebody's own: it decides which of its pages only the owner sees.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, Uri};
use storage::Schema;
use tower_service::Service;

use crate::http::assets;
use crate::http::error::HttpError;
use crate::login::pages::is_page;
use crate::login::{Gate, SharedGate};
use crate::middleware::{Middleware, OfApp};
use crate::router::{Login, for_monitors, is_owner, static_file};
use crate::settings::SiteSettings;

/// Puts the login around an application: `/login`, `/logout`, `/account` and `/set-up`, `/healthz` and `/readyz`, and the
/// files in `/static` that these pages need are the site's; all other paths are the application's. Which of its pages are the owner's,
/// it says by [`owner_only`], and asks with [`Visitor`](crate::Visitor) who it is.
///
/// `known`: all that the store of the login keeps, the login's own tables included. Failures of the application without a page
/// of their own get the site's; its other responses stay as they are, except that what the owner gets is kept out of caches.
/// A request in the owner's name that changes something and comes from another site, as the browser says, gets 403.
///
/// # Panics
///
/// If the settings have no login.
pub fn around(app: Router, settings: &SiteSettings, known: Vec<Schema>) -> Router {
    let login = settings.login.clone().expect("there is a login in the settings");
    let (gate, known) = (Arc::new(Gate::new(login)), Arc::<[_]>::from(known));
    let middleware = Arc::new(Middleware::new(settings, Some(gate.clone())).around_app());
    let own = for_monitors(Some(gate.clone()), known.clone());
    let own = own.route("/static/{*path}", get(static_file));
    let login = Arc::new(Login::new(gate.clone(), known));
    let respond = async move |mut request: Request| {
        let path = request.uri().path();
        if is_page(path) {
            return login.respond(request).await;
        }
        let file = path.strip_prefix("/static/").and_then(assets::find);
        if file.is_some() || ["/healthz", "/readyz"].contains(&path) {
            let Ok(response) = own.clone().call(request).await;
            return response;
        }
        let asked_for = AskedFor { uri: request.uri().clone(), gate: gate.clone() };
        request.extensions_mut().insert(asked_for);
        let Ok(mut response) = app.clone().call(request).await;
        response.extensions_mut().insert(OfApp);
        response
    };
    Router::new().fallback(respond).layer(from_fn(move |request: Request, next: Next| {
        let middleware = middleware.clone();
        async move { middleware.handle(request, next).await }
    }))
}

/// What was asked for, below BASE, as an extension: a router that is nested in another sees less of the path.
#[derive(Clone)]
struct AskedFor {
    uri: Uri,
    gate: SharedGate,
}

/// Lets only the owner pass; others are asked to log in. A middleware for routes of an application that [`around`] is around:
///
/// ```
/// use axum::{Router, middleware::from_fn, routing::get};
///
/// let private = Router::new()
///     .route("/admin", get(|| async { "Hello, owner" }))
///     .route_layer(from_fn(site::owner_only));
/// let app: Router = Router::new().route("/", get(|| async { "Hello" })).merge(private);
/// ```
///
/// A browser that wants a page is redirected to the form and back; everybody else gets 401.
pub async fn owner_only(request: Request, next: Next) -> Response {
    if is_owner(&request) {
        return next.run(request).await;
    }
    let Some(AskedFor { uri, gate }) = request.extensions().get().cloned() else {
        let error = HttpError::new(StatusCode::INTERNAL_SERVER_ERROR);
        return error.cause("owner_only without the login around the application").into_response();
    };
    gate.ask_to_log_in(request.method(), &uri, request.headers(), request.extensions())
}
