//! The whole site as one router: front page, health, static files, tools.
//!
//! What happens before and after a handler is in `middleware.rs`. Nothing here depends on the program that serves the
//! router.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use blobs::Blobs;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Method, StatusCode};
use storage::{Schema, Store};
use tera::context;
use tower_service::Service;

use crate::http::assets;
use crate::http::base_path::BasePath;
use crate::http::compress::compress;
use crate::http::error::HttpError;
use crate::login::{Gate, Visitor, pages};
use crate::middleware::{ForMonitors, MadeBy, Middleware};
use crate::pages::page::Page;
use crate::pages::templates::{ToolPages, describe};
use crate::server::Server;
use crate::settings::SiteSettings;
use crate::tool::{Tool, schemas, tool_name};

/// Makes the site of a table of tools, in the order of the table, with the default settings.
///
/// Paths are relative to where the site is mounted; the server strips that prefix and passes it as [`BasePath`].
pub fn router(tools: &'static [Tool]) -> Router {
    router_with(tools, &SiteSettings::default())
}

/// Makes the site of a table of tools, with the owner's settings.
///
/// This is cheap: a tool's router is built, and its templates are compiled, on the first request for it. A route that
/// axum rejects panics only then; tests over the table find it earlier.
pub fn router_with(tools: &'static [Tool], settings: &SiteSettings) -> Router {
    let gate = settings.login.clone().map(|login| Arc::new(Gate::new(login)));
    let store = gate.as_deref().map(Gate::store);
    let blobs = settings.blobs.clone().map(Blobs::new);
    let mount = |tool| Mounted::new(tool, settings, store, blobs.as_ref());
    let mounted = tools.iter().map(mount).collect::<Arc<[_]>>();
    let known: Arc<[_]> = store.map(|store| schemas(store, tools)).unwrap_or_default().into();
    let (listed, middleware) = (mounted.clone(), Arc::new(Middleware::new(settings, gate.clone())));
    let monitored = for_monitors(gate.clone(), known.clone());
    let login = gate.map(|gate| Arc::new(Login::new(gate, known)));
    let site = Router::new()
        .route("/", get(move |page: Page| front(page, listed.clone())))
        .merge(monitored)
        .route("/static/{*path}", get(static_file))
        .fallback(async move |request: Request| {
            tool_or_nothing(&mounted, login.as_deref(), request).await
        })
        .layer(from_fn(move |request: Request, next: Next| {
            let middleware = middleware.clone();
            async move { middleware.handle(request, next).await }
        }));
    if settings.compress { site.layer(from_fn(compress)) } else { site }
}

/// The login. Its routes are built as a tool's are: on the first request for one.
pub(crate) struct Login {
    gate: Arc<Gate>,
    known: Arc<[Schema]>,
    routes: OnceLock<Router>,
}

impl Login {
    /// `known`: all that the store keeps.
    pub(crate) fn new(gate: Arc<Gate>, known: Arc<[Schema]>) -> Self {
        Login { gate, known, routes: OnceLock::new() }
    }

    pub(crate) async fn respond(&self, request: Request) -> Response {
        let routes = self.routes.get_or_init(|| {
            let routes = pages::routes(self.gate.clone(), self.known.clone());
            routes.fallback(async || HttpError::new(StatusCode::NOT_FOUND))
        });
        let Ok(response) = routes.clone().call(request).await;
        response
    }
}

/// A tool, mounted below `/tools`.
struct Mounted {
    tool: &'static Tool,
    is_public: bool,
    /// The response if the tool is not public and nobody can log in.
    refusal: HttpError,
    /// Its tables.
    store: Option<Store>,
    /// All blobs of the site.
    blobs: Option<Blobs>,
    /// Everything below `/tools/NAME`, built on the first request.
    routes: OnceLock<Router>,
}

impl Mounted {
    fn new(
        tool: &'static Tool,
        settings: &SiteSettings,
        store: Option<&Store>,
        blobs: Option<&Blobs>,
    ) -> Self {
        Mounted {
            tool,
            is_public: settings.opens(tool),
            refusal: refusal(tool, settings),
            store: store.map(|store| store.with_schema(tool.schema())),
            blobs: blobs.cloned(),
            routes: OnceLock::new(),
        }
    }

