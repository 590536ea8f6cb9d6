//! What a case is, and what its routes are made with.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// A crate, or one of the ways to use it.
pub(crate) struct Case {
    /// Its route, without the slash.
    pub(crate) name: &'static str,
    /// The crate, as in Cargo.toml.
    pub(crate) package: &'static str,
    /// What of it is used; empty for what the crate is for.
    pub(crate) what: &'static str,
    /// A text in the response, head or body, that is only there if it works.
    pub(crate) expects: &'static str,
    /// What to do where it does not work, or what to know where it does. In Markdown.
    pub(crate) note: &'static str,
    /// Makes its routes.
    pub(crate) router: fn() -> MadeRouter,
}

/// A router that is being made.
pub(crate) type MadeRouter = Pin<Box<dyn Future<Output = Result<Router, Problem>>>>;

/// Makes a router with nothing but this handler.
pub(crate) fn handler<T: 'static>(handler: impl Handler<T, ()>) -> MadeRouter {
    Box::pin(async { Ok(Router::new().route("/", get(handler))) })
}

/// Makes a router that needs some code first.
pub(crate) fn made(router: impl Future<Output = Result<Router, Problem>> + 'static) -> MadeRouter {
    Box::pin(router)
}

/// Any error: why a route fails, in its response; or why it cannot be made.
pub(crate) struct Problem(Box<dyn Error + Send + Sync>);

/// What a handler responds: what it found out.
pub(crate) type Answer = Result<String, Problem>;

/// A file that is there.
pub(crate) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/files/index.html");

/// The value of a variable that names a server.
pub(crate) fn server(variable: &str) -> Result<String, Problem> {
    std::env::var(variable).map_err(|_| Problem(format!("{variable} is not set").into()))
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Problem {
    fn from(error: E) -> Self {
        Problem(error.into())
    }
}

/// The whole chain: many crates say only at its end what was refused.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        formatter.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some already say what their source says.
            if !last.contains(&text) {
                write!(formatter, ": {text}")?;
            }
            last = text;
            source = error.source();
        }
        Ok(())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
