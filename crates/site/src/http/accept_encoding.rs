//! Which content coding the client prefers: the header `Accept-Encoding` (RFC 9110 §12.5.3).
//!
//! What is compressed, and how, is in `assets.rs` and `compress.rs`.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::parameters::elements;

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
    /// Not encoded.
    Identity,
}

impl Coding {
    /// Returns the value of `Content-Encoding`, if the coding needs one.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        match self {
            Coding::Brotli => Some(HeaderValue::from_static("br")),
            Coding::Gzip => Some(HeaderValue::from_static("gzip")),
            Coding::Identity => None,
        }
    }

    /// Returns the coding the client prefers. Among equals the most compact one wins: brotli, then gzip, then identity.
    /// A client that accepts none of them gets identity.
    pub(crate) fn wanted(headers: &HeaderMap) -> Coding {
        let (mut brotli, mut gzip, mut identity, mut others) = (None, None, None, None);
        for element in elements(headers.get_all(ACCEPT_ENCODING)) {
            let weight = match element.value.to_ascii_lowercase().as_str() {
                "br" => &mut brotli,
                "gzip" | "x-gzip" => &mut gzip,
                "identity" => &mut identity,
                "*" => &mut others,
                _ => continue,
            };
            *weight = Some(element.weight());
        }
        // Identity is acceptable without being mentioned, but then it is not preferred.
        let lowest = others.map_or(1, |weight: u16| weight.min(1));
        let mut best = (identity.unwrap_or(lowest), Coding::Identity);
        for (weight, coding) in [(gzip, Coding::Gzip), (brotli, Coding::Brotli)] {
            let weight = weight.or(others).unwrap_or(0);
            if weight > 0 && weight >= best.0 {
                best = (weight, coding);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_and_among_equals_the_smallest() {
        for (accept, expected) in [
            ("", Coding::Identity),
            ("br", Coding::Brotli),
            ("gzip, deflate, br, zstd", Coding::Brotli),
            ("gzip, deflate", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Identity),
            ("gzip;q=1.0, br;q=0.5", Coding::Gzip),
            ("gzip; q=0.5 , br; q=0.8", Coding::Brotli),
            ("br;q=0, gzip", Coding::Gzip),
            ("br;q=0, gzip;q=0", Coding::Identity),
            ("*", Coding::Brotli),
            ("*;q=0", Coding::Identity),
            ("gzip, *;q=0", Coding::Gzip),
            ("br;q=0, *", Coding::Gzip),
            ("identity", Coding::Identity),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip),
            ("identity;q=0, gzip;q=0.001", Coding::Gzip),
            ("identity;q=0", Coding::Identity),
            ("gzip;q=nonsense", Coding::Identity),
            (",;,q=1,", Coding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(Coding::wanted(&headers), expected, "{accept:?}");
        }
        assert_eq!(Coding::wanted(&HeaderMap::new()), Coding::Identity);
    }
}
