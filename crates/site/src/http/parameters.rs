//! Lists of values with parameters: `gzip;q=0.5, br`, `text/html; charset="utf-8"` (RFC 9110 §5.6.1, §5.6.6).
//!
//! `Accept`, `Accept-Encoding` and `Content-Type` share this grammar. What the values mean is in `format.rs`,
//! `accept_encoding.rs` and `media_type.rs`.

use std::borrow::Cow;

use http::HeaderValue;

/// The weight of an element without one: 1, in thousandths.
const FULL_WEIGHT: u16 = 1000;

/// One element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// What comes before the first semicolon, without spaces around it.
    pub(crate) value: &'a str,
    parameters: &'a str,
}

/// Returns the elements of all lines of a header, in order. Lines that are not ASCII and empty elements are skipped.
pub(crate) fn elements<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = Element<'a>> {
    let lines = lines.into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| split(line, b',')).map(Element::parse).filter(|found| !found.is_empty())
}

impl<'a> Element<'a> {
    /// Parses one element. Parameters are read leniently: one that breaks the grammar is skipped.
    pub(crate) fn parse(text: &'a str) -> Element<'a> {
        let (value, parameters) = text.split_once(';').unwrap_or((text, ""));
        Element { value: value.trim(), parameters }
    }

    /// Returns a parameter's value, unquoted. Names are case-insensitive; the first one counts.
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        split(self.parameters, b';').find_map(|parameter| {
            let (found, value) = parameter.split_once('=')?;
            found.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()))
        })
    }

    /// Returns the weight `q` in thousandths (RFC 9110 §12.4.2). A weight that cannot be read counts as 0.
    pub(crate) fn weight(&self) -> u16 {
        let Some(weight) = self.parameter("q") else { return FULL_WEIGHT };
        let weight = weight.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
        (weight * f32::from(FULL_WEIGHT)) as u16
    }

    fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// Splits at a separator, but not inside quoted strings.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match end_of_first(text.as_bytes(), separator) {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => rest.take(),
        }
    })
}

/// Finds the first separator outside of quoted strings. It is ASCII, so the index is a character boundary.
fn end_of_first(text: &[u8], separator: u8) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return !is_quoted && *byte == separator,
        }
        false
    })
}

/// Undoes the quoting of a quoted string (RFC 9110 §5.6.4); a token stays as it is.
fn unquoted(value: &str) -> Cow<'_, str> {
    let Some(quoted) = value.strip_prefix('"') else { return value.into() };
    let quoted = quoted.strip_suffix('"').unwrap_or(quoted);
    if !quoted.contains('\\') {
        return quoted.into();
    }
    let mut is_escaped = false;
    let plain = quoted.chars().filter(|letter| {
        is_escaped = *letter == '\\' && !is_escaped;
        !is_escaped
    });
    plain.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_split_outside_of_quoted_strings() {
        for (line, expected) in [
            ("", &[] as &[&str]),
            (",; ,", &[]),
            ("gzip", &["gzip"]),
            ("gzip ,br;q=1", &["gzip", "br"]),
            ("a;x=\"1,2\", b", &["a", "b"]),
            ("a;x=\"1\\\",2\", b", &["a", "b"]),
            ("a;x=\"1, b", &["a"]),
            ("a\\,b", &["a\\", "b"]),
        ] {
            let line = HeaderValue::from_static(line);
            let values: Vec<_> = elements([&line]).map(|element| element.value).collect();
            assert_eq!(values, expected, "{line:?}");
        }
    }

    #[test]
    fn parameters_are_tokens_or_quoted_strings() {
        for (text, expected) in [
            ("a", None),
            ("a;x", None),
            ("a;x=1", Some("1")),
            ("a ; X = 1 ;", Some("1")),
            ("a;;y=2; x=1", Some("1")),
            ("a;x=1;x=2", Some("1")),
            ("a;x=", Some("")),
            ("a;x=\"\"", Some("")),
            ("a;x=\"1; 2\"", Some("1; 2")),
            ("a;y=\"x=2\";x=1", Some("1")),
            ("a;x=\"\\\"1\\\\\\2\"", Some("\"1\\2")),
            ("a;x=\"1", Some("1")),
            ("a;x=1=2", Some("1=2")),
        ] {
            assert_eq!(Element::parse(text).parameter("x").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn weights_are_in_thousandths() {
        for (text, expected) in [
            ("a", 1000),
            ("a;q=1.0", 1000),
            ("a;Q=0.5", 500),
            ("a; x=1; q=0.001", 1),
            ("a;q=\"0.5\"", 500),
            ("a;q=0", 0),
            ("a;q=2", 1000),
            ("a;q=-1", 0),
            ("a;q=NaN", 0),
            ("a;q=high", 0),
        ] {
            assert_eq!(Element::parse(text).weight(), expected, "{text}");
        }
    }
}
