//! How a handler shows a page: a template, filled with its values and those of the frame.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{Extensions, StatusCode};
use tera::Context;

use super::frame::Frame;
use super::templates::{FRONT, HTML, LOGIN, ToolPages, describe};
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;

/// How a page may be cached, unless it is the owner's: then not at all.
pub(crate) const CACHING: &str = "private, no-cache";

/// What a handler needs to show a page; an extractor that never fails.
///
/// ```
/// # use axum::response::Response;
/// async fn form(page: site::Page) -> Response {
///     page.show("checksum/page.html", site::context! { greeting => "Hello" })
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Page {
    frame: Frame,
    of_tool: Option<ToolPages>,
}

impl Page {
    /// Returns the page for a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Page {
        Page { frame: Frame::of(extensions), of_tool: extensions.get().cloned() }
    }

    /// Returns a page: the template of this name, filled with these values.
    ///
    /// A template that cannot be rendered is the tool's fault: a 500 for the visitor, the cause in the log.
    pub fn show(&self, template: &str, mut context: Context) -> Response {
        self.frame.insert_into(&mut context);
        let templates = match &self.of_tool {
            Some(pages) => {
                context.insert("tool", &describe(pages.tool));
                pages.compiled()
            }
            None if template == "front.html" => &FRONT,
            None => &LOGIN,
        };
        match templates.render(template, &context) {
            Ok(html) => ([(CONTENT_TYPE, HTML), (CACHE_CONTROL, CACHING)], html).into_response(),
            Err(error) => {
                let cause = format!("cannot render the template {template}: {error}");
                HttpError::new(StatusCode::INTERNAL_SERVER_ERROR).cause(cause).into_response()
            }
        }
    }

    /// Returns whether the owner sees the page.
    pub(crate) fn is_owner(&self) -> bool {
        self.frame.is_owner
    }

    /// Returns where the site is mounted.
    pub fn base(&self) -> &BasePath {
        &self.frame.base
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Page::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::assets;
    use crate::testing::get;
    use crate::tool::{Template, Tool};

    const TOOL: Tool = Tool {
        name: "sample",
        title: "Sample & co",
        summary: "A sample.",
        icon: "tool",
        access: crate::Access::Open,
        runs: crate::Runs::Inline,
        pages: &[
            Template {
                name: "sample/good.html",
                source: "{% extends \"frame.html\" %}{% block main %}\
                    <p>{{ word }} {{ tool.path }} {{ asset(path=\"site.css\") }} {{ icon(name=\"tool\") }}</p>\
                    {% endblock %}",
            },
            Template { name: "sample/unknown-value.html", source: "{{ nowhere }}" },
            Template { name: "sample/unknown-file.html", source: "{{ asset(path=\"../x\") }}" },
        ],
        tables: &[],
        router: || {
            axum::Router::new().route(
                "/{page}",
                axum::routing::get(
                    async |page: Page, axum::extract::Path(name): axum::extract::Path<String>| {
                        page.show(&format!("sample/{name}"), tera::context! { word => "<&>" })
                    },
                ),
            )
        },
    };

    #[test]
    fn a_page_has_the_frame_its_values_and_escapes_them() {
        let response = get(&crate::router(const { &[TOOL] }), "/tools/sample/good.html");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some(HTML));
        let html = response.text();
        let css = assets::find("site.css").unwrap().url();
        let icon = assets::find("icons/tool.svg").unwrap().url();
        assert!(html.contains("<title>Sample &amp; co"), "{html}");
        let paragraph = format!("<p>&lt;&amp;&gt; /tools/sample {css} {icon}#icon</p>");
        assert!(html.contains(&paragraph), "{html}");
    }

    /// Escaping depends on the name's extension; this is how a template could lose it.
    #[test]
    fn every_template_of_the_site_escapes_what_it_shows() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages/templates");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(path.extension().unwrap(), "html", "{}", path.display());
            let source = std::fs::read_to_string(&path).unwrap();
            let source: String = source.split_whitespace().collect();
            for forbidden in ["|safe", "autoescape"] {
                assert!(!source.contains(forbidden), "{}: {forbidden}", path.display());
            }
            // An attribute without quotes ends at a space.
            let mut outside_of_quotes = source.split('"').step_by(2);
            assert!(!outside_of_quotes.any(|part| part.contains("={{")), "{}", path.display());
            count += 1;
        }
        assert!(count > 5, "{count}");
    }

    #[test]
    fn a_template_that_fails_is_a_500_page() {
        let site = crate::router(const { &[TOOL] });
        const BROKEN: &[Tool] = &[Tool {
            pages: &[Template { name: "sample/broken.html", source: "{% block" }],
            ..TOOL
        }];
        let response = get(&crate::router(BROKEN), "/tools/sample/broken.html");
        assert_eq!(response.status, 500);
        for name in ["unknown-value.html", "unknown-file.html", "nowhere.html"] {
            let response = get(&site, &format!("/tools/sample/{name}"));
            assert_eq!(response.status, 500, "{name}");
            assert!(response.text().contains("Something went wrong"), "{name}");
            assert!(!response.text().contains("nowhere"), "{name}");
        }
    }
}
