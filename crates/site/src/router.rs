//! The whole site as one router: front page, health, static files, tools.
//!
//! What happens to a response after its handler is in `finish.rs`; who serves the router is not known
//! here.

use axum::Extension;
use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::HeaderMap;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use tera::context;

use crate::assets;
use crate::base_path::BasePath;
use crate::error_page::ErrorPage;
use crate::finish::finish;
use crate::page::{CurrentTool, Page, Templates, describe};
use crate::tool::Tool;

/// Makes the site of a table of tools, in the order of the table.
///
/// Paths are relative to where the site is mounted; the server takes that off and says it with
/// [`BasePath`].
///
/// # Panics
/// When a tool's template or route cannot be used, or two tools have the same name: a mistake in the
/// program that tests over the table find.
pub fn router(tools: &'static [Tool]) -> Router {
    let mut site = Router::new()
        .route("/", get(move |page: Page| front(page, tools)))
        .route("/healthz", get(healthz))
        .route("/static/{*path}", get(static_file));
    for tool in tools {
        let routes = (tool.router)().layer(Extension(CurrentTool(tool)));
        site = site.nest(&tool.path(), routes);
        site = site.route(
            &format!("{}/", tool.path()),
            get(move |base: BasePath, RawQuery(query): RawQuery| async move {
                without_slash(&base, tool, query)
            }),
        );
    }
    site.fallback(async || ErrorPage::new(StatusCode::NOT_FOUND))
        .layer(Extension(Templates::with_tools(tools)))
        .layer(from_fn(finish))
}

async fn front(page: Page, tools: &'static [Tool]) -> Response {
    let tools: Vec<_> = tools.iter().map(describe).collect();
    page.show("front.html", context! { tools => &tools })
}

/// For monitors: the site can answer. It looks at nothing else, so that it costs nothing.
async fn healthz() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok").into_response()
}

async fn static_file(
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    assets::serve(&path, query.as_deref(), &headers)
}

/// A tool has one address; with a slash at its end relative links would mean something else.
fn without_slash(base: &BasePath, tool: &Tool, query: Option<String>) -> Redirect {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    Redirect::permanent(&format!("{}{query}", base.link(&tool.path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, get as get_page, request, send};

    const TOOL: Tool = Tool {
        name: "sample",
        title: "Sample",
        summary: "A tool for tests.",
        icon: "tool",
        pages: &[],
        router: || {
            Router::new()
                .route("/", get(async || "sample"))
                .route("/bare", get(async || StatusCode::IM_A_TEAPOT))
                .route("/own-words", get(async || (StatusCode::CONFLICT, "the words of the tool")))
                .route("/own-policy", get(async || [("content-security-policy", "sandbox")]))
                .route(
                    "/busy",
                    get(async || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")])),
                )
        },
    };

    fn site() -> Router {
        router(const { &[TOOL] })
    }

    fn send_with(method: &str, path: &str, base: &str) -> Answer {
        let request = request(method, path).extension(BasePath::new(base));
        send(&site(), request.body(Default::default()).unwrap())
    }

    /// The values of the attributes that lead somewhere.
    fn links(html: &str) -> Vec<&str> {
        let parts = ["href=\"", "src=\"", "action=\""].map(|name| html.split(name).skip(1));
        parts.into_iter().flatten().filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn the_front_page_lists_the_tools() {
        let answer = get_page(&site(), "/");
        assert_eq!(answer.status, 200);
        for part in ["href=\"/tools/sample\"", "Sample", "A tool for tests.", "icons/tool.svg"] {
            assert!(answer.text().contains(part), "{part}");
        }
    }

    #[test]
    fn health_is_two_letters() {
        let answer = get_page(&site(), "/healthz");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }

    #[test]
    fn every_link_begins_with_the_base() {
        for base in ["", "/project", "/~me/a"] {
            for path in ["/", "/nowhere"] {
                let answer = send_with("GET", path, base);
                let links = links(answer.text());
                assert!(links.len() >= 4, "{path}: {links:?}");
                for link in links.iter().filter(|link| !link.starts_with('#')) {
                    assert!(link.starts_with(&format!("{base}/")), "{base} {path}: {link}");
                    assert!(!link.starts_with("//"), "{base} {path}: {link}");
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
            ("POST", "/", 405, "does not work here", Some("GET,HEAD")),
            ("DELETE", "/tools/sample", 405, "does not work here", Some("GET,HEAD")),
            ("PUT", "/healthz", 405, "does not work here", Some("GET,HEAD")),
            ("POST", "/static/site.css", 405, "does not work here", Some("GET,HEAD")),
            ("GET", "/tools/sample/bare", 418, "did not work", None),
        ] {
            let answer = send_with(method, path, "");
            assert_eq!(answer.status, status, "{method} {path}");
            assert!(answer.text().contains(words), "{method} {path}: {}", answer.text());
            assert!(answer.text().starts_with("<!DOCTYPE html>"), "{method} {path}");
            assert_eq!(answer.header("allow"), allow, "{method} {path}");
        }
    }

    #[test]
    fn a_tools_own_words_and_headers_stay() {
        assert_eq!(get_page(&site(), "/tools/sample/own-words").text(), "the words of the tool");
        let busy = get_page(&site(), "/tools/sample/busy");
        assert_eq!(busy.header("retry-after"), Some("5"));
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

    #[test]
    fn every_response_protects_the_visitor() {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/healthz"),
            ("GET", "/nowhere"),
            ("POST", "/"),
            ("GET", "/tools/sample"),
            ("GET", "/tools/sample/"),
            ("GET", "/static/site.css"),
        ] {
            let answer = send_with(method, path, "");
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'self'"), "{path}");
            assert!(!policy.contains("unsafe"), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{path}");
        }
    }

    #[test]
    fn pages_have_neither_inline_scripts_nor_inline_styles() {
        for path in ["/", "/nowhere"] {
            let answer = get_page(&site(), path);
            for forbidden in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
                assert!(!answer.text().contains(forbidden), "{path}: {forbidden}");
            }
        }
    }

    #[test]
    fn a_slash_too_many_leads_to_the_tool() {
        let answer = send_with("GET", "/tools/sample/?alg=md5", "/project");
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("/project/tools/sample?alg=md5"));
    }

    /// The server brings a body of its own type; this compiles only while the site takes any.
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
    fn a_failure_of_the_site_has_a_reference_and_a_slip_has_none() {
        const FAILS: &[Tool] = &[Tool {
            name: "fails",
            title: "Fails",
            summary: "Always.",
            icon: "checksum",
            pages: &[],
            router: || {
                let failure =
                    || ErrorPage::new(StatusCode::INTERNAL_SERVER_ERROR).cause("a secret");
                Router::new().route("/", get(async move || failure()))
            },
        }];
        for (path, shown) in [("/tools/fails", true), ("/nowhere", false)] {
            let request = request("GET", path).extension(crate::References(|| "7f3a-1".to_owned()));
            let answer = send(&router(FAILS), request.body(Default::default()).unwrap());
            let text = answer.text();
            assert_eq!(text.contains("<code>7f3a-1</code>"), shown, "{path}: {text}");
            assert!(!text.contains("a secret"), "{text}");
        }
    }
}
