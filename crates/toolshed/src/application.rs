//! The site as the server's application: passes what the server knows about a request to the site.

use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll};

use app_server::{BasePath, Body, ErrorReport, Host, Part, RequestContext, Scheme};
use axum::Router;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use hosted_login::{error_page, request};
use http::{Extensions, Request, Response, Uri};
use site::blobs::BlobSettings;
use site::storage::Trust;
use site::{BlobExpiry, LoginSettings, Name, ServerFacts, SharedCrashes, SiteSettings};
use tower_service::Service;

use crate::config::{Configuration, Settings};
use crate::crash_sharing::CrashSharing;
use crate::installation::BLOBS;
use crate::installation::PROGRAM;
use crate::setup;

/// Makes the site with all its tools, for a web server in front. While the configuration is wrong, every request is
/// answered with a page that says so.
pub(crate) fn site(configuration: Configuration) -> Site {
    let site_settings = site_settings(&configuration.settings);
    Site::new(configuration, site_settings)
}

/// The same for a shell of the account, which is the owner's.
pub(crate) fn site_for_the_owner(configuration: Configuration) -> Site {
    let login = LoginSettings { trust: Trust::of_command(), ..login(&configuration.settings) };
    let settings = site_settings(&configuration.settings);
    let site_settings = SiteSettings { asked_by_owner: true, login: Some(login), ..settings };
    Site::new(configuration, site_settings)
}

/// The same for visitors over HTTP.
pub(crate) fn site_over_http(configuration: Configuration) -> Site {
    let site_settings = SiteSettings { compress: true, ..site_settings(&configuration.settings) };
    Site::new(configuration, site_settings)
}

/// The site's part of the settings.
pub(crate) fn site_settings(settings: &Settings) -> SiteSettings {
    let site = SiteSettings {
        blobs: Some(blobs(settings)),
        ..hosted_login::settings::site(PROGRAM, settings)
    };
    site.public(settings.own.public.iter().cloned())
}

/// The login's part of the settings.
pub(crate) fn login(settings: &Settings) -> LoginSettings {
    hosted_login::settings::login(PROGRAM, settings)
}

/// Where blobs are kept.
pub(crate) fn blobs(settings: &Settings) -> BlobSettings {
    settings.own.blobs(BLOBS.within(&login(settings).data))
}

/// The program as the server's host: which tool a request is for, and the site's pages for the server's own responses.
pub(crate) struct SiteHost {
    expiry: Rc<BlobExpiry>,
    /// If the site may be on several machines.
    crash_sharing: Option<Rc<CrashSharing>>,
}

impl SiteHost {
    pub(crate) fn new(settings: &Settings) -> Self {
        SiteHost {
            expiry: BlobExpiry::new(&blobs(settings), login(settings).data),
            crash_sharing: crash_sharing(settings),
        }
    }
}

fn crash_sharing(settings: &Settings) -> Option<Rc<CrashSharing>> {
    let crashes = SharedCrashes::in_store(login(settings).store())?;
    Some(CrashSharing::new(crashes, settings.node.clone()?, settings.data_folder()?))
}

impl Host for SiteHost {
    fn classify(&self, uri: &Uri) -> Part {
        let part = classify(uri);
        if let Some(sharing) = &self.crash_sharing
            && part.name().is_some()
        {
            sharing.note_request();
        }
        part
    }

    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        error_page(report, Name::TOOLSHED)
    }

    fn on_look(&self) {
        self.expiry.look();
        if let Some(sharing) = &self.crash_sharing {
            sharing.look();
        }
    }
}

/// The tool at a URI.
fn classify(uri: &Uri) -> Part {
    let Some(tool) = site::tool_at(tools::TABLE, uri.path()) else { return Part::NONE };
    let part = Part::named(tool.name);
    match tool.runs.limits(uri) {
        Some(limits) => part.isolated(limits),
        None => part,
    }
}

/// The site's router, with where it is mounted.
pub(crate) struct Site {
    router: Router,
    /// Where the site is mounted if a request does not show it.
    base: Option<BasePath>,
    /// What the program reports to the site.
    facts: &'static ServerFacts,
    /// Set while the configuration is wrong.
    setup: Option<setup::Setup>,
}

impl Site {
    fn new(configuration: Configuration, site_settings: SiteSettings) -> Self {
        let base = configuration.settings.server.base.clone();
        let is_wrong = !configuration.problems.is_empty();
        let setup = is_wrong.then(|| setup::Setup::new(configuration));
        let router = site::router_with(tools::TABLE, &site_settings);
        Site { router, base, facts: &FACTS, setup }
    }

    /// Ignores passwords that come with a request: anybody who reaches a TCP port could send one.
    pub(crate) fn reached_over_tcp(self) -> Self {
        Site { facts: &FACTS_OVER_TCP, ..self }
    }
}

impl Service<Request<Body>> for Site {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // An owner who has fixed the configuration need not find and kill this process.
        if let Some(configuration) = self.setup.as_mut().and_then(setup::Setup::look_again) {
            *self = Site { facts: self.facts, ..site(configuration) };
        }
        request::describe(&mut request, PROGRAM, self.base.as_ref(), self.facts);
        match &mut self.setup {
            Some(setup) => setup.call(request),
            None => self.router.call(request),
        }
    }
}

/// What the program reports about itself and a request.
static FACTS: ServerFacts = ServerFacts { name: Name::TOOLSHED, facts: facts_of, ..request::FACTS };

/// The same, if anybody may have sent the request's variables.
static FACTS_OVER_TCP: ServerFacts =
    ServerFacts { name: Name::TOOLSHED, facts: facts_of, ..request::FACTS_OVER_TCP };

/// Version, transport, scheme, which of several machines this is, and the client's address.
fn facts_of(extensions: &Extensions) -> Vec<(&'static str, String)> {
    let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let context = RequestContext::of(extensions);
    let transport = match (context.variables(), context.role()) {
        (None, _) => "HTTP",
        (Some(_), None) => "CGI",
        (Some(_), Some(_)) => "FastCGI",
    };
    let mut facts = vec![("Program", program.to_owned()), ("Transport", transport.to_owned())];
    let scheme = match context.scheme() {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    facts.push(("Scheme", scheme.to_owned()));
    if let Some(node) = app_server::node() {
        facts.push(("Node", node.to_owned()));
    }
    if let Some(address) = context.remote_address() {
        facts.push(("Visitor's address", address.to_string()));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_belongs_to_the_tool_that_the_router_finds() {
        for (path, tool) in [
            ("/tools/checksum", Some("checksum")),
            ("/tools/checksum/", Some("checksum")),
            ("/tools/checksum/a/tools/inspect?b", Some("checksum")),
            ("/tools/checksum?/tools/inspect", Some("checksum")),
            ("/tools/", None),
            ("/tools/no-such-tool", None),
            ("/tools/checksums", None),
            ("/tools/checksum;a", None),
            ("/tools/CHECKSUM", None),
            ("/tools/%63hecksum", None),
            ("//tools/checksum", None),
            ("/tools//checksum", None),
            ("/", None),
            // Elsewhere in the URL.
            ("/x/tools/checksum", None),
            ("/x?/tools/checksum", None),
            ("/login?next=/tools/checksum", None),
            ("/static/tools/checksum", None),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(classify(&uri).name(), tool, "{path}");
        }
    }
}
