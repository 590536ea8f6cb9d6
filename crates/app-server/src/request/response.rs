//! The response on its way out: whether it can be sent at all, and its body, held to its Content-Length.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::cause::Cause;
use crate::cgi_vars::cgi_to_http::parse_content_length;
use crate::cgi_vars::http_to_cgi::has_body;
use crate::error_report::{About, reference};
use crate::recovery::panics;
use crate::request::application::InFlight;
use crate::request::panic_guard::Foreign;

/// Checks whether a response can be sent, and returns the length its body must have, if it states one.
///
/// # Errors
///
/// Why the response cannot be sent.
pub(crate) fn stated_length<B: HttpBody>(
    response: &mut Response<B>,
    about: &About,
) -> Result<Option<u64>, String> {
    let status = response.status();
    if status.is_informational() {
        return Err(format!("{status} is an interim status, which cannot end a request"));
    }
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6.
        response.headers_mut().remove(CONTENT_LENGTH);
        return Ok(None);
    }
    let mut lengths = response.headers().get_all(CONTENT_LENGTH).iter();
    let stated = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok(None),
        (Some(length), None) => length,
        (Some(_), Some(_)) => return Err("it has several Content-Length headers".to_owned()),
    };
    let length = parse_content_length(stated.as_bytes())
        .ok_or_else(|| format!("its Content-Length is invalid: {stated:?}"))?;
    if status == StatusCode::NOT_MODIFIED && length == 0 {
        // Some frameworks (axum) count the empty body, but here the header means the length of the
        // client's cached copy.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if !has_body(&about.method, status) {
        return Ok(None);
    }
    match response.body().size_hint().exact() {
        Some(exact) if exact < length => {
            return Err(format!("its Content-Length is {length}, but its body has {exact} bytes"));
        }
        // The body is truncated there.
        Some(exact) if exact > length => {
            let About { method, uri, .. } = about;
            tracing::error!(
                %method,
                path = uri.path(),
                "Response body of {exact} bytes truncated to its Content-Length, {length}."
            );
        }
        _ => {}
    }
    Ok(Some(length))
}

pin_project! {
    /// The body of a response: the application's, or a page made by the server. It is as long as its
    /// Content-Length says: excess bytes are dropped, missing ones are an error.
    pub(crate) struct ResponseBody<B> {
        #[pin]
        source: BodySource<B>,
        // Bytes of the Content-Length still to come.
        left: Option<u64>,
        about: Option<About>,
        permit: Option<InFlight>,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum BodySource<B> {
        Application { #[pin] body: Foreign<B> },
        Isolated { relay: Box<dyn IsolatedResponse> },
        Page { page: Bytes },
        Over,
    }
}

/// What arrives of the response of an isolated request.
pub(crate) enum ChildEvent {
    /// The head, first and once.
    Head(Response<()>),
    /// More of the body.
    Data(Bytes),
    /// The response is complete.
    End,
    /// The process failed; nothing has been logged yet.
    Failed(Cause),
    /// The response was cut short, for this reason, which the process has logged.
    Truncated(String),
}

/// The response of an isolated request, as it arrives.
pub(crate) trait IsolatedResponse {
    /// Returns what arrives next. Nothing follows [`ChildEvent::End`] or a failure.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<ChildEvent>;

    /// Bytes of the body still to come, if its length was announced.
    fn left(&self) -> Option<u64>;
}

impl<B> ResponseBody<B> {
    pub(crate) fn application(
        body: Foreign<B>,
        length: Option<u64>,
        about: About,
        permit: InFlight,
    ) -> Self {
        let source = BodySource::Application { body };
        ResponseBody { source, left: length, about: Some(about), permit: Some(permit) }
    }

    pub(crate) fn isolated(
        relay: impl IsolatedResponse + 'static,
        about: About,
        permit: InFlight,
    ) -> Self {
        let source = BodySource::Isolated { relay: Box::new(relay) };
        ResponseBody { source, left: None, about: Some(about), permit: Some(permit) }
    }

    /// The request that this responds to, for a page that replaces the response.
    pub(crate) fn about(&self) -> About {
        self.about.clone().unwrap_or_else(About::unknown)
    }

    pub(crate) fn page(page: Bytes) -> Self {
        ResponseBody { source: BodySource::Page { page }, left: None, about: None, permit: None }
    }
}

/// The application's body, or the process that makes it, failed or panicked. Already logged.
#[derive(Debug)]
pub(crate) struct Truncated(pub(crate) Cause);

impl Truncated {
    /// What happened, in words.
    pub(crate) fn message(&self) -> String {
        match &self.0 {
            Cause::BadResponse(message) => message.clone(),
            cause => cause.to_string(),
        }
    }
}

impl fmt::Display for Truncated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "response cut short: {}", self.message())
    }
}

