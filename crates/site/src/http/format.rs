//! Which format the client prefers, a page, JSON or plain text: the header `Accept` (RFC 9110 §12.5.1).

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

use super::media_type::MediaType;
use super::parameters::elements;

/// The formats in which the site can respond.
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
    /// Returns the format the client prefers, and `default` if it has no preference (no `Accept`, or `*/*`, as curl
    /// sends it).
    ///
    /// A named type beats a wildcard of the same weight; of several named types with the same weight the first one
    /// wins.
    pub fn wanted(headers: &HeaderMap, default: Format) -> Format {
        Format::wanted_by(headers.get_all(ACCEPT), default)
    }

    /// Like [`wanted`](Self::wanted), by the values of the header.
    pub(crate) fn wanted_by<'a>(
        accept: impl IntoIterator<Item = &'a HeaderValue>,
        default: Format,
    ) -> Format {
        let mut best = (0, false, default);
        for range in elements(accept) {
            let Some(media_type) = MediaType::of_element(range) else { continue };
            let Some((named, format)) = format_of(media_type, default) else { continue };
            let weight = range.weight();
            if weight > 0 && (weight, named) > (best.0, best.1) {
                best = (weight, named, format);
            }
        }
        best.2
    }
}

/// Returns whether a media range names a format, and which one it stands for.
fn format_of(range: MediaType<'_>, default: Format) -> Option<(bool, Format)> {
    const FORMATS: [(&str, Format); 4] = [
        ("text/html", Format::Html),
        ("application/xhtml+xml", Format::Html),
        ("application/json", Format::Json),
        ("text/plain", Format::Text),
    ];
    let named = FORMATS.iter().find(|(essence, _)| range.is(essence));
    named.map(|(_, format)| (true, *format)).or(range.is("*/*").then_some((false, default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_preference_wins_over_the_default() {
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
