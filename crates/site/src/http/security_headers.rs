//! The headers that protect visitors, in every response. docs/headers.md explains each.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::media_type::MediaType;

/// Adds them, unless the handler has set its own.
pub(crate) fn add_security_headers(headers: &mut HeaderMap) {
    let is_page = MediaType::of(headers).is_some_and(|media_type| media_type.is("text/html"));
    let for_pages = if is_page { &FOR_PAGES[..] } else { &[] };
    for (name, value) in FOR_ALL.iter().chain(for_pages) {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

/// The headers of every response. Together with the three that most responses have (type, length, caching) they fill
/// the smallest `HeaderMap`: a seventh header would make every response use a larger, slower one.
static FOR_ALL: [(HeaderName, HeaderValue); 3] = [
    // Only scripts, styles and images from this site's files; nothing inline, no frames, no connections, no form that
    // submits elsewhere.
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    // A response sent as text is never a script, whatever it contains.
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // Other sites cannot load it into their own process, where it might be read (Spectre).
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The additional headers of pages.
static FOR_PAGES: [(HeaderName, HeaderValue); 4] = [
    // Only pages have links: the address of a private one is not revealed to other sites.
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    // Neither our pages nor anything they load may use these. A tool that needs one sets the header itself.
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), \
             screen-wake-lock=(), usb=()",
        ),
    ),
    // For browsers that do not know frame-ancestors.
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // A page that opens ours in a window, or is opened by it, gets no reference to it.
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];