impl std::error::Error for Truncated {}

impl<B> HttpBody for ResponseBody<B>
where
    B: HttpBody,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        let mut this = self.project();
        let piece = match this.source.as_mut().project() {
            SourceProjection::Over => return Poll::Ready(None),
            SourceProjection::Page { page } => {
                let page = std::mem::take(page);
                Piece::Last((!page.is_empty()).then(|| Frame::data(page)))
            }
            SourceProjection::Isolated { relay } => ready!(relay.poll_event(context)).into(),
            SourceProjection::Application { body } => {
                ready!(poll_application(body, this.left, context))
            }
        };
        let last = match piece {
            Piece::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
            Piece::Last(frame) => {
                *this.permit = None;
                frame.map(Ok)
            }
            Piece::Failed(cause) => {
                let truncated = Truncated(cause);
                if let Some(about) = this.about {
                    report(&truncated, about);
                }
                Some(Err(truncated))
            }
            Piece::FailedInChild(message) => Some(Err(Truncated(Cause::BadResponse(message)))),
        };
        this.source.set(BodySource::Over);
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            // A body that is too short is polled once more, so that it fails.
            BodySource::Application { body } => {
                body.is_end_stream() && self.left.is_none_or(|left| left == 0)
            }
            BodySource::Isolated { relay } => relay.left() == Some(0),
            BodySource::Page { page } => page.is_empty(),
            BodySource::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Application { body } => match self.left {
                Some(left) => SizeHint::with_exact(left),
                None => body.size_hint(),
            },
            BodySource::Isolated { relay } => {
                relay.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            BodySource::Page { page } => SizeHint::with_exact(page.len() as u64),
            BodySource::Over => SizeHint::with_exact(0),
        }
    }
}

/// What comes next of a response.
enum Piece {
    Frame(Frame<Bytes>),
    /// The end, possibly with a last frame.
    Last(Option<Frame<Bytes>>),
    /// Not logged yet.
    Failed(Cause),
    /// The isolated process has logged it.
    FailedInChild(String),
}

impl From<ChildEvent> for Piece {
    fn from(event: ChildEvent) -> Self {
        match event {
            ChildEvent::Data(data) => Piece::Frame(Frame::data(data)),
            ChildEvent::Head(_) | ChildEvent::End => Piece::Last(None),
            ChildEvent::Failed(cause) => Piece::Failed(cause),
            ChildEvent::Truncated(message) => Piece::FailedInChild(message),
        }
    }
}

/// Polls the application's body. `left`: the bytes of its Content-Length still to come.
fn poll_application<B: HttpBody<Error: fmt::Display>>(
    body: Pin<&mut Foreign<B>>,
    left: &mut Option<u64>,
    context: &mut Context<'_>,
) -> Poll<Piece> {
    // Formatting an error runs the application's code too.
    let polled = body.run(|body| body.poll_frame(context).map_err(|error| error.to_string()));
    Poll::Ready(match polled {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(Some(Ok(frame)))) => {
            // For the usual `Bytes`, this shares the data instead of copying it.
            let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
            let Some(left) = left else { return Poll::Ready(Piece::Frame(frame)) };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => {
                    *left = rest;
                    Piece::Frame(frame)
                }
                None => {
                    let room = std::mem::take(left) as usize;
                    Piece::Last((room > 0).then(|| frame.map_data(|data| data.slice(..room))))
                }
            }
        }
        Ok(Poll::Ready(None)) => match left {
            Some(left) if *left > 0 => Piece::Failed(Cause::BadResponse(format!(
                "response body ended {left} bytes before its Content-Length"
            ))),
            _ => Piece::Last(None),
        },
        Ok(Poll::Ready(Some(Err(error)))) => Piece::Failed(Cause::BadResponse(error)),
        Err(panic) => Piece::Failed(Cause::BadResponse(format!("panic: {panic}"))),
    })
}

/// Logs why a response was cut short.
fn report(truncated: &Truncated, About { method, uri, .. }: &About) {
    let reference = reference();
    let (path, message) = (uri.path(), truncated.message());
    tracing::error!(%reference, %method, path, "Response truncated: {message}.");
    panics::log_backtrace(&reference);
}
