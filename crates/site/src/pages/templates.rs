//! Templates, compiled at their first use: the site's own and those of tools.
//!
//! They are tera's and escape by default. The site's own are in `templates/`, a tool's beside its code. All of them
//! extend the frame, which has the blocks `title`, `head` (for a script) and `main`. Which values a page shows is not
//! decided here.

use std::sync::{Arc, LazyLock, OnceLock};

use tera::{Context, Kwargs, State, Tera};

use crate::http::assets;
use crate::tool::{Template, Tool};

/// The media type of every page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// Templates, ready to be filled, or why they cannot be.
#[derive(Debug)]
pub(crate) struct Templates(Result<Tera, String>);

impl Templates {
    /// Compiles some templates and the frame they fill.
    ///
    /// Every set is compiled on its own, when its first page is shown: otherwise a process that serves a single request
    /// (CGI) would spend most of its time on pages that nobody asked for.
    fn compile(templates: &[Template]) -> Templates {
        let mut tera = Tera::new();
        tera.register_function("asset", asset_url);
        tera.register_function("icon", icon_url);
        let frame = ("frame.html", include_str!("templates/frame.html"));
        let others = templates.iter().map(|template| (template.name, template.source));
        let added = tera.add_raw_templates([frame].into_iter().chain(others));
        Templates(added.map(|()| tera).map_err(|error| error.to_string()))
    }

    /// Fills a template with these values.
    ///
    /// # Errors
    ///
    /// If a template of the set is broken, or this one needs a value that is missing.
    pub(crate) fn render(&self, name: &str, context: &Context) -> Result<String, String> {
        let tera = self.0.as_ref().map_err(String::clone)?;
        tera.render(name, context).map_err(|error| format!("{error:?}"))
    }
}

/// A tool and its templates, as a request extension: `router.rs` sets it, `page.rs` reads it.
#[derive(Clone, Debug)]
pub(crate) struct ToolPages {
    pub(crate) tool: &'static Tool,
    compiled: Arc<OnceLock<Templates>>,
}

impl ToolPages {
    /// The templates of a tool, not compiled yet.
    pub(crate) fn of(tool: &'static Tool) -> Self {
        ToolPages { tool, compiled: Arc::default() }
    }

    /// Returns the tool's templates, compiling them at their first use.
    pub(crate) fn compiled(&self) -> &Templates {
        self.compiled.get_or_init(|| Templates::compile(self.tool.pages))
    }
}

/// The front page.
pub(crate) static FRONT: LazyLock<Templates> = LazyLock::new(|| {
    Templates::compile(&[Template {
        name: "front.html",
        source: include_str!("templates/front.html"),
    }])
});

/// The pages of the login.
pub(crate) static LOGIN: LazyLock<Templates> = LazyLock::new(|| {
    Templates::compile(&[
        Template { name: "crowd.html", source: include_str!("templates/crowd.html") },
        Template { name: "login.html", source: include_str!("templates/login.html") },
        Template { name: "no-password.html", source: include_str!("templates/no-password.html") },
        Template { name: "set-up.html", source: include_str!("templates/set-up.html") },
        Template { name: "account.html", source: include_str!("templates/account.html") },
        Template { name: "store.html", source: include_str!("templates/store.html") },
        Template {
            name: "second-factor.html",
            source: include_str!("templates/second-factor.html"),
        },
    ])
});

/// The page of all errors.
pub(crate) static ERROR: LazyLock<Templates> = LazyLock::new(|| {
    Templates::compile(&[Template {
        name: "error.html",
        source: include_str!("templates/error.html"),
    }])
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
