//! A tool: one entry of the plugin table.
//!
//! Only the description lives here: plain values. The table itself is in the crate `tools`; `router.rs` mounts it.

use http::Uri;
use process::Limits;
use storage::{Migration, Schema, Store};

/// One small web tool, as the table of tools lists it.
///
/// A plain value, so that a table of tools can be `const`:
///
/// ```
/// use axum::{Router, routing::get};
/// use site::{Access, Page, Runs, Template, Tool, context};
///
/// pub const TOOL: Tool = Tool {
///     name: "hello",
///     title: "Hello",
///     summary: "Says hello.",
///     icon: "tool",
///     access: Access::Open,
///     runs: Runs::Inline,
///     pages: &[Template {
///         name: "hello/page.html",
///         source: r#"{% extends "frame.html" %}{% block main %}<p>Hello, {{ who }}!</p>{% endblock %}"#,
///     }],
///     tables: &[],
///     router,
/// };
///
/// fn router() -> Router {
///     Router::new().route("/", get(async |page: Page| page.show("hello/page.html", context! { who => "you" })))
/// }
///
/// let site = site::router(const { &[TOOL] });
/// assert!(site::testing::get(&site, "/tools/hello").text().contains("Hello, you!"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The name in URLs (`BASE/tools/NAME`), in logs and of the tool's folder: lower-case ASCII
    /// letters, digits and inner hyphens.
    pub name: &'static str,
    /// The name for people: the heading of the page and of the card on the front page.
    pub title: &'static str,
    /// One sentence for the card on the front page: what a visitor gets from the tool.
    pub summary: &'static str,
    /// The icon: `NAME` stands for `static/icons/NAME.svg`.
    pub icon: &'static str,
    /// Whether the tool is public as soon as the site is.
    pub access: Access,
    /// In which process the tool's handlers run.
    pub runs: Runs,
    /// The templates of the tool. Names start with the tool's name and a slash, so that no two tools
    /// use the same one.
    pub pages: &'static [Template],
    /// What makes the tables that the tool keeps its rows in, in order: new migrations are appended. Its handlers get
    /// a handle on them as `Extension<Store>`, on a site with a login, and one on the tool's own blobs as
    /// `Extension<Blobs>`. Table names start with the tool's name, because
    /// all tools share a store.
    pub tables: &'static [Migration],
    /// Makes the tool's router, on the first request for the tool. Its `/` becomes `BASE/tools/NAME`.
    pub router: fn() -> axum::Router,
}

/// A template: its name and its text, usually from `include_str!("page.html")`.
///
/// A page starts with `{% extends "frame.html" %}` and fills the block `main`, and perhaps `title` and
/// `head`. Besides those the handler passes, it has these variables:
///
/// - `base`: what every link starts with, as in `href="{{ base }}/"`;
/// - `csrf`: the value of the first field of every form with `method="post"`, as in
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
    /// Its name: a tool's starts with the tool's name and a slash and ends with `.html`, because that
    /// extension turns on escaping.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// Who may use a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, on a site whose owner makes `all` public.
    Open,
    /// Everybody, once the owner has made it public by name: a tool that shows private data.
    Named,
}

/// In which process a tool's handlers run.
#[derive(Clone, Copy, Debug)]
pub enum Runs {
    /// In the server's own: for short work. While it computes, all other visitors wait, and if it crashes, the whole
    /// server has to recover.
    Inline,
    /// In a child process of its own for each request, with limits: for work that takes long, takes much memory or
    /// calls code that may crash. Costs a fork, about a millisecond. The handler sees the same request and responds in
    /// the same way; what it changes in memory is lost once the response is sent.
    ///
    /// The owner's settings may raise these limits, never lower them.
    Isolated(Limits),
    /// As the function decides by the request's URI below BASE: `None` for inline.
    Chosen(fn(&Uri) -> Option<Limits>),
}

impl Runs {
    /// Returns the limits of a request that is isolated; `None` for one that runs inline. `uri` is the URI below
    /// BASE.
    pub fn limits(&self, uri: &Uri) -> Option<Limits> {
        match self {
            Runs::Inline => None,
            Runs::Isolated(limits) => Some(*limits),
            Runs::Chosen(choose) => choose(uri),
        }
    }
}

/// Returns the tool that a path below BASE belongs to, if any: `/tools/NAME…`.
pub fn tool_at<'a>(tools: &'a [Tool], path: &str) -> Option<&'a Tool> {
    let name = tool_name(path)?;
    tools.iter().find(|tool| tool.name == name)
}

/// Returns the NAME in `/tools/NAME…`, whether or not there is such a tool.
pub(crate) fn tool_name(path: &str) -> Option<&str> {
    path.strip_prefix("/tools/")?.split('/').next()
}

/// Returns all that a site with these tools keeps in its store.
pub fn schemas(store: &Store, tools: &[Tool]) -> Vec<Schema> {
    std::iter::once(store.schema()).chain(tools.iter().map(Tool::schema)).collect()
}

impl Tool {
    /// Returns its tables.
    pub fn schema(&self) -> Schema {
        Schema { name: self.name, migrations: self.tables }
    }

    /// Returns where the tool lives, below BASE: `/tools/NAME`.
    pub fn path(&self) -> String {
        format!("/tools/{}", self.name)
    }

    /// Returns the tool's icon as a path in `static/`: `icons/NAME.svg`.
    pub fn icon_file(&self) -> String {
        format!("icons/{}.svg", self.icon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SAMPLE;

    #[test]
    fn paths_belong_to_tools() {
        let tool = |name| Tool {
            name,
            runs: Runs::Chosen(|uri| uri.query().map(|_| Limits::DEFAULT)),
            ..SAMPLE
        };
        let tools = [tool("one"), tool("two")];
        for (path, name) in [
            ("/tools/one", Some("one")),
            ("/tools/two/deep/er", Some("two")),
            ("/tools/two/", Some("two")),
            ("/tools/onetwo", None),
            ("/tools/", None),
            ("/one", None),
            ("/", None),
        ] {
            assert_eq!(tool_at(&tools, path).map(|tool| tool.name), name, "{path}");
        }
        let limits = |uri: &str| tools[0].runs.limits(&uri.parse().unwrap());
        assert_eq!((limits("/tools/one"), limits("/tools/one?x")), (None, Some(Limits::DEFAULT)));
        assert_eq!(Runs::Inline.limits(&Uri::from_static("/")), None);
        let small = Limits { memory: 1, ..Limits::DEFAULT };
        assert_eq!(Runs::Isolated(small).limits(&Uri::from_static("/")), Some(small));
    }
}
