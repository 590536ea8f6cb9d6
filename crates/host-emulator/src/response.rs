//! From what a program writes to the response: held back and cut off as the host does.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event_loop::time::{self, Sleep};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::fastcgi::FastCgiRequest;
use crate::processes::Lease;
use crate::refusal::Refusal;
use crate::rules::{Directive, Rules};
use crate::script::Script;

/// Bytes of a response's head, and its header lines, beyond which it is refused.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// How long output is held back before the developer is told.
const HELD_LONG: Duration = Duration::from_secs(2);

/// What writes the response.
pub(crate) enum Output {
    FastCgi(FastCgiRequest, Lease),
    Script(Script),
}

/// The output of one request, with the host's deadlines.
pub(crate) struct Source {
    /// `None` once it has ended.
    output: Option<Output>,
    silence: Option<Limit>,
    total: Option<Limit>,
    /// How much is held back before it is sent.
    buffer: usize,
    /// What is held back.
    held: BytesMut,
    target: String,
    /// Counts it as in flight.
    _in_flight: Rc<()>,
}

/// A time that is limited by a rule.
struct Limit {
    directive: Directive,
    time: Duration,
    alarm: Sleep,
}

impl Limit {
    fn of(rules: &Rules, directive: Directive) -> Option<Self> {
        let time = rules.time(directive)?;
        Some(Limit { directive, time, alarm: time::sleep(time) })
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        Pin::new(&mut self.alarm).poll(context).is_ready()
    }
}

impl Source {
    /// `target`: method and path, for messages.
    pub(crate) fn new(output: Output, rules: &Rules, target: String, in_flight: Rc<()>) -> Self {
        let silence = Limit::of(rules, Directive::FcgidIOTimeout);
        Source {
            output: Some(output),
            silence: silence.or_else(|| Limit::of(rules, Directive::Timeout)),
            total: Limit::of(rules, Directive::FcgidBusyTimeout),
            buffer: rules
                .get(Directive::FcgidOutputBufferSize)
                .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            held: BytesMut::new(),
            target,
            _in_flight: in_flight,
        }
    }

    /// Waits until the host sends something, and returns the response's head with its body.
    pub(crate) async fn respond(mut self) -> Result<Response<EmulatedBody>, Refusal> {
        let mut note = HeldBack::default();
        let (head, length) = std::future::poll_fn(|context| {
            loop {
                let is_full = self.held.len() >= self.buffer.max(1) || self.output.is_none();
                if is_full && let Some(parsed) = parse_head(&self.held)? {
                    return Poll::Ready(Ok(parsed));
                }
                if self.output.is_none() {
                    let why = match self.held.is_empty() {
                        true => "End of script output before headers",
                        false => "its head is incomplete",
                    };
                    return Poll::Ready(Err(Refusal::Malformed { why }));
                }
                match self.poll_more(context)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        note.poll(&self, context);
                        return Poll::Pending;
                    }
                }
            }
        })
        .await?;
        let _ = self.held.split_to(length);
        let is_done = self.output.is_none();
        let body = EmulatedBody(if is_done && self.held.is_empty() {
            Content::Page(None)
        } else {
            Content::Program(Box::new(self))
        });
        Ok(head.map(|()| body))
    }

    /// Waits for one more piece, or the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let Some(output) = &mut self.output else { return Poll::Ready(Ok(())) };
        let next = match output {
            Output::FastCgi(request, _) => request.poll_output(context),
            Output::Script(script) => script.poll_output(context),
        };
        match next {
            Poll::Ready(Ok(Some(piece))) => {
                self.held.extend_from_slice(&piece);
                if let Some(silence) = &mut self.silence {
                    silence.alarm.reset(time::now() + silence.time);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(None)) => {
                self.output = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.output = None;
                let why = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
                    _ => error.to_string(),
                };
                Poll::Ready(Err(Refusal::Ended { why }))
            }
            Poll::Pending => match self.late(context) {
                Some(refusal) => {
                    if let Some(Output::FastCgi(_, lease)) = self.output.take() {
                        lease.end_process();
                    }
                    Poll::Ready(Err(refusal))
                }
                None => Poll::Pending,
            },
        }
    }

    /// Returns why the host gives up on the program, if it does.
    fn late(&mut self, context: &mut Context<'_>) -> Option<Refusal> {
        if let Some(silence) = &mut self.silence
            && silence.is_over(context)
        {
            let (directive, seconds) = (silence.directive, silence.time.as_secs());
            return Some(Refusal::Silent { directive, seconds });
        }
        let total = self.total.as_mut()?;
        total.is_over(context).then_some(Refusal::Busy { seconds: total.time.as_secs() })
    }
}

