//! The tool *inspect*: what the server received, and what the program is and may do.
//!
//! It shows private information, so it is public only if named, and masks possible secrets (`logic.rs`). Here the
//! request and `/proc/self` are read.

use std::fs;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use site::{Access, Format, Page, Runs, Server, Template, Tool, context};

use logic::{
    HIDDEN, Limit, duration_in_words, mask_header, mask_variable, size_in_words, without_secrets,
};

mod logic;
#[cfg(test)]
mod tests;

/// The tool's entry in the table.
pub(crate) const TOOL: Tool = Tool {
    name: "inspect",
    title: "Inspect",
    summary: "How your request reached the server, and what its process is allowed to do.",
    icon: "inspect",
    access: Access::Named,
    runs: Runs::Inline,
    pages: &[Template { name: PAGE, source: include_str!("page.html") }],
    tables: &[],
    router,
};

const PAGE: &str = "inspect/page.html";

/// Any method and any path below: how they arrive is what people want to see.
fn router() -> Router {
    Router::new().route("/", any(respond)).route("/{*rest}", any(respond))
}

async fn respond(
    page: Page,
    server: Server,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let report = Report::new(&page, server, &uri, &request);
    let mut response = match Format::wanted(request.headers(), Format::Html) {
        Format::Html => report.page(&page),
        Format::Json => {
            // Numbers and strings cannot fail to become JSON.
            let json = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
            ([(CONTENT_TYPE, "application/json")], json).into_response()
        }
        Format::Text => report.text().into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Everything to show, with secrets masked.
#[derive(Serialize)]
struct Report {
    request: Vec<Fact>,
    headers: Vec<Fact>,
    variables: Vec<Fact>,
    program: Vec<Fact>,
    limits: Vec<Limit>,
}

/// A name and its value.
#[derive(Serialize)]
struct Fact {
    name: String,
    value: String,
    #[serde(skip)]
    is_masked: bool,
}

impl Fact {
    fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        let is_masked = value.contains(HIDDEN);
        Fact { name: name.into(), value, is_masked }
    }
}

impl Report {
    fn new(page: &Page, server: Server, uri: &http::Uri, request: &Request) -> Self {
        let base = page.base().as_str();
        let request_facts = vec![
            Fact::new("Method", request.method().as_str()),
            Fact::new("Path", without_secrets(uri.path())),
            Fact::new("BASE", if base.is_empty() { "(empty: the root of the host)" } else { base }),
            Fact::new("Query", uri.query().map_or("(none)".to_owned(), without_secrets)),
            Fact::new("Version", format!("{:?}", request.version())),
        ];
        let headers = request.headers().iter();
        let variables = (server.0.variables)(request.extensions());
        let mut program: Vec<_> = (server.0.facts)(request.extensions())
            .into_iter()
            .map(|(name, value)| Fact::new(name, value))
            .collect();
        program.extend(process());
        Report {
            request: request_facts,
            headers: headers
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    Fact::new(name.as_str(), mask_header(name.as_str(), &value))
                })
                .collect(),
            variables: variables
                .iter()
                .map(|(name, value)| Fact::new(name, mask_variable(name, value)))
                .collect(),
            program,
            limits: logic::limits(&proc_file("limits")),
        }
    }

    fn page(&self, page: &Page) -> Response {
        let facts = |facts: &[Fact]| -> Vec<_> {
            let fact = |Fact { name, value, is_masked }: &Fact| serde_json::json!({ "name": name, "value": value, "is_masked": is_masked });
            facts.iter().map(fact).collect()
        };
        page.show(
            PAGE,
            context! {
                request => &facts(&self.request),
                headers => &facts(&self.headers),
                variables => &facts(&self.variables),
                program => &facts(&self.program),
                limits => &self.limits,
            },
        )
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (title, facts) in [
            ("Request", &self.request),
            ("Headers", &self.headers),
            ("Variables", &self.variables),
            ("Program", &self.program),
        ] {
            text += &format!("# {title}\n");
            for Fact { name, value, .. } in facts {
                text += &format!("{name}: {value}\n");
            }
            text += "\n";
        }
        text += "# Limits\n";
        for Limit { name, soft, hard, unit } in &self.limits {
            text += &format!("{name}: {soft} (max {hard}) {unit}\n").replace(" \n", "\n");
        }
        text
    }
}

/// What Linux reports about this process; whatever it does not report is left out.
fn process() -> Vec<Fact> {
    let status = proc_file("status");
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let running = logic::seconds_running(&proc_file("stat"), &uptime);
    let memory = |name| logic::memory(&status, name).map(size_in_words);
    // Reading the folder itself opens one more.
    let descriptors = entries("fd").map(|count| count.saturating_sub(1).to_string());
    let facts = [
        ("Process", Some(std::process::id().to_string())),
        ("Running for", running.map(duration_in_words)),
        ("Tasks (threads)", entries("task").map(|count| count.to_string())),
        ("Memory in use", memory("VmRSS")),
        ("Peak memory", memory("VmHWM")),
        ("Address space", memory("VmSize")),
        ("Open descriptors", descriptors),
    ];
    facts.into_iter().filter_map(|(name, value)| Some(Fact::new(name, value?))).collect()
}

fn proc_file(name: &str) -> String {
    fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()
}

fn entries(folder: &str) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/self/{folder}")).ok()?.count())
}
