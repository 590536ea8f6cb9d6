//! A tool: one entry of the plugin table.
//!
//! Only the description lives here. The table itself is in the crate `tools`, and `router.rs` mounts it.

use crate::Template;

/// One small web tool, as the table of tools lists it.
///
/// A plain value, so that a table of tools can be `const`:
///
/// ```
/// use axum::{Router, routing::get};
/// use site::{Access, Page, Template, Tool, context};
///
/// pub const TOOL: Tool = Tool {
///     name: "hello",
///     title: "Hello",
///     summary: "Says hello.",
///     icon: "tool",
///     access: Access::Open,
///     pages: &[Template {
///         name: "hello/page.html",
///         source: r#"{% extends "frame.html" %}{% block main %}<p>Hello, {{ who }}!</p>{% endblock %}"#,
///     }],
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
    /// The name that people read: the heading of the page and of the card on the front page.
    pub title: &'static str,
    /// One sentence for the card on the front page: what a visitor gets from the tool.
    pub summary: &'static str,
    /// The icon: `NAME` stands for `static/icons/NAME.svg`.
    pub icon: &'static str,
    /// Whether the tool is open as soon as the site is.
    pub access: Access,
    /// The templates of the tool. Names begin with the tool's name and a slash, so that no two tools
    /// can mean the same one.
    pub pages: &'static [Template],
    /// Makes the tool's router, when the first request for the tool comes. Its `/` becomes
    /// `BASE/tools/NAME`.
    pub router: fn() -> axum::Router,
}

/// Who may use a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, on a site whose owner opens `all`.
    Open,
    /// Everybody, when the owner has opened it by its name: a tool that shows what is the owner's.
    Named,
}

impl Tool {
    /// Returns where the tool lives, below BASE: `/tools/NAME`.
    pub fn path(&self) -> String {
        format!("/tools/{}", self.name)
    }

    /// Returns the tool's icon as a path in `static/`: `icons/NAME.svg`.
    pub fn icon_file(&self) -> String {
        format!("icons/{}.svg", self.icon)
    }
}
