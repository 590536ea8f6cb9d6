//! Not yet: what somebody hears who has tried too often, or has to wait because many try (429).

use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use tera::context;

use super::login_request::LoginRequest;
use crate::http::error::HttpError;
use crate::login::draw;
use crate::login::throttle::Wait;

/// Tells a program to wait, in words; a browser is for the caller to answer, with [`page`] or its form.
///
/// # Errors
/// That is the error.
pub(super) fn refuse_program(request: &LoginRequest, wait: Wait) -> Result<(), HttpError> {
    if request.wants_words() { Err(error(wait)) } else { Ok(()) }
}

/// The refusal, as an error.
pub(super) fn error(wait: Wait) -> HttpError {
    let error = HttpError::new(StatusCode::TOO_MANY_REQUESTS);
    error.message(words(wait)).retry_after(wait.seconds())
}

/// Makes a page the refusal: its status, and when to try again.
pub(super) fn refusing(mut page: Response, wait: Wait) -> Response {
    *page.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.seconds()));
    page
}

/// Says how long to wait, and why.
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

/// The waiting page. It keeps reloading the form, which asks for a turn; it has nothing on it that reloading
/// could lose.
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
