//! The site as the server's application: the server's words for an exchange become the site's.

use std::convert::Infallible;
use std::task::{Context, Poll};

use app_server::{Body, CgiVariables, ErrorReport, RemoteAddress, Scheme, Settings};
use axum::Router;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::{Extensions, Request, Response};
use site::{ServerFacts, SiteSettings};
use tower_service::Service;

use crate::commands;

/// Makes the site with all its tools, for a web server before it.
pub(crate) fn site() -> Site {
    Site(site::router_with(tools::TABLE, &SiteSettings::default()))
}

/// Makes the site with all its tools, for visitors who come over HTTP.
pub(crate) fn site_over_http() -> Site {
    let settings = SiteSettings { compress: true, ..SiteSettings::default() };
    Site(site::router_with(tools::TABLE, &settings))
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
        extensions.insert(site::Server(&SERVER));
        self.0.call(request)
    }
}

/// What the site may ask about the program and an exchange.
static SERVER: ServerFacts =
    ServerFacts { reference: app_server::reference, variables: variables_of, facts: facts_of };

/// The web server's variables. Over HTTP there are none.
fn variables_of(extensions: &Extensions) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let variables = extensions.get::<CgiVariables>().into_iter().flat_map(CgiVariables::iter);
    variables.map(|(name, value)| (text(name), text(value))).collect()
}

/// Version, way in, and who asks.
fn facts_of(extensions: &Extensions) -> Vec<(&'static str, String)> {
    let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let way_in = match (extensions.get::<CgiVariables>(), commands::cgi::is_asked_for()) {
        (None, _) => "HTTP",
        (Some(_), true) => "CGI",
        (Some(_), false) => "FastCGI",
    };
    let mut facts = vec![("Program", program.to_owned()), ("Way in", way_in.to_owned())];
    if let Some(scheme) = extensions.get::<Scheme>() {
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        facts.push(("Scheme", scheme.to_owned()));
    }
    if let Some(RemoteAddress(address)) = extensions.get() {
        facts.push(("Visitor's address", address.to_string()));
    }
    facts
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
