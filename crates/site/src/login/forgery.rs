//! Whether a request that changes something comes from one of our own pages.
//!
//! Two things are checked: what the browser says, by `Sec-Fetch-Site` or else by `Origin`, and a token from our page,
//! which is the first field of every form, `csrf`, or the header `X-CSRF-Token` of a script. The token is looked for
//! in the first kilobytes of the body, which is then passed on whole: uploads stream as usual.

use axum::body::Body;
use bytes::BytesMut;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};
use http_body::Frame;

use crate::http::media_type::MediaType;
use crate::http::multipart::Multipart;
use crate::http::put_back::put_back;
use crate::http::request_body::{BodyBroken, Chunks};

/// The name of the first field of every form.
pub(crate) const FIELD: &str = "csrf";

/// The header for scripts.
const HEADER: &str = "x-csrf-token";

/// How much of a body is searched for the token: the first field of a form is within the first few hundred bytes.
const SEARCHED_BYTES: usize = 4096;

/// Returns whether a method may change something (RFC 9110 §9.2.1).
pub(crate) fn changes(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// What the browser says about where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// This site, or a program that is not a browser and says nothing.
    Own,
    /// Another site.
    Other,
}

/// Determines the sender by the browser's headers.
///
/// `Sec-Fetch-Site` (sent over HTTPS and to localhost) is the browser's own verdict. `Origin` is compared with
/// `Host`, but not its scheme: behind a proxy that terminates TLS ours would be a guess.
pub(crate) fn sender(headers: &HeaderMap) -> Sender {
    let text =
        |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    if let Some(site) = text(http::HeaderName::from_static("sec-fetch-site")) {
        return if site == "same-origin" || site == "none" { Sender::Own } else { Sender::Other };
    }
    let Some(origin) = text(ORIGIN) else { return Sender::Own };
    let host = origin.split_once("://").map(|(_, host)| host);
    let is_own = host.is_some_and(|host| {
        let own = text(HOST).unwrap_or("");
        !own.is_empty()
            && without_default_port(host).eq_ignore_ascii_case(without_default_port(own))
    });
    if is_own { Sender::Own } else { Sender::Other }
}

fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host)
}

/// Finds the token in a request's header or at the start of its body; the body is returned whole.
pub(crate) async fn token(
    headers: &HeaderMap,
    body: Body,
) -> Result<(Option<String>, Body), BodyBroken> {
    if let Some(token) = headers.get(HEADER).and_then(|value| value.to_str().ok()) {
        return Ok((Some(token.to_owned()), body));
    }
    let find: fn(&[u8], bool) -> Found = if Multipart::is_in(headers) {
        in_multipart
    } else if MediaType::of(headers).is_some_and(|media_type| media_type.is(MediaType::URLENCODED))
    {
        in_urlencoded
    } else {
        return Ok((None, body));
    };
    let mut chunks = Chunks::new(body);
    let mut seen = BytesMut::new();
    loop {
        let chunk = chunks.next().await.transpose()?;
        if let Some(chunk) = &chunk {
            seen.extend_from_slice(chunk);
        }
        let searched = seen.get(..SEARCHED_BYTES).unwrap_or(&seen);
        let is_all = chunk.is_none() || seen.len() >= SEARCHED_BYTES;
        match find(searched, is_all) {
            Found::NotYet if !is_all => {}
            found => {
                let token = match found {
                    Found::Token(token) => Some(token),
                    Found::Nothing | Found::NotYet => None,
                };
                let seen = Ok(Frame::data(seen.freeze()));
                return Ok((token, put_back(seen, chunks.into_body())));
            }
        }
    }
}

/// What the start of a body contains.
enum Found {
    Token(String),
    Nothing,
    NotYet,
}

/// Looks for `csrf=TOKEN&…`; a token contains no character that is escaped.
fn in_urlencoded(body: &[u8], is_all: bool) -> Found {
    let end = body.iter().position(|byte| *byte == b'&');
    if end.is_none() && !is_all {
        return Found::NotYet;
    }
    let first = &body[..end.unwrap_or(body.len())];
    match form_urlencoded::parse(first).next() {
        Some((name, token)) if name == FIELD => Found::Token(token.into_owned()),
        _ => Found::Nothing,
    }
}

