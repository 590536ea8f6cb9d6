//! What went wrong with a request, as a value: its status, the words for the visitor, the cause for the log.
//!
//! A handler returns an [`HttpError`]; `middleware.rs`, which knows the request, has `pages/error_page.rs` write it in
//! the format the client prefers. No page is made here. Causes are for the log and never reach the visitor.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};

use super::error_words::words_for;
use super::format::Format;
use crate::store::StoreError;

/// When to come back to a busy site. An upgrade takes about a second; crawlers and monitors that come back
/// sooner make it no less busy.
const BUSY_SECONDS: u32 = 5;

/// A failure, in words that a visitor understands.
///
/// As a handler's response (`Result<Response, HttpError>`) it becomes a page, JSON or plain text, as the
/// client prefers. Title and message have a default for each status.
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
    /// A failure with this status and the words that go with it.
    pub fn new(status: StatusCode) -> Self {
        HttpError {
            status,
            title: None,
            message: None,
            lines: Vec::new(),
            retry_after: None,
            cause: None,
            fault: "A tool failed",
            asked_for: None,
            default_format: Format::Html,
        }
    }

    /// Replaces the title: a few words, no period.
    pub fn title(self, title: impl Into<String>) -> Self {
        HttpError { title: Some(title.into().into()), ..self }
    }

    /// Replaces the message: what happened and what to do now, in whole sentences.
    pub fn message(self, message: impl Into<String>) -> Self {
        HttpError { message: Some(message.into().into()), ..self }
    }

    /// Adds a line that stands for itself below the message: what to write into a file, a command, the
    /// words of a program. It is shown as it is.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Says when to try again, in seconds (`Retry-After`). A 503 says 5 unless this says otherwise.
    pub fn retry_after(self, seconds: u32) -> Self {
        HttpError { retry_after: Some(seconds), ..self }
    }

    /// Adds the cause, for the log alone: visitors never see it. No period at its end.
    pub fn cause(self, cause: impl fmt::Display) -> Self {
        HttpError { cause: Some(cause.to_string().into()), ..self }
    }

    /// Says how the log begins its line about this: in a few words whose fault it is. `A tool failed`,
    /// unless this says otherwise.
    pub fn fault(self, fault: &'static str) -> Self {
        HttpError { fault, ..self }
    }

    /// Names the path that was asked for, for the log: for handlers that answer in place of all others. The page
    /// leads nowhere, for there is nothing else.
    pub fn asked_for(self, path: impl Into<String>) -> Self {
        HttpError { asked_for: Some(path.into().into()), ..self }
    }

    /// Chooses the form for clients that have no preference: a page, unless this says otherwise.
    pub fn default_format(self, default_format: Format) -> Self {
        HttpError { default_format, ..self }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes a failure of the site's own to the log.
    pub(crate) fn log(&self, method: &Method, path: &str, reference: Option<&str>) {
        let status = self.status;
        if status.is_server_error() {
            let reference = reference.unwrap_or("-");
            let path = self.asked_for.as_deref().unwrap_or(path);
            let fault = self.fault;
            let cause = self.cause.as_deref().unwrap_or("no cause is named");
            tracing::error!(reference, %status, %method, path, "{fault}: {cause}.");
        }
    }

    /// Returns the form for clients that have no preference.
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

    /// Returns whether there is anything else on the site to go on to.
    pub(crate) fn leads_on(&self) -> bool {
        self.asked_for.is_none()
    }
}

/// The words alone: `Title. Message.`
impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, message) = self.words();
        write!(f, "{title}. {message}")
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

/// For the visitor a page without details, for the log the cause and the cure.
impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        let message = match error {
            StoreError::Busy => "Too many want something at this moment. Please try again.",
            _ => {
                "The site cannot get at what it has to remember. Its owner finds the cause in the log."
            }
        };
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE).message(message).cause(error)
    }
}