/// Says once that output is held back, if it is for long.
#[derive(Default)]
struct HeldBack {
    alarm: Option<Sleep>,
    is_said: bool,
}

impl HeldBack {
    fn poll(&mut self, source: &Source, context: &mut Context<'_>) {
        if source.held.is_empty() || source.buffer == 0 || self.is_said {
            return;
        }
        let alarm = self.alarm.get_or_insert_with(|| time::sleep(HELD_LONG));
        if Pin::new(alarm).poll(context).is_ready() {
            self.is_said = true;
            tracing::warn!(
                "Apache would hold this back: {} has sent {} bytes, and the visitor gets nothing before there are {} or \
                 the response ends (FcgidOutputBufferSize). Let the page ask again and again instead \
                 (docs/your-own-app.md).",
                source.target,
                source.held.len(),
                source.buffer
            );
        }
    }
}

/// Parses a CGI response's head (RFC 3875 §6): returns it with its length; `None` if it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Response<()>, usize)>, Refusal> {
    let malformed = |why| Err(Refusal::Malformed { why });
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (length, headers) = match httparse::parse_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD => {
            return malformed("its head does not end");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return malformed("malformed header"),
    };
    let mut response = Response::new(());
    for header in headers {
        if header.name.eq_ignore_ascii_case("Status") {
            let status = header.value.get(..3).and_then(|code| StatusCode::from_bytes(code).ok());
            match status {
                Some(status) if !status.is_informational() => *response.status_mut() = status,
                _ => return malformed("malformed Status"),
            }
            continue;
        }
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        match (name, value) {
            (Ok(name), Ok(value)) => drop(response.headers_mut().append(name, value)),
            _ => return malformed("malformed header"),
        }
    }
    Ok(Some((response, length)))
}

/// A response's body: the program's, as the host passes it on, or a page of the host's own.
pub struct EmulatedBody(Content);

enum Content {
    Page(Option<Bytes>),
    Program(Box<Source>),
}

impl EmulatedBody {
    /// A page of the host's own.
    pub(crate) fn page(page: Bytes) -> Self {
        EmulatedBody(Content::Page(Some(page)))
    }
}

impl fmt::Debug for EmulatedBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EmulatedBody(..)")
    }
}

impl Body for EmulatedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let source = match &mut self.0 {
            Content::Page(page) => {
                let page = page.take().filter(|page| !page.is_empty());
                return Poll::Ready(page.map(|page| Ok(Frame::data(page))));
            }
            Content::Program(source) => source,
        };
        loop {
            let is_done = source.output.is_none();
            if !source.held.is_empty() && (is_done || source.held.len() >= source.buffer.max(1)) {
                return Poll::Ready(Some(Ok(Frame::data(source.held.split().freeze()))));
            }
            if is_done {
                return Poll::Ready(None);
            }
            match source.poll_more(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(refusal)) => {
                    tracing::warn!("Apache would cut off {}: {refusal}.", source.target);
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Page(page) => {
                SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64))
            }
            // All of it is there.
            Content::Program(source) if source.output.is_none() => {
                SizeHint::with_exact(source.held.len() as u64)
            }
            Content::Program(_) => SizeHint::default(),
        }
    }
}

/// The host has cut a response off; the log said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the emulated host has cut the response off")
    }
}

impl Error for BrokenOff {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_like_apache_does() {
        let parsed = |bytes: &str| parse_head(bytes.as_bytes());
        let (head, length) =
            parsed("Status: 404 Not Found\r\nA: b\r\nA: c\r\n\r\nbody").unwrap().unwrap();
        assert_eq!((head.status().as_u16(), length), (404, 37));
        assert_eq!(head.headers().get_all("a").iter().count(), 2);
        let (head, length) = parsed("Content-Type: text/plain\n\nbody").unwrap().unwrap();
        assert_eq!((head.status().as_u16(), length), (200, 26));
        assert!(parsed("Status: 200 OK\r\nA: b\r\n").unwrap().is_none(), "incomplete");
        for bytes in ["Hello, world\n\n", "Status: soon\n\n", "Status: 100 Continue\n\n"] {
            assert!(parsed(bytes).is_err(), "{bytes:?}");
        }
        assert!(parsed(&format!("A: {}", "b".repeat(MAX_HEAD))).is_err(), "no end");
    }
}
