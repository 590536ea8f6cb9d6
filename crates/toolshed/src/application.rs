//! The site as the server's application: the server's words for an exchange become the site's.

use std::convert::Infallible;
use std::task::{Context, Poll};

use app_server::{Body, ErrorReport, Settings};
use axum::Router;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

/// Makes the site with all its tools.
pub(crate) fn site() -> Site {
    Site(site::router(tools::TABLE))
}

/// The server's settings for the site.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.error_page = error_page;
    settings
}

/// The site's router, told where it is mounted.
#[derive(Clone)]
pub(crate) struct Site(Router);

impl Service<Request<Body>> for Site {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        if let Some(base) = extensions.get::<app_server::BasePath>()
            && !base.as_str().is_empty()
        {
            let base = site::BasePath::new(base.as_str());
            extensions.insert(base);
        }
        extensions.insert(site::References(app_server::reference));
        self.0.call(request)
    }
}

/// The site's page for what the server has to answer itself.
fn error_page(report: &ErrorReport) -> Response<Bytes> {
    site::error_page::page(
        report.status,
        report.base.as_str(),
        &report.reference,
        report.wants_json,
    )
}
