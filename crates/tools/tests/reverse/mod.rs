//! The tool *reverse*: reverses a text. The reversing itself is in `logic.rs`.

use std::collections::HashMap;

use axum::Router;
use axum::extract::Form;
use axum::response::Response;
use axum::routing::get;
use site::{Access, Page, Runs, Template, Tool, context};

mod logic;
#[cfg(test)]
mod tests;

/// The tool's entry in the table.
pub(crate) const TOOL: Tool = Tool {
    name: "reverse",
    title: "Reverse",
    summary: "Reverses a text.",
    icon: "reverse",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[Template { name: "reverse/page.html", source: include_str!("page.html") }],
    tables: &[],
    router,
};

fn router() -> Router {
    Router::new().route("/", get(form).post(respond))
}

async fn form(page: Page) -> Response {
    page.show("reverse/page.html", context! { text => "", reversed => "" })
}

async fn respond(page: Page, Form(fields): Form<HashMap<String, String>>) -> Response {
    let text = fields.get("text").map_or("", String::as_str);
    page.show("reverse/page.html", context! { text => text, reversed => &logic::reverse(text) })
}
