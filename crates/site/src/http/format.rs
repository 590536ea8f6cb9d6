//! What the client wants to read: a page, JSON or plain text.
//!
//! The header `Accept` (RFC 9110 §12.5.1) is read here and nowhere else.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// The three forms in which the site can say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page, for people with a browser.
    Html,
    /// JSON, for programs.
    Json,
    /// Plain text, for shells.
    Text,
}

impl Format {
    /// Returns the form the client prefers, and `default` when it has no preference (no `Accept`, or
    /// `*/*`, as curl sends it).
    ///
    /// A named type beats a wildcard of the same weight, and of several named types with the same
    /// weight the first one counts.
    pub fn wanted(headers: &HeaderMap, default: Format) -> Format {
        Format::wanted_by(headers.get_all(ACCEPT), default)
    }

    /// As [`wanted`](Self::wanted), of the header's values alone.
    pub(crate) fn wanted_by<'a>(
        accept: impl IntoIterator<Item = &'a HeaderValue>,
        default: Format,
    ) -> Format {
        let mut best = (0, false, default);
        let accepts = accept.into_iter().filter_map(|value| value.to_str().ok());
        for range in accepts.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or("").to_ascii_lowercase();
            let (named, format) = match media_type.as_str() {
                "text/html" | "application/xhtml+xml" => (true, Format::Html),
                "application/json" => (true, Format::Json),
                "text/plain" => (true, Format::Text),
                "*/*" => (false, default),
                _ => continue,
            };
            let weight = parts.find_map(weight_in_thousandths).unwrap_or(1000);
            if weight > 0 && (weight, named) > (best.0, best.1) {
                best = (weight, named, format);
            }
        }
        best.2
    }
}

/// Reads the parameter `q=0.8` as 800. What is no weight is no parameter of ours; a weight that cannot
/// be read counts as the lowest.
pub(crate) fn weight_in_thousandths(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let weight = value.trim().parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    Some((weight * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_preference_decides_and_else_the_default() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, default, expected) in [
            ("", Format::Html, Format::Html),
            ("*/*", Format::Text, Format::Text),
            (browser, Format::Text, Format::Html),
            ("application/json", Format::Html, Format::Json),
            ("application/json, text/plain, */*", Format::Html, Format::Json),
            ("text/html;q=0.5, text/plain", Format::Html, Format::Text),
            ("Text/Plain; charset=utf-8", Format::Html, Format::Text),
            ("*/*, application/json", Format::Html, Format::Json),
            ("application/json;q=0", Format::Html, Format::Html),
            ("application/json;q=nonsense", Format::Html, Format::Html),
            ("application/json;q=NaN", Format::Html, Format::Html),
            ("image/png", Format::Text, Format::Text),
            (",;,q=1,", Format::Html, Format::Html),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::wanted(&headers, default), expected, "{accept:?}");
        }
        assert_eq!(Format::wanted(&HeaderMap::new(), Format::Json), Format::Json);
    }
}
