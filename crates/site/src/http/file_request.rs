//! What a GET or HEAD asks of a file: all of it, parts, or nothing, by its preconditions and ranges (RFC 9110 §13, §14).
//!
//! Values in, values out; `assets.rs` and `download.rs` make the responses.

use std::ops::Range;

use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::byte_range::{Wanted, parse};

/// What to respond with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The whole file.
    Whole,
    /// These parts, none of them empty: 206.
    Parts(Vec<Range<u64>>),
    /// Nothing, because no range is inside the file: 416.
    Outside,
    /// Nothing, because the client has this content: 304.
    NotModified,
    /// Nothing, because the client wants other content: 412.
    Failed,
}

/// Returns the header `Range`, which only GET has.
pub(crate) fn range_of<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    headers.get(RANGE).filter(|_| method == Method::GET)
}

/// Evaluates preconditions and ranges for a file with this ETag and length, in the order of RFC 9110 §13.2.2. A file
/// has no date that could match one.
pub(crate) fn asked(
    method: &Method,
    headers: &HeaderMap,
    etag: Option<&str>,
    length: u64,
) -> Asked {
    if !has_one_of(headers, IF_MATCH, etag, true).unwrap_or(true) {
        return Asked::Failed;
    }
    if has_one_of(headers, IF_NONE_MATCH, etag, false).unwrap_or(false) {
        return Asked::NotModified;
    }
    // If the client has a part of different content, the rest would not match it.
    let is_same = |tag: &HeaderValue| etag.is_some_and(|etag| tag.as_bytes() == etag.as_bytes());
    let range = range_of(method, headers).filter(|_| headers.get(IF_RANGE).is_none_or(is_same));
    let range = range.and_then(|range| range.to_str().ok());
    match range.map_or(Wanted::Whole, |range| parse(range, length)) {
        Wanted::Whole => Asked::Whole,
        Wanted::Nothing => Asked::Outside,
        Wanted::Parts(parts) => Asked::Parts(parts),
    }
}

/// Formats a `Content-Range`: `bytes 0-99/1234`.
pub(crate) fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// Returns whether a header of ETags (`If-Match`, `If-None-Match`; RFC 9110 §13.1) contains this one; `None` if there
/// is no such header. Unless `only_strong`, a weak one matches as well.
fn has_one_of(
    headers: &HeaderMap,
    name: HeaderName,
    etag: Option<&str>,
    only_strong: bool,
) -> Option<bool> {
    if !headers.contains_key(&name) {
        return None;
    }
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    Some(tags.any(|tag| {
        let strong = if only_strong { tag } else { tag.strip_prefix("W/").unwrap_or(tag) };
        tag == "*" || Some(strong) == etag
    }))
}