    fn routes(&self) -> Router {
        let routes = self.routes.get_or_init(|| {
            let tool = self.tool;
            let redirect = async move |base: BasePath, RawQuery(query): RawQuery| {
                without_slash(&base, tool, query)
            };
            let mut routes = (tool.router)().layer(Extension(ToolPages::of(tool)));
            if let Some(store) = &self.store {
                routes = routes.layer(Extension(store.clone()));
            }
            if let Some(blobs) = &self.blobs {
                let name = tool.name.parse().expect("a test checks that names of tools are keys");
                routes = routes.layer(Extension(blobs.with_prefix(&name)));
            }
            Router::new()
                .nest(&tool.path(), routes)
                .route(&format!("{}/", tool.path()), get(redirect))
                .fallback(async || HttpError::new(StatusCode::NOT_FOUND))
        });
        routes.clone()
    }
}

/// Dispatches everything but the site's own pages: to the tool that the path names, to the login, or to 404. A tool
/// that is not public is the owner's.
async fn tool_or_nothing(mounted: &[Mounted], login: Option<&Login>, request: Request) -> Response {
    let Some(name) = tool_name(request.uri().path()) else {
        return match login {
            Some(login) => login.respond(request).await,
            None => HttpError::new(StatusCode::NOT_FOUND).into_response(),
        };
    };
    match mounted.iter().find(|mounted| mounted.tool.name == name) {
        None => HttpError::new(StatusCode::NOT_FOUND).into_response(),
        Some(mounted) if !mounted.is_public && !is_owner(&request) => match login {
            Some(login) => {
                let (method, uri, headers) = (request.method(), request.uri(), request.headers());
                login.gate.ask_to_log_in(method, uri, headers, request.extensions())
            }
            None => mounted.refusal.clone().into_response(),
        },
        Some(mounted) => {
            let Ok(mut response) = mounted.routes().call(request).await;
            response.extensions_mut().insert(MadeBy(mounted.tool));
            response
        }
    }
}

pub(crate) fn is_owner(request: &Request) -> bool {
    request.extensions().get::<Visitor>().is_some_and(Visitor::is_owner)
}

/// The page for a tool that is not public: it tells the owner how to make it so.
fn refusal(tool: &Tool, settings: &SiteSettings) -> HttpError {
    let names = settings.names_with(tool);
    HttpError::new(StatusCode::FORBIDDEN)
        .title(format!("{} is not public", tool.title))
        .message(
            "The owner of this site has not made this tool public. If that is you, put the first line below \
             into toolshed.toml, or set the second one in the environment.",
        )
        .line(format!("public = [\"{}\"]", names.join("\", \"")))
        .line(format!("TOOLSHED_PUBLIC={}", names.join(",")))
}

/// Lists all tools for the owner, and the public ones for visitors.
async fn front(page: Page, mounted: Arc<[Mounted]>) -> Response {
    let is_shown = |mounted: &&Mounted| mounted.is_public || page.is_owner();
    let tools: Vec<_> =
        mounted.iter().filter(is_shown).map(|mounted| describe(mounted.tool)).collect();
    page.show("front.html", context! { tools => &tools })
}

/// Returns the routes for monitors and load balancers. `known`: all that the store keeps.
pub(crate) fn for_monitors(gate: Option<Arc<Gate>>, known: Arc<[Schema]>) -> Router {
    let ready = async move |server: Server| readyz(server, gate.as_deref(), &known).await;
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(ready))
}

/// For monitors and load balancers: the process responds, and stays. It checks nothing else, so that it costs nothing,
/// and what all machines share cannot make all of them look ill.
async fn healthz(server: Server) -> Response {
    health((server.0.is_draining)().then_some("draining"))
}

