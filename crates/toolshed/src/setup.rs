//! The site while its configuration is wrong: every request gets a 503 with a page that says the site is being set up.
//!
//! The mistakes concern only the owner: they are in the log, under the reference that the page shows, and on the page
//! itself only with `show_configuration_errors`.

use std::convert::Infallible;
use std::sync::Arc;

use app_server::Body;
use axum::routing::any;
use axum::routing::future::RouteFuture;
use axum::{Extension, Router};
use hosted::config::CommandLine;
use hosted::log;
use http::{Request, StatusCode, Uri};
use site::{Access, HttpError, Runs, Tool};
use tower_service::Service;

use crate::config::{self, Configuration};

/// When to retry: the owner is probably working on it.
const RETRY_AFTER_SECONDS: u32 = 30;

/// The site while it is being set up.
pub(crate) struct Setup {
    command_line: CommandLine,
    /// The mistakes when the configuration was last read.
    sentences: Vec<String>,
    shown: bool,
    router: Router,
}

/// As a tool, the page gets the site's frame, the format that the client wants, and a line in the log.
const PAGE: &[Tool] = &[Tool {
    name: "configuration",
    title: "Configuration",
    summary: "Says that the site is being set up.",
    icon: "tool",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[],
    tables: &[],
    router: || Router::new().route("/", any(page)),
}];

impl Setup {
    /// The site of a configuration with problems.
    pub(crate) fn new(configuration: Configuration) -> Self {
        let mut setup = Setup {
            command_line: configuration.command_line.clone(),
            sentences: Vec::new(),
            shown: false,
            router: site::router(PAGE),
        };
        setup.learn(&configuration);
        setup
    }

    /// Reads the configuration again; returns it once it has no mistakes. The server's limits and the log stay as they
    /// were when the process started.
    pub(crate) fn look_again(&mut self) -> Option<Configuration> {
        let configuration = config::keys().load(&self.command_line);
        if configuration.problems.is_empty() {
            tracing::info!(
                "Configuration fixed; serving the site. Limits and the log file take effect when the \
                 process restarts."
            );
            return Some(configuration);
        }
        if self.learn(&configuration) {
            log::configuration(&configuration);
        }
        None
    }

    /// Responds to any request.
    pub(crate) fn call(&mut self, mut request: Request<Body>) -> RouteFuture<Infallible> {
        let path = request.uri().path().to_owned();
        let what = Wrong { path, sentences: self.sentences.clone(), shown: self.shown };
        request.extensions_mut().insert(Arc::new(what));
        *request.uri_mut() = Uri::from_static("/tools/configuration");
        self.router.call(request)
    }

    /// Adopts the mistakes of a configuration; returns whether they have changed.
    fn learn(&mut self, configuration: &Configuration) -> bool {
        let sentences = configuration.problems.iter().map(ToString::to_string).collect();
        self.shown = configuration.settings.show_configuration_errors;
        std::mem::replace(&mut self.sentences, sentences) != self.sentences
    }
}

/// What the page shows, as a request extension.
struct Wrong {
    path: String,
    sentences: Vec<String>,
    shown: bool,
}

async fn page(Extension(wrong): Extension<Arc<Wrong>>) -> HttpError {
    let Wrong { path, sentences, shown } = &*wrong;
    let first = sentences.first().map_or("", |sentence| sentence.trim_end_matches('.'));
    let others = match sentences.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let page = HttpError::new(StatusCode::SERVICE_UNAVAILABLE)
        .title("This site is being set up")
        .message(match shown {
            true => "A setting is wrong, so there is nothing to see yet. This is what the owner has to change:",
            false => "A setting is wrong, so there is nothing to see yet. The owner can find the cause in the log.",
        })
        .retry_after(RETRY_AFTER_SECONDS)
        .fault("configuration")
        .asked_for(path)
        .cause(format!("{first}{others}"));
    if *shown { sentences.iter().fold(page, HttpError::line) } else { page }
}
