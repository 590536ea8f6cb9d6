//! Pages: the frame that all of them share, and how a tool fills it.
//!
//! Templates are tera's, compiled in; they escape by default. The site's own lie in `templates/`, a
//! tool's beside its code. The frame has the blocks `title`, `head` (for a script) and `main`.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use tera::{Context, Kwargs, State, Tera};

use crate::assets;
use crate::base_path::BasePath;
use crate::error_page::ErrorPage;
use crate::tool::Tool;

/// The media type of every page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// A template, by name and text; the text usually comes from `include_str!("page.html")`.
///
/// A page begins with `{% extends "frame.html" %}` and fills the block `main`, and perhaps `title` and
/// `head`. It finds these variables, beside those the handler gives it:
///
/// - `base`: what every link begins with, as in `href="{{ base }}/"`;
/// - `tool.name`, `tool.title`, `tool.summary`, `tool.path` of the tool it belongs to;
///
/// and these functions:
///
/// - `asset(path="site.css")`: the URL of a file in `static/`, BASE and version included;
/// - `icon(name="checksum")`: the URL of an icon for `<use href="…"></use>` in an `<svg>`.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name: a tool's begins with the tool's name and a slash and ends with `.html`, for that
    /// ending turns on escaping.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
}

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
    templates: Arc<Tera>,
    base: BasePath,
    tool: Option<&'static Tool>,
}

impl Page {
    /// Answers with a page: the template of this name, filled with these values.
    ///
    /// A template that cannot be rendered is the tool's fault: a 500 for the visitor, the cause in the
    /// log.
    pub fn show(&self, template: &str, mut context: Context) -> Response {
        context.insert("base", self.base.as_str());
        if let Some(tool) = self.tool {
            context.insert("tool", &describe(tool));
        }
        match self.templates.render(template, &context) {
            Ok(html) => {
                ([(CONTENT_TYPE, HTML), (CACHE_CONTROL, "private, no-cache")], html).into_response()
            }
            Err(error) => {
                let cause = format!("the template {template} cannot be rendered: {error:?}");
                ErrorPage::new(StatusCode::INTERNAL_SERVER_ERROR).cause(cause).into_response()
            }
        }
    }

    /// Returns where the site is mounted.
    pub fn base(&self) -> &BasePath {
        &self.base
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let Templates(templates) = parts.extensions.get().cloned().unwrap_or_default();
        let base = parts.extensions.get().cloned().unwrap_or_default();
        let tool = parts.extensions.get().map(|CurrentTool(tool)| *tool);
        Ok(Page { templates, base, tool })
    }
}

/// The request extension with the templates of the site, set by `router.rs`.
#[derive(Clone)]
pub(crate) struct Templates(Arc<Tera>);

impl Templates {
    /// The site's own templates and those of its tools.
    ///
    /// # Panics
    /// When a template cannot be parsed. They are compiled in, so a test finds it before any visitor.
    pub(crate) fn with_tools(tools: &[Tool]) -> Self {
        let mut tera = OWN.clone();
        let pages = tools.iter().flat_map(|tool| tool.pages);
        let added = tera.add_raw_templates(pages.map(|page| (page.name, page.source)));
        if let Err(error) = added {
            panic!("a template of a tool cannot be used: {error}");
        }
        Templates(Arc::new(tera))
    }
}

/// Outside a site (a tool's router on its own) there are the site's own templates.
impl Default for Templates {
    fn default() -> Self {
        Templates(Arc::new(OWN.clone()))
    }
}

/// The request extension that says which tool a request is for, set by `router.rs`.
#[derive(Clone, Copy)]
pub(crate) struct CurrentTool(pub(crate) &'static Tool);

/// The site's own templates; of the tools' it knows nothing.
pub(crate) static OWN: LazyLock<Tera> = LazyLock::new(|| {
    let mut tera = Tera::new();
    tera.register_function("asset", asset_url);
    tera.register_function("icon", icon_url);
    let added = tera.add_raw_templates([
        ("frame.html", include_str!("templates/frame.html")),
        ("front.html", include_str!("templates/front.html")),
        ("error.html", include_str!("templates/error.html")),
    ]);
    if let Err(error) = added {
        panic!("a template of the site cannot be used: {error}");
    }
    tera
});

/// A tool as templates see it.
pub(crate) fn describe(tool: &Tool) -> serde_json::Value {
    serde_json::json!({
        "name": tool.name,
        "title": tool.title,
        "summary": tool.summary,
        "icon": tool.icon,
        "path": tool.path(),
    })
}

/// The template function `asset(path=…)`.
fn asset_url(arguments: Kwargs, state: &State) -> tera::TeraResult<String> {
    let path = arguments.must_get::<&str>("path")?;
    url(path, state)
}

/// The template function `icon(name=…)`. Every icon's root element has the id `icon`.
fn icon_url(arguments: Kwargs, state: &State) -> tera::TeraResult<String> {
    let name = arguments.must_get::<&str>("name")?;
    Ok(url(&format!("icons/{name}.svg"), state)? + "#icon")
}

fn url(path: &str, state: &State) -> tera::TeraResult<String> {
    let asset = assets::find(path)
        .ok_or_else(|| tera::Error::message(format!("there is no static/{path}")))?;
    let base = state.get::<String>("base")?.unwrap_or_default();
    Ok(format!("{base}{}", asset.url()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::get;

    const TOOL: Tool = Tool {
        name: "sample",
        title: "Sample & co",
        summary: "A sample.",
        icon: "tool",
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
        let answer = get(&crate::router(const { &[TOOL] }), "/tools/sample/good.html");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(HTML));
        let html = answer.text();
        let css = assets::find("site.css").unwrap().url();
        let icon = assets::find("icons/tool.svg").unwrap().url();
        assert!(html.contains("<title>Sample &amp; co"), "{html}");
        let paragraph = format!("<p>&lt;&amp;&gt; /tools/sample {css} {icon}#icon</p>");
        assert!(html.contains(&paragraph), "{html}");
    }

    #[test]
    fn a_template_that_fails_is_a_500_page() {
        let site = crate::router(const { &[TOOL] });
        for name in ["unknown-value.html", "unknown-file.html", "nowhere.html"] {
            let answer = get(&site, &format!("/tools/sample/{name}"));
            assert_eq!(answer.status, 500, "{name}");
            assert!(answer.text().contains("Something went wrong"), "{name}");
            assert!(!answer.text().contains("nowhere"), "{name}");
        }
    }
}
