//! Checks one response as it arrives: is it what was expected?

use bytes::Bytes;

use crate::options::Options;

/// What a correct response looks like.
#[derive(Clone, Debug)]
pub struct Expected {
    status: u16,
    text: Option<Bytes>,
    length: Option<u64>,
}

impl Expected {
    /// Builds it from the command line.
    pub fn of(options: &Options) -> Expected {
        Expected {
            status: options.expect_status,
            text: options.expect_text.clone().map(Bytes::from),
            length: options.expect_length,
        }
    }

    /// Returns what is wrong with a response's status and body, if anything.
    fn fault(&self, status: Option<u16>, body: &Body) -> Option<String> {
        match status {
            None => return Some("the response has no head".to_owned()),
            Some(status) if status != self.status => {
                return Some(format!("the status is {status}"));
            }
            Some(_) => {}
        }
        if let Some(text) = &self.text
            && (body.differs || body.bytes != text.len() as u64)
        {
            return Some(format!("the body is another one, of {} bytes", body.bytes));
        }
        match self.length {
            Some(length) if length != body.bytes => {
                Some(format!("the body has {} bytes instead of {length}", body.bytes))
            }
            _ => None,
        }
    }
}

/// The body so far. Compared as it arrives, not kept.
#[derive(Clone, Debug, Default)]
pub struct Body {
    bytes: u64,
    differs: bool,
}

impl Body {
    fn add(&mut self, data: &[u8], expected: &Expected) {
        if let Some(text) = &expected.text
            && !self.differs
        {
            // Only as much as the expected text is compared; a longer body differs in length.
            let rest = text.get(self.bytes as usize..).unwrap_or_default();
            self.differs = !rest.starts_with(data);
        }
        self.bytes += data.len() as u64;
    }

    /// Returns how many bytes have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Larger than any response head here.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A CGI response (RFC 3875 §6), parsed from the chunks of a stream.
#[derive(Clone, Debug, Default)]
pub struct CgiResponse {
    /// The part of the head that has arrived, until it is complete.
    head: Vec<u8>,
    status: Option<u16>,
    body: Body,
}

impl CgiResponse {
    /// Takes the next chunk.
    pub fn add(&mut self, data: &[u8], expected: &Expected) {
        if self.status.is_some() {
            return self.body.add(data, expected);
        }
        // A typical response arrives in one chunk: nothing is copied.
        if self.head.is_empty()
            && let Some(end) = end_of_head(data)
        {
            self.status = Some(cgi_status(&data[..end]));
            return self.body.add(&data[end..], expected);
        }
        self.head.extend_from_slice(data);
        if let Some(end) = end_of_head(&self.head) {
            self.status = Some(cgi_status(&self.head[..end]));
            let rest = self.head.split_off(end);
            self.body.add(&rest, expected);
        } else if self.head.len() > MAX_HEAD_BYTES {
            self.status = Some(0);
        }
    }

    /// Returns what is wrong with the response, now that it is complete.
    pub fn fault(&self, expected: &Expected) -> Option<String> {
        expected.fault(self.status, &self.body)
    }
}

/// An HTTP response whose status is known.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    status: u16,
    body: Body,
}

impl HttpResponse {
    /// Creates one without a body yet.
    pub fn new(status: u16) -> HttpResponse {
        HttpResponse { status, body: Body::default() }
    }

    /// Takes the next chunk of the body.
    pub fn add(&mut self, data: &[u8], expected: &Expected) {
        self.body.add(data, expected);
    }

    /// Returns the body so far.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Returns what is wrong with the response, now that it is complete.
    pub fn fault(&self, expected: &Expected) -> Option<String> {
        expected.fault(Some(self.status), &self.body)
    }
}

/// Returns where the body starts: after the first empty line. Programs end lines with CR LF or LF.
pub fn end_of_head(data: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    loop {
        let line_end = line_start + data[line_start..].iter().position(|&byte| byte == b'\n')?;
        let line =
            data[line_start..line_end].strip_suffix(b"\r").unwrap_or(&data[line_start..line_end]);
        if line.is_empty() {
            return Some(line_end + 1);
        }
        line_start = line_end + 1;
    }
}

/// Returns a head's status: 200 if it has none, 0 if it is not a number.
fn cgi_status(head: &[u8]) -> u16 {
    value(head, b"status").map_or(200, |value| number(value).unwrap_or(0))
}

/// Returns the value of the first header of this name (lower case).
pub fn value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Parses the number at the start of a text.
pub fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(status: u16, text: Option<&'static str>, length: Option<u64>) -> Expected {
        Expected { status, text: text.map(Bytes::from), length }
    }

    fn fault(response: &[u8], cut: usize, expected: &Expected) -> Option<String> {
        let mut parsed = CgiResponse::default();
        response.chunks(cut).for_each(|piece| parsed.add(piece, expected));
        parsed.fault(expected)
    }

    #[test]
    fn responses_in_every_cut() {
        let hello = expected(200, Some("Hello"), None);
        for (response, expected, good) in [
            (&b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello"[..], &hello, true),
            (b"Content-Type: text/plain\n\nHello", &hello, true),
            (b"status: 200\n\nHello!", &hello, false),
            (b"status: 200\n\nHellp", &hello, false),
            (b"status: 200\n\nHell", &hello, false),
            (b"Status: 500 Oops\r\n\r\nHello", &hello, false),
            (b"Status: x\r\n\r\nHello", &hello, false),
            (b"Status: 200 OK\r\n", &hello, false),
            (b"", &hello, false),
            (b"Status: 404 Not Found\r\n\r\nabc", &expected(404, None, Some(3)), true),
            (b"Status: 404 Not Found\r\n\r\nabcd", &expected(404, None, Some(3)), false),
        ] {
            for cut in 1..=response.len().max(1) {
                let fault = fault(response, cut, expected);
                let shown = String::from_utf8_lossy(response);
                assert_eq!(fault.is_none(), good, "{shown:?} cut at {cut}: {fault:?}");
            }
        }
    }
}
