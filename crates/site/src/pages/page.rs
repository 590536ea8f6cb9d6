//! Pages: the frame that all of them share, and how a tool fills it.
//!
//! Templates are tera's, compiled in; they escape by default. The site's own lie in `templates/`, a
//! tool's beside its code. The frame has the blocks `title`, `head` (for a script) and `main`.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use tera::{Context, Kwargs, State, Tera};

use crate::http::assets;
use crate::http::base_path::BasePath;
use crate::login::Visitor;
use crate::pages::error_page::ErrorPage;
use crate::tool::Tool;

/// The media type of every page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// How a page may be kept, unless the owner sees it: then not at all.
pub(crate) const CACHING: &str = "private, no-cache";

/// A template, by name and text; the text usually comes from `include_str!("page.html")`.
///
/// A page begins with `{% extends "frame.html" %}` and fills the block `main`, and perhaps `title` and
/// `head`. It finds these variables, beside those the handler gives it:
///
/// - `base`: what every link begins with, as in `href="{{ base }}/"`;
/// - `csrf`: what the first field of every form with `method="post"` has to hold, as in
///   `<input type="hidden" name="csrf" value="{{ csrf }}">`; without it the owner's form is refused;
/// - `is_owner`: whether the owner sees the page; `has_login`: whether anybody can log in;
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
    base: BasePath,
    visitor: Visitor,
    of_tool: Option<ToolPages>,
}

impl Page {
    /// Answers with a page: the template of this name, filled with these values.
    ///
    /// A template that cannot be rendered is the tool's fault: a 500 for the visitor, the cause in the
    /// log.
    pub fn show(&self, template: &str, mut context: Context) -> Response {
        insert_frame(&mut context, &self.base, &self.visitor);
        let compiled = match &self.of_tool {
            Some(pages) => {
                context.insert("tool", &describe(pages.tool));
                pages.compiled()
            }
            None if template == "front.html" => &FRONT,
            None => &LOGIN,
        };
        let rendered = compiled.as_ref().map_err(String::clone).and_then(|templates| {
            templates.render(template, &context).map_err(|error| format!("{error:?}"))
        });
        match rendered {
            Ok(html) => ([(CONTENT_TYPE, HTML), (CACHE_CONTROL, CACHING)], html).into_response(),
            Err(error) => {
                let cause = format!("the template {template} cannot be rendered: {error}");
                ErrorPage::new(StatusCode::INTERNAL_SERVER_ERROR).cause(cause).into_response()
            }
        }
    }

    /// Returns who sees the page.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Returns where the site is mounted.
    pub fn base(&self) -> &BasePath {
        &self.base
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let base = parts.extensions.get().cloned().unwrap_or_default();
        let visitor = parts.extensions.get().cloned().unwrap_or_default();
        Ok(Page { base, visitor, of_tool: parts.extensions.get().cloned() })
    }
}

/// A tool and its templates: the request extension by which [`Page`] knows them, set by `router.rs`.
#[derive(Clone, Debug)]
pub(crate) struct ToolPages {
    tool: &'static Tool,
    compiled: Arc<OnceLock<Compiled>>,
}

impl ToolPages {
    /// The templates of a tool, none compiled yet.
    pub(crate) fn of(tool: &'static Tool) -> Self {
        ToolPages { tool, compiled: Arc::default() }
    }

    /// Compiles the tool's templates at their first use.
    fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| compile(self.tool.pages))
    }
}

/// Templates, ready to be filled, or why they cannot be.
type Compiled = Result<Tera, String>;

/// The front page.
static FRONT: LazyLock<Compiled> = LazyLock::new(|| {
    compile(&[Template { name: "front.html", source: include_str!("templates/front.html") }])
});

/// The pages of the login.
static LOGIN: LazyLock<Compiled> = LazyLock::new(|| {
    compile(&[
        Template { name: "crowd.html", source: include_str!("templates/crowd.html") },
        Template { name: "login.html", source: include_str!("templates/login.html") },
        Template { name: "no-password.html", source: include_str!("templates/no-password.html") },
        Template { name: "set-up.html", source: include_str!("templates/set-up.html") },
        Template { name: "account.html", source: include_str!("templates/account.html") },
        Template {
            name: "second-factor.html",
            source: include_str!("templates/second-factor.html"),
        },
    ])
});

/// The page of all failures.
pub(crate) static ERROR: LazyLock<Compiled> = LazyLock::new(|| {
    compile(&[Template { name: "error.html", source: include_str!("templates/error.html") }])
});

/// Gives the frame what it needs.
pub(crate) fn insert_frame(context: &mut Context, base: &BasePath, visitor: &Visitor) {
    context.insert("base", base.as_str());
    context.insert("csrf", visitor.form_token());
    context.insert("is_owner", &visitor.is_owner());
    context.insert("has_login", &visitor.has_login());
}

/// Compiles some templates and the frame they fill.
///
/// Every set is compiled for itself, when the first page of it is shown: a process that answers one
/// request (CGI) would else spend most of its time on pages that nobody asked for.
fn compile(templates: &[Template]) -> Compiled {
    let mut tera = Tera::new();
    tera.register_function("asset", asset_url);
    tera.register_function("icon", icon_url);
    let frame = ("frame.html", include_str!("templates/frame.html"));
    let others = templates.iter().map(|template| (template.name, template.source));
    tera.add_raw_templates([frame].into_iter().chain(others)).map_err(|error| error.to_string())?;
    Ok(tera)
}

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
        let answer = get(&crate::router(BROKEN), "/tools/sample/broken.html");
        assert_eq!(answer.status, 500);
        for name in ["unknown-value.html", "unknown-file.html", "nowhere.html"] {
            let answer = get(&site, &format!("/tools/sample/{name}"));
            assert_eq!(answer.status, 500, "{name}");
            assert!(answer.text().contains("Something went wrong"), "{name}");
            assert!(!answer.text().contains("nowhere"), "{name}");
        }
    }
}
