//! What visitors read about a failure, by its status: what happened, and what they can do.
//!
//! Plain words for people who are not programmers; a handler that knows more replaces them ([`HttpError`]).
//!
//! [`HttpError`]: super::error::HttpError

use http::StatusCode;

/// Returns the title and the message for a status.
pub(crate) fn words_for(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => {
            ("Bad request", "The request could not be understood. Please go back and try again.")
        }
        401 => ("Please log in", "This page requires a login."),
        403 => ("Not allowed", "You don't have permission to see this page or to do that."),
        404 => (
            "Page not found",
            "There is nothing at this address. It may have moved, or the link may contain a typo.",
        ),
        405 => ("Method not allowed", "This page can't be used that way."),
        408 => ("Request timed out", "The request did not arrive in time. Please try again."),
        411 => ("Length required", "The request has to state how much it sends."),
        412 => (
            "Changed in the meantime",
            "This has changed since you loaded it. Please reload the page and try again.",
        ),
        413 => ("Too large", "What you sent is larger than what is accepted here."),
        414 => ("Address too long", "The address is longer than the server accepts."),
        415 => {
            ("Unsupported content type", "What you sent is of a type that is not accepted here.")
        }
        416 => ("Range not satisfiable", "The file is shorter than the part you requested."),
        422 => (
            "Invalid input",
            "Something in the form is missing or wrong. Please go back and check the fields.",
        ),
        429 => (
            "Too many requests",
            "You sent too many requests in a short time. Please wait a little.",
        ),
        431 => (
            "Request headers too large",
            "The address and the headers are longer than the server accepts. Deleting this site's cookies may help.",
        ),
        501 => ("Not supported", "The server does not support this kind of request."),
        502 => ("Bad gateway", "A service that this page depends on gave no usable response."),
        503 => (
            "Just a moment",
            "The site is busy or being upgraded. Please try again in a few seconds.",
        ),
        504 => (
            "Request timed out",
            "Processing took too long and was stopped. Please try again with less input.",
        ),
        500..=599 => (
            "Something went wrong",
            "The fault is on our side, not yours. It has been logged; please try again later.",
        ),
        _ => ("Request failed", "The request could not be completed."),
    }
}
