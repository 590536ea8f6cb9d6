//! What is put around handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use axum_extra::TypedHeader;
use axum_extra::extract::cookie::{Cookie, CookieJar, Key, PrivateCookieJar};
use axum_extra::headers::Host;
use rust_embed::Embed;
use tower::ServiceBuilder;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::GlobalKeyExtractor;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, SetRequestIdLayer};
use tower_http::services::ServeDir;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

use crate::case::{Answer, MadeRouter, made};

pub(crate) fn compression() -> MadeRouter {
    let text = get(async || "compressed ".repeat(200));
    made(async { Ok(Router::new().route("/", text).layer(CompressionLayer::new())) })
}

pub(crate) fn cors() -> MadeRouter {
    let layers = (CorsLayer::permissive(), SetRequestIdLayer::x_request_id(MakeRequestUuid));
    made(async { Ok(Router::new().route("/", get("shared")).layer(layers)) })
}

pub(crate) fn trace() -> MadeRouter {
    made(async { Ok(Router::new().route("/", get("traced")).layer(TraceLayer::new_for_http())) })
}

pub(crate) fn timeout() -> MadeRouter {
    let limit = Duration::from_millis(20);
    let layer = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit);
    let inner = get(async || {
        let waited = std::future::pending::<()>();
        waited.await;
    });
    // The timeout is what is expected; the response of its own tells it from the web server's.
    let tell = async |response: axum::response::Response| match response.status() {
        StatusCode::GATEWAY_TIMEOUT => (StatusCode::OK, "it timed out"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "no timeout"),
    };
    let tell = axum::middleware::map_response(tell);
    made(async move { Ok(Router::new().route("/", inner).layer(layer).layer(tell)) })
}

pub(crate) fn serve_dir() -> MadeRouter {
    let folder = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/files"));
    made(async { Ok(Router::new().fallback_service(folder)) })
}

#[derive(Embed)]
#[folder = "files"]
struct Files;

pub(crate) fn embed() -> MadeRouter {
    let file = get(async || -> Answer {
        let file = Files::get("index.html").ok_or("it is not in the program")?;
        Ok(String::from_utf8(file.data.into_owned())?)
    });
    made(async { Ok(Router::new().route("/", file)) })
}

pub(crate) fn buffer() -> MadeRouter {
    let refused =
        async |error: tower::BoxError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    made(async move {
        let layers = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .buffer(16)
            .rate_limit(100, Duration::from_secs(1))
            .concurrency_limit(8);
        Ok(Router::new().route("/", get("buffered")).layer(layers))
    })
}

pub(crate) fn governor() -> MadeRouter {
    made(async {
        let mut builder = GovernorConfigBuilder::default();
        let mut builder = builder.per_second(1).burst_size(5).key_extractor(GlobalKeyExtractor);
        let mut builder = builder.use_headers();
        let configuration = builder.finish().ok_or("its settings are wrong")?;
        let layer = GovernorLayer::new(Arc::new(configuration));
        Ok(Router::new().route("/", get("within the limit")).layer(layer))
    })
}

pub(crate) fn cookies() -> MadeRouter {
    let page = get(async |private: PrivateCookieJar<Key>, TypedHeader(host): TypedHeader<Host>| {
        let sealed = private.add(Cookie::new("sealed", "secret"));
        let jar = CookieJar::new().add(Cookie::new("host", host.hostname().to_owned()));
        (jar, sealed, "with cookies")
    });
    made(async { Ok(Router::new().route("/", page).with_state(Key::generate())) })
}

pub(crate) fn sessions() -> MadeRouter {
    let count = get(async |session: Session| -> Answer {
        let visits = session.get::<u32>("visits").await?.unwrap_or_default() + 1;
        session.insert("visits", visits).await?;
        Ok(format!("visit {visits}"))
    });
    let layer = SessionManagerLayer::new(MemoryStore::default()).with_secure(false);
    made(async { Ok(Router::new().route("/", count).layer(layer)) })
}
