//! What went wrong with a request, as a value: its status, the words for the visitor, the cause for the log.
//!
//! A handler returns an [`HttpError`]; `middleware.rs`, which knows the request, has `pages/error_page.rs` render it in
//! the format the client prefers. No page is made here. Causes are for the log and never reach the visitor.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use storage::StoreError;

use super::error_words::words_for;
use super::format::Format;

/// When to try again if the site is busy. An upgrade takes about a second; crawlers and monitors that came back sooner
/// would only add to the load.
const BUSY_SECONDS: u32 = 5;

/// A failed request, in words that a visitor understands.
///
/// As a handler's response (`Result<Response, HttpError>`) it becomes a page, JSON or plain text, as the client
/// prefers. Title and message have a default for each status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    status: StatusCode,
    title: Option<Box<str>>,
    message: Option<Box<str>>,
    lines: Vec<String>,
    retry_after: Option<u32>,
    cause: Option<Box<str>>,
    fault: &'static str,
    asked_for: Option<Box<str>>,
    default_format: Format,
}

impl HttpError {
    /// An error with this status and its default words.
    pub fn new(status: StatusCode) -> Self {
        HttpError {
            status,
            title: None,
            message: None,
            lines: Vec::new(),
            retry_after: None,
            cause: None,
            fault: "tool",
            asked_for: None,
            default_format: Format::Html,
        }
    }

    /// Replaces the title: a few words, no period.
    pub fn title(self, title: impl Into<String>) -> Self {
        HttpError { title: Some(title.into().into()), ..self }
    }

    /// Replaces the message: what happened and what to do now, in full sentences.
    pub fn message(self, message: impl Into<String>) -> Self {
        HttpError { message: Some(message.into().into()), ..self }
    }

    /// Adds a line of its own below the message: what to write into a file, a command, a program's output. It is shown
    /// verbatim.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Sets when to try again, in seconds (`Retry-After`). A 503 has a default of 5.
    pub fn retry_after(self, seconds: u32) -> Self {
        HttpError { retry_after: Some(seconds), ..self }
    }

    /// Adds the cause, for the log only: visitors never see it. Without a period at its end.
    pub fn cause(self, cause: impl fmt::Display) -> Self {
        HttpError { cause: Some(cause.to_string().into()), ..self }
    }

    /// Sets whose fault it is, for the log: a word such as `login`. Default: `tool`.
    pub fn fault(self, fault: &'static str) -> Self {
        HttpError { fault, ..self }
    }

    /// Sets the requested path, for the log: for a handler that replaces all others. The page then has no links,
    /// because there are no other pages.
    pub fn asked_for(self, path: impl Into<String>) -> Self {
        HttpError { asked_for: Some(path.into().into()), ..self }
    }

    /// Sets the format for clients without a preference. Default: a page.
    pub fn default_format(self, default_format: Format) -> Self {
        HttpError { default_format, ..self }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Logs a server error.
    pub(crate) fn log(&self, method: &Method, path: &str, reference: Option<&str>) {
        let status = self.status;
        if status.is_server_error() {
            let reference = reference.unwrap_or("-");
            let path = self.asked_for.as_deref().unwrap_or(path);
            let fault = self.fault;
            let cause = self.cause.as_deref().unwrap_or("no cause given");
            tracing::error!(fault, reference, %status, %method, path, "Request failed: {cause}.");
        }
    }

    /// Returns the format for clients without a preference.
    pub(crate) fn format_without_preference(&self) -> Format {
        self.default_format
    }

    /// Returns the title and the message.
    pub(crate) fn words(&self) -> (&str, &str) {
        let (title, message) = words_for(self.status);
        (self.title.as_deref().unwrap_or(title), self.message.as_deref().unwrap_or(message))
    }

    /// Returns the lines below the message.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns the seconds of `Retry-After`, if there is to be one.
    pub(crate) fn seconds_to_wait(&self) -> Option<u32> {
        let is_busy = self.status == StatusCode::SERVICE_UNAVAILABLE;
        self.retry_after.or(is_busy.then_some(BUSY_SECONDS))
    }

    /// Returns whether the page should link to the rest of the site.
    pub(crate) fn has_links(&self) -> bool {
        self.asked_for.is_none()
    }
}

/// Only the words: `Title. Message.`
impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, message) = self.words();
        write!(formatter, "{title}. {message}")
    }
}

/// A bare response that carries the error, for `middleware.rs` to fill in.
impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A page without details for the visitor; cause and cure for the log.
impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        let page = match error.for_visitors() {
            Some(message) => HttpError::new(StatusCode::SERVICE_UNAVAILABLE).message(message),
            None => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR),
        };
        page.cause(error)
    }
}