/// Looks for the first part: boundary line, headers, empty line, TOKEN, CR LF, boundary.
fn in_multipart(body: &[u8], _: bool) -> Found {
    let Some(head_end) = find(body, b"\r\n\r\n") else { return Found::NotYet };
    let (head, rest) = (&body[..head_end], &body[head_end + 4..]);
    let is_ours = find(head, b"name=\"csrf\"").is_some() && find(head, b"filename").is_none();
    if !is_ours {
        return Found::Nothing;
    }
    match find(rest, b"\r\n") {
        None => Found::NotYet,
        Some(end) => Found::Token(String::from_utf8_lossy(&rest[..end]).into_owned()),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block_on, body_of_chunks};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_browsers_headers_decide_who_sends() {
        for (pairs, expected) in [
            (&[] as &[(&str, &str)], Sender::Own),
            (&[("sec-fetch-site", "same-origin")], Sender::Own),
            (&[("sec-fetch-site", "none")], Sender::Own),
            (&[("sec-fetch-site", "same-site")], Sender::Other),
            (&[("sec-fetch-site", "cross-site")], Sender::Other),
            (&[("host", "a.test"), ("origin", "https://a.test")], Sender::Own),
            (&[("host", "A.test:443"), ("origin", "https://a.test")], Sender::Own),
            (&[("host", "a.test:8080"), ("origin", "http://a.test:8080")], Sender::Own),
            (&[("host", "a.test:8080"), ("origin", "http://a.test:8081")], Sender::Other),
            (&[("host", "a.test"), ("origin", "https://evil.test")], Sender::Other),
            (&[("host", "a.test"), ("origin", "https://a.test.evil.test")], Sender::Other),
            (&[("host", "a.test"), ("origin", "null")], Sender::Other),
            (&[("host", ""), ("origin", "https://")], Sender::Other),
            (&[("origin", "https://a.test")], Sender::Other),
            (
                &[
                    ("host", "a.test"),
                    ("origin", "https://a.test"),
                    ("sec-fetch-site", "cross-site"),
                ],
                Sender::Other,
            ),
        ] {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, *value)).collect();
            assert_eq!(sender(&headers(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_token_is_found_and_the_body_stays_complete() {
        const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";
        const FILES: &str = "multipart/form-data; boundary=x";
        let field = "--x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\nabc-_\r\n--x\r\n";
        let other = "--x\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nabc\r\n--x--\r\n";
        let file = field.replace("name=\"csrf\"", "name=\"csrf\"; filename=\"a\"");
        let much = "x".repeat(3 * SEARCHED_BYTES);
        for (kind, body, expected) in [
            (FORM, "csrf=abc-_&text=1".to_owned(), Some("abc-_")),
            (FORM, "csrf=abc".to_owned(), Some("abc")),
            (FORM, "csrf=".to_owned(), Some("")),
            (FORM, "text=1&csrf=abc".to_owned(), None),
            (FORM, String::new(), None),
            (FORM, much.clone(), None),
            (FORM, format!("csrf=abc&text={much}"), Some("abc")),
            (FILES, field.to_owned() + &much, Some("abc-_")),
            (FILES, other.to_owned() + field, None),
            (FILES, file, None),
            (FILES, much.clone(), None),
            ("application/json", "{\"csrf\":\"abc\"}".to_owned(), None),
        ] {
            for size in [1, 7, 5000, usize::MAX] {
                let pieces = body.as_bytes().chunks(size.min(body.len().max(1)));
                let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
                let headers = headers(&[("content-type", kind)]);
                let (token, rest) = block_on(token(&headers, body_of_chunks(pieces))).unwrap();
                assert_eq!(token.as_deref(), expected, "{kind} {size}");
                let rest = block_on(Chunks::new(rest).collect(usize::MAX)).unwrap();
                assert!(rest == body.as_bytes(), "{kind} {size}");
            }
        }
        let headers = headers(&[("x-csrf-token", "abc"), ("content-type", FORM)]);
        let (token, _) = block_on(token(&headers, Body::from("a=b"))).unwrap();
        assert_eq!(token.as_deref(), Some("abc"));
    }
}
