//! What visitors read about a failure, by its status: what happened, and what they can do.
//!
//! Plain words for people who are no programmers; a handler that knows more replaces them ([`HttpError`]).
//!
//! [`HttpError`]: super::error::HttpError

use http::StatusCode;

/// Returns the title and the message for a status.
pub(crate) fn words_for(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        400 => (
            "The request cannot be understood",
            "Something in what was sent is not as it should be. Please go back and try again.",
        ),
        401 => ("Please log in", "This page is only for those who have logged in."),
        403 => ("Not allowed", "You may not see this page or do what you asked for."),
        404 => (
            "Page not found",
            "There is nothing at this address. It may have been moved, or there is a slip in the link.",
        ),
        405 => (
            "That does not work here",
            "This address exists, but not for what was tried with it. Please go on from the page itself.",
        ),
        408 => ("That took too long", "The request did not arrive in time. Please try again."),
        411 => ("Length unknown", "The server needs to know beforehand how much will be sent."),
        412 => (
            "It has changed meanwhile",
            "What you have is another version than what is here. Please load the page again.",
        ),
        413 => ("Too large", "What you sent is larger than what is accepted here."),
        414 => ("The address is too long", "The server does not accept an address of this length."),
        415 => ("Unknown kind of content", "What was sent is of a kind that is not accepted here."),
        416 => ("No such part", "The file is shorter than the part of it that was asked for."),
        422 => (
            "Something is missing or wrong",
            "The form cannot be used as it is. Please go back and check the fields.",
        ),
        429 => ("Too many requests", "That was too often in a short time. Please wait a little."),
        431 => (
            "The request is too long",
            "Address and headers are longer than the server accepts. Deleting this site's cookies may help.",
        ),
        501 => ("Not possible here", "The server does not know how to do what was asked for."),
        502 => ("No answer", "Another service that is needed for this page gave no usable answer."),
        503 => (
            "Just a moment",
            "The site is busy or is being renewed. Please try again in a few seconds.",
        ),
        504 => (
            "That took too long",
            "The work on this page did not end in time and was stopped. Please try it with less.",
        ),
        500..=599 => (
            "Something went wrong",
            "The fault is on this side, not with you. It has been noted; please try again later.",
        ),
        _ => ("That did not work", "The request could not be fulfilled."),
    }
}
