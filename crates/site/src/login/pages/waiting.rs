//! Asking to wait (429): a client that has tried too often, or everybody while many try.

use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use tera::context;

use super::login_request::LoginRequest;
use crate::http::error::HttpError;
use crate::login::draw;
use crate::login::throttle::Wait;

/// Asks a program to wait. For a browser it does nothing: the caller shows [`page`] or its form.
///
/// # Errors
///
/// If the client is a program: this is its response.
pub(super) fn refuse_program(request: &LoginRequest, wait: Wait) -> Result<(), HttpError> {
    if request.is_program() { Err(error(wait)) } else { Ok(()) }
}

/// Returns the refusal as an error.
pub(super) fn error(wait: Wait) -> HttpError {
    let error = HttpError::new(StatusCode::TOO_MANY_REQUESTS);
    error.message(words(wait)).retry_after(wait.seconds())
}

/// Turns a page into the refusal: sets the status, and when to try again.
pub(super) fn refusing(mut page: Response, wait: Wait) -> Response {
    *page.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.seconds()));
    page
}

/// Returns how long to wait, and why.
pub(super) fn words(wait: Wait) -> String {
    let seconds = in_words(wait.seconds());
    match wait {
        Wait::Own(_) => format!("Too many attempts. Try again in {seconds}."),
        Wait::Crowd(_) => format!(
            "Too many login attempts from many addresses. Try again in {seconds}; a waiting visitor is picked at \
             random every {} seconds.",
            draw::ROUND_SECONDS
        ),
    }
}

fn in_words(seconds: u32) -> String {
    if seconds == 1 { "1 second".to_owned() } else { format!("{seconds} seconds") }
}

/// Shows the waiting page. It keeps requesting the form at `path`, which takes part in the draw; it contains nothing
/// that reloading could lose.
pub(super) fn page(request: &LoginRequest, path: &str) -> Response {
    let mut again = request.base().link(path);
    let fields = ["next", "signed"].map(|name| (name, request.field(name)));
    if fields.iter().any(|(_, value)| !value.is_empty()) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        again += &format!("?{query}");
    }
    let round = draw::ROUND_SECONDS;
    request.page.show(
        "crowd.html",
        // Twice a round, so that none is missed.
        context! { again => &again, seconds => &(round / 2), round => &round },
    )
}
