//! Media types (RFC 9110 §8.3.1): the one place that reads `Content-Type`.
//!
//! The grammar around them is in `parameters.rs`. Not a crate's, because the crates refuse what clients send
//! (`text/plain;;`, an unquoted `=`) and cannot read the rest of that grammar, which `Accept-Encoding` needs.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::parameters::Element;

/// A media type, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'a>(Element<'a>);

impl<'a> MediaType<'a> {
    /// A form without files.
    pub const URLENCODED: &'static str = "application/x-www-form-urlencoded";

    /// A form with files.
    pub const FORM_DATA: &'static str = "multipart/form-data";

    /// Parses a media type; `None` if it is not `type/subtype`.
    pub fn parse(text: &'a str) -> Option<MediaType<'a>> {
        MediaType::of_element(Element::parse(text))
    }

    /// Returns the media type of a request's or a response's body, if `Content-Type` names one.
    pub fn of(headers: &'a HeaderMap) -> Option<MediaType<'a>> {
        MediaType::parse(headers.get(CONTENT_TYPE)?.to_str().ok()?)
    }

    /// Takes one element of a list (`Accept`).
    pub(crate) fn of_element(element: Element<'a>) -> Option<MediaType<'a>> {
        let (kind, subtype) = element.value.split_once('/')?;
        (is_token(kind) && is_token(subtype)).then_some(MediaType(element))
    }

    /// Returns whether it is this one, `type/subtype`, whatever its parameters. Case does not matter.
    pub fn is(&self, essence: &str) -> bool {
        self.0.value.eq_ignore_ascii_case(essence)
    }

    /// Returns whether `type/subtype` starts or ends like this (`text/`, `+json`). Case does not matter.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.0.value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    }

    /// Returns whether the subtype has this structured syntax suffix (RFC 6838 §4.2.8): `+json`.
    pub(crate) fn has_suffix(&self, suffix: &str) -> bool {
        let start = self.0.value.len().checked_sub(suffix.len());
        let end = start.and_then(|start| self.0.value.get(start..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    }

    /// Returns a parameter's value, unquoted: `boundary`, `charset`.
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        self.0.parameter(name)
    }
}

/// Whether a text is a token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| IS_TCHAR[usize::from(byte)])
}

/// Which bytes a token may have. A table, because every response's type is read.
static IS_TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_a_type_a_subtype_and_parameters() {
        for (text, essence, charset) in [
            ("text/html", "text/html", None),
            ("text/html;charset=utf-8", "text/html", Some("utf-8")),
            ("Text/HTML;Charset=\"utf-8\"", "text/html", Some("utf-8")),
            ("text/html; charset=\"utf-8\"", "text/html", Some("utf-8")),
            (" text/html ; charset=utf-8 ;", "text/html", Some("utf-8")),
            ("text/html;; charset=utf-8", "text/html", Some("utf-8")),
            ("text/html; a=\"; charset=x\"; charset=\"u\\tf\"", "text/html", Some("utf")),
            ("multipart/form-data; boundary=--=1", "multipart/form-data", None),
            ("application/vnd.api+json", "application/vnd.api+json", None),
            ("*/*", "*/*", None),
        ] {
            let media_type = MediaType::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!(media_type.is(essence), "{text}");
            assert_eq!(media_type.parameter("charset").as_deref(), charset, "{text}");
        }
        for text in
            ["", "text", "/html", "text/", "text/html/x", "te xt/html", "text/ht\"ml", ";a=b"]
        {
            assert_eq!(MediaType::parse(text), None, "{text}");
        }
    }

    #[test]
    fn prefixes_and_suffixes_ignore_case() {
        let json = MediaType::parse("Application/Vnd.Api+JSON; a=b").unwrap();
        assert!(json.has_suffix("+json") && json.has_prefix("application/"));
        assert!(!json.has_suffix("+xml") && !json.has_prefix("text/"));
        let short = MediaType::parse("a/b").unwrap();
        assert!(!short.has_suffix("+json") && !short.has_prefix("application/"));
    }
}