/// For load balancers: as `/healthz`, and this machine can use what the site keeps.
async fn readyz(server: Server, gate: Option<&Gate>, known: &[Schema]) -> Response {
    if (server.0.is_draining)() {
        return health(Some("draining"));
    }
    let is_ready = match gate {
        Some(gate) => gate.is_ready(known).await,
        None => true,
    };
    health((!is_ready).then_some("not ready"))
}

fn health(problem: Option<&'static str>) -> Response {
    let mut response = ([(CACHE_CONTROL, "no-store")], problem.unwrap_or("ok")).into_response();
    if problem.is_some() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.extensions_mut().insert(ForMonitors);
    }
    response
}

pub(crate) async fn static_file(
    method: Method,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    // No file has a name that is not UTF-8.
    let path = path.map_or(String::new(), |Path(path)| path);
    assets::serve(&method, &path, query.as_deref(), &headers)
}

/// Redirects to a tool's only address: with a trailing slash relative links would mean something else.
fn without_slash(base: &BasePath, tool: &Tool, query: Option<String>) -> Redirect {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    Redirect::permanent(&format!("{}{query}", base.link(&tool.path())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Access;
    use crate::login::authorizer::AuthorizerQuery;
    use crate::server::{Server, ServerFacts};
    use crate::testing::{SAMPLE, TestResponse, get as get_page, request, send};

    const TOOL: Tool = Tool {
        router: || {
            Router::new()
                .route("/", get(async || "sample"))
                .route("/bare", get(async || StatusCode::IM_A_TEAPOT))
                .route("/own-words", get(async || (StatusCode::CONFLICT, "the words of the tool")))
                .route("/own-policy", get(async || [("content-security-policy", "sandbox")]))
                .route(
                    "/busy",
                    get(async || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")])),
                )
        },
        ..SAMPLE
    };

    fn site() -> Router {
        router(const { &[TOOL] })
    }

    fn send_with(method: &str, path: &str, base: &str) -> TestResponse {
        let request = request(method, path).extension(BasePath::new(base));
        send(&site(), request.body(Default::default()).unwrap())
    }

    /// Returns the values of the attributes that are links.
    fn links(html: &str) -> Vec<&str> {
        let parts = ["href=\"", "src=\"", "action=\""].map(|name| html.split(name).skip(1));
        parts.into_iter().flatten().filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn the_front_page_lists_the_tools() {
        let response = get_page(&site(), "/");
        assert_eq!(response.status, 200);
        for part in ["href=\"/tools/sample\"", "Sample", "A tool for tests.", "icons/tool.svg"] {
            assert!(response.text().contains(part), "{part}");
        }
    }

    #[test]
    fn health_is_ok() {
        let response = get_page(&site(), "/healthz");
        assert_eq!((response.status.as_u16(), response.text()), (200, "ok"));
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }

    #[test]
    fn every_link_starts_with_the_base() {
        for base in ["", "/project", "/~me/a"] {
            for path in ["/", "/nowhere"] {
                let response = send_with("GET", path, base);
                let links = links(response.text());
                assert!(links.len() >= 4, "{path}: {links:?}");
                for link in links.iter().filter(|link| !link.starts_with('#')) {
                    assert!(link.starts_with(&format!("{base}/")), "{base} {path}: {link}");
                    assert!(!link.starts_with("//"), "{base} {path}: {link}");
                }
            }
        }
    }

    /// A program's name in a path has no special meaning.
    #[test]
    fn a_path_with_the_name_of_a_program_is_not_the_front_page() {
        for base in ["", "/project"] {
            for path in [
                "/x.cgi",
                "/x.cgi/",
                "/x.fcgi",
                "/dispatch.fcgi",
                "/dispatch.fcgi/",
                "/dispatch.fcgi/tools/sample",
                "/;Domain=host.test;/x.cgi",
                "/;Domain=host.test;/x.cgi/tools/sample",
            ] {
                let response = send_with("GET", path, base);
                assert_eq!(response.status, 404, "{base} {path}");
                assert!(!response.text().contains("x.cgi"), "{base} {path}: {}", response.text());
            }
        }
    }

    /// If the web server builds BASE from what the visitor sent, none of it gets into links or headers.
    #[test]
    fn a_forged_base_is_in_no_link_and_no_header() {
        for base in [
            "/;Domain=evil.example;/x.cgi",
            "/a,</evil.example>;rel=preload",
            "//evil.example",
            "/\\evil.example",
            "/\"onload=evil",
            "/evil?",
            "/evil#",
        ] {
            for path in ["/", "/nowhere", "/tools/sample/?a=b", "/tools/sample/bare"] {
                let response = send_with("GET", path, base);
                assert!(!response.text().contains("evil"), "{base} {path}: {}", response.text());
                for (name, value) in &response.headers {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    assert!(!value.contains("evil"), "{base} {path}: {name}: {value}");
                }
            }
        }
    }

    #[test]
    fn failures_are_pages_wherever_they_come_from() {
        for (method, path, status, words, allow) in [
            ("GET", "/nowhere", 404, "Page not found", None),
            ("POST", "/nowhere", 404, "Page not found", None),
            ("GET", "/tools/sample/nowhere", 404, "Page not found", None),
            ("GET", "/tools/nowhere", 404, "Page not found", None),
            ("POST", "/", 405, "Method not allowed", Some("GET,HEAD")),
            ("DELETE", "/tools/sample", 405, "Method not allowed", Some("GET,HEAD")),
            ("PUT", "/healthz", 405, "Method not allowed", Some("GET,HEAD")),
            ("POST", "/static/site.css", 405, "Method not allowed", Some("GET,HEAD")),
            ("GET", "/tools/sample/bare", 418, "Request failed", None),
        ] {
            let response = send_with(method, path, "");
            assert_eq!(response.status, status, "{method} {path}");
            assert!(response.text().contains(words), "{method} {path}: {}", response.text());
            assert!(response.text().starts_with("<!DOCTYPE html>"), "{method} {path}");
            assert_eq!(response.header("allow"), allow, "{method} {path}");
        }
    }

    #[test]
    fn a_tools_own_words_and_headers_stay() {
        assert_eq!(get_page(&site(), "/tools/sample/own-words").text(), "the words of the tool");
        let busy = get_page(&site(), "/tools/sample/busy");
        assert_eq!(busy.header("retry-after"), Some("7"));
        assert!(busy.text().contains("Just a moment"));
        let policy = get_page(&site(), "/tools/sample/own-policy");
        assert_eq!(policy.header("content-security-policy"), Some("sandbox"));
    }

    #[test]
    fn head_is_get_without_the_body() {
        for path in ["/", "/healthz", "/nowhere", "/tools/sample", "/static/site.css"] {
            let (get, head) = (send_with("GET", path, ""), send_with("HEAD", path, ""));
            assert_eq!(head.status, get.status, "{path}");
            assert!(head.body.is_empty(), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            let length = get.body.len().to_string();
            assert_eq!(head.header("content-length"), Some(&*length), "{path}");
        }
    }

    const FOR_ALL: [(&str, &str); 3] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
    ];
    const FOR_PAGES: [(&str, &str); 4] = [
        ("cross-origin-opener-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), \
             screen-wake-lock=(), usb=()",
        ),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ];

    /// All headers of each kind of response except its length; docs/headers.md explains each.
    #[test]
    fn every_kind_of_response_has_exactly_these_headers() {
        const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
        const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
        const NO_STORE: (&str, &str) = ("cache-control", "no-store");
        const KEPT: (&str, &str) = ("cache-control", "private, no-cache");
        const BY_ACCEPT: (&str, &str) = ("vary", "accept");
        let css = assets::find("site.css").unwrap();
        let (css_url, tag) = (css.url(), format!("\"{:016x}\"", css.version));
        /// What kind, how it is requested, whether it is a page, and its headers besides the common ones.
        type Kind<'a> = (&'a str, &'a str, &'a str, bool, &'a [(&'a str, &'a str)]);
        let kinds: [Kind<'_>; 10] = [
            ("front page", "GET", "/", true, &[HTML, KEPT]),
            ("missing page", "GET", "/nowhere", true, &[HTML, NO_STORE, BY_ACCEPT]),
            (
                "wrong method",
                "POST",
                "/",
                true,
                &[HTML, NO_STORE, BY_ACCEPT, ("allow", "GET,HEAD")],
            ),
            ("closed tool", "GET", "/tools/named", true, &[HTML, NO_STORE, BY_ACCEPT]),
            ("a tool's response", "GET", "/tools/sample", false, &[TEXT]),
            ("a tool's failure", "GET", "/tools/sample/bare", true, &[HTML, NO_STORE, BY_ACCEPT]),
            ("redirect", "GET", "/tools/sample/", false, &[("location", "/tools/sample")]),
            ("monitor", "GET", "/healthz", false, &[TEXT, NO_STORE]),
            (
                "file",
                "GET",
                &css_url,
                false,
                &[
                    ("content-type", "text/css; charset=utf-8"),
                    ("cache-control", "public, max-age=31536000, immutable"),
                    ("accept-ranges", "bytes"),
                    ("etag", &tag),
                    ("vary", "accept-encoding"),
                ],
            ),
            ("missing file", "GET", "/static/nowhere.css", true, &[HTML, NO_STORE, BY_ACCEPT]),
        ];
        static OVER_TLS: ServerFacts = ServerFacts { is_https: |_| true, ..*Server::SILENT.0 };
        let settings =
            SiteSettings { hsts: Duration::from_secs(15_768_000), ..SiteSettings::default() };
        let site = router_with(NAMED, &settings);
        for is_https in [false, true] {
            for (kind, method, path, is_page, own) in kinds {
                let server = if is_https { Server(&OVER_TLS) } else { Server::SILENT };
                let request = request(method, path).extension(server);
                let response = send(&site, request.body(Default::default()).unwrap());
                let mut expected: Vec<_> = FOR_ALL.into_iter().chain(own.iter().copied()).collect();
                expected.extend(FOR_PAGES.into_iter().filter(|_| is_page));
                if is_https {
                    expected.push(("strict-transport-security", "max-age=15768000"));
                }
                expected.sort_unstable();
                let found = response.headers.iter().filter(|(name, _)| *name != "content-length");
                let found = found.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
                let mut found: Vec<_> = found.collect();
                found.sort_unstable();
                assert_eq!(found, expected, "{kind}: {method} {path}, HTTPS: {is_https}");
            }
        }
    }

    /// The page that a web server shows on our behalf, for a folder outside the site.
    #[test]
    fn a_refusal_for_the_web_server_protects_the_visitor_too() {
        for asks in
            [AuthorizerQuery::Check(BasePath::new("")), AuthorizerQuery::Refusal(BasePath::new(""))]
        {
            for accept in ["text/html", "text/plain"] {
                let request = request("GET", "/beside").header("accept", accept);
                let request = request.extension(asks.clone()).body(Default::default()).unwrap();
                let response = send(&site(), request);
                assert_eq!(response.status, 403, "{asks:?}");
                let for_pages = FOR_PAGES.into_iter().filter(|_| accept == "text/html");
                for (name, value) in FOR_ALL.into_iter().chain(for_pages) {
                    assert_eq!(response.header(name), Some(value), "{asks:?} {accept}: {name}");
                }
            }
        }
    }

    #[test]
    fn pages_have_neither_inline_scripts_nor_inline_styles() {
        for path in ["/", "/nowhere"] {
            let response = get_page(&site(), path);
            for forbidden in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
                assert!(!response.text().contains(forbidden), "{path}: {forbidden}");
            }
        }
    }

    #[test]
    fn a_trailing_slash_redirects_to_the_tool() {
        let response = send_with("GET", "/tools/sample/?alg=md5", "/project");
        assert_eq!(response.status, 308);
        assert_eq!(response.header("location"), Some("/project/tools/sample?alg=md5"));
    }

    /// The server has its own body type; this compiles only as long as the site accepts any.
    #[test]
    fn the_site_takes_any_body() {
        use tower_service::Service;

        struct Foreign;
        impl http_body::Body for Foreign {
            type Data = bytes::Bytes;
            type Error = std::io::Error;

            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>>
            {
                std::task::Poll::Ready(None)
            }
        }
        let request = request("GET", "/healthz").body(Foreign).unwrap();
        let Ok(response) = crate::testing::block_on(site().call(request));
        assert_eq!(response.status(), 200);
    }

    #[test]
    fn server_errors_have_a_reference_and_client_errors_do_not() {
        const FAILS: &[Tool] = &[Tool {
            name: "fails",
            router: || {
                let failure =
                    || HttpError::new(StatusCode::INTERNAL_SERVER_ERROR).cause("a secret");
                Router::new().route("/", get(async move || failure()))
            },
            ..SAMPLE
        }];
        for (path, shown) in [("/tools/fails", true), ("/nowhere", false)] {
            const FACTS: ServerFacts =
                ServerFacts { reference: || "7f3a-1".to_owned(), ..*Server::SILENT.0 };
            let request = request("GET", path).extension(Server(&FACTS));
            let response = send(&router(FAILS), request.body(Default::default()).unwrap());
            let text = response.text();
            assert_eq!(text.contains("<code>7f3a-1</code>"), shown, "{path}: {text}");
            assert!(!text.contains("a secret"), "{text}");
        }
    }

    #[test]
    fn a_process_that_is_about_to_exit_says_so_only_to_load_balancers() {
        const LEAVING: ServerFacts = ServerFacts { is_draining: || true, ..*Server::SILENT.0 };
        for (path, facts, status, text) in [
            ("/healthz", &LEAVING, 503, "draining"),
            ("/readyz", &LEAVING, 503, "draining"),
            ("/tools/sample", &LEAVING, 200, "sample"),
            ("/healthz", Server::SILENT.0, 200, "ok"),
            ("/readyz", Server::SILENT.0, 200, "ok"),
        ] {
            let request = request("GET", path).extension(Server(facts));
            let response = send(&site(), request.body(Default::default()).unwrap());
            assert_eq!((response.status.as_u16(), response.text()), (status, text), "{path}");
        }
    }

    const NAMED: &[Tool] =
        &[TOOL, Tool { name: "named", title: "Named", access: Access::Named, ..TOOL }];

    #[test]
    fn a_tool_that_has_to_be_named_says_how_and_is_not_listed() {
        let site = router(NAMED);
        for path in ["/tools/named", "/tools/named/", "/tools/named/bare"] {
            let response = get_page(&site, path);
            assert_eq!(response.status, 403, "{path}");
            for line in
                ["public = [&quot;all&quot;, &quot;named&quot;]", "TOOLSHED_PUBLIC=all,named"]
            {
                assert!(response.text().contains(line), "{path}: {}", response.text());
            }
        }
        assert!(!get_page(&site, "/").text().contains("/tools/named"));
        assert_eq!(get_page(&site, "/tools/sample").status, 200);
        assert_eq!(get_page(&site, "/tools/namedd").status, 404);
    }

    #[test]
    fn named_tools_are_public_and_listed_and_no_others() {
        let site = router_with(NAMED, &SiteSettings::default().public(["named"]));
        assert_eq!(get_page(&site, "/tools/named").text(), "sample");
        assert_eq!(get_page(&site, "/tools/sample").status, 403);
        let front = get_page(&site, "/");
        assert!(front.text().contains("/tools/named") && !front.text().contains("/tools/sample"));
    }

    #[test]
    fn the_page_of_a_tools_failure_leads_back_to_the_tool() {
        for (path, leads_back) in [
            ("/tools/sample/bare", true),
            ("/tools/sample/nowhere", true),
            ("/tools/nowhere", false),
            ("/nowhere", false),
        ] {
            let response = send_with("GET", path, "/project");
            let link = "<a class=\"button\" href=\"/project/tools/sample\">Back to Sample</a>";
            assert_eq!(response.text().contains(link), leads_back, "{path}: {}", response.text());
            assert!(response.text().contains("href=\"/project/\""), "{path}");
        }
    }
}
