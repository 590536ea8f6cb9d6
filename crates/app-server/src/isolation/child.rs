//! The child's side of an isolated request: an event loop of its own, the same service, one request.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll};

use event_loop::pipe::{Reader, Writer};
use http::{Request, Response, request};
use http_body::Body as HttpBody;

use crate::cgi_vars::http_to_cgi::has_body;
use crate::isolation::frames::{Frames, PipeFrame};
use crate::recovery::Mark;
use crate::request::application::Application;
use crate::request::body::{Body, BodyError, Sender};
use crate::request::context::RequestContext;
use crate::request::service::HttpService;

/// The child's ends of the two pipes.
pub(super) struct Pipes {
    pub(super) body: OwnedFd,
    pub(super) response: OwnedFd,
}

/// Answers one request and returns the process's exit code. `length` is the body's, if known; the outer
/// `None` means that there is no body.
pub(super) fn run<S: HttpService>(
    application: &Application<S>,
    head: request::Parts,
    length: Option<Option<u64>>,
    mark: Mark,
    pipes: Pipes,
) -> u8 {
    let served = event_loop::run(async {
        let mut response = Writer::from_fd(pipes.response)?;
        let (sender, body) = match length {
            Some(length) => {
                let (sender, body) = Body::queue(length);
                (Some(sender), body)
            }
            None => (None, Body::empty()),
        };
        let mut receiving = Receiving {
            pipe: Reader::from_fd(pipes.body)?,
            frames: Frames::default(),
            sender,
            room: application.settings.body_bytes,
        };
        let mut request = Request::from_parts(head, body);
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            context.part.answer_here();
        }
        let mut responding = pin!(respond(application, request, mark, &mut response));
        poll_fn(|context| {
            if let Poll::Ready(written) = responding.as_mut().poll(context) {
                return Poll::Ready(written);
            }
            receiving.poll_parent_gone(context).map(Err)
        })
        .await
    });
    match served.and_then(|written| written) {
        Ok(()) => 0,
        // The response is no longer wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => {
            tracing::error!("Isolated process cannot send its response: {error}.");
            1
        }
    }
}

async fn respond<S: HttpService>(
    application: &Application<S>,
    request: Request<Body>,
    mark: Mark,
    pipe: &mut Writer,
) -> io::Result<()> {
    let method = request.method().clone();
    let response = application.answer(&mut Some(request), mark.of_last_request()).await;
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    let is_all = !has_body(&method, head.status) || body.is_end_stream();
    let exact = body.size_hint().exact();
    let response = Response::from_parts(head, ());
    PipeFrame::Head { response, exact, is_all }.write(pipe).await?;
    if is_all {
        return Ok(());
    }
    loop {
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => {
                // CGI cannot carry trailers.
                if let Ok(data) = frame.into_data() {
                    PipeFrame::Data(data).write(pipe).await?;
                }
            }
            Some(Err(error)) => return PipeFrame::Failed(error.message()).write(pipe).await,
            None => return PipeFrame::End.write(pipe).await,
        }
    }
}

/// The request's body, as the parent sends it.
struct Receiving {
    pipe: Reader,
    frames: Frames,
    /// `None` once the body has ended.
    sender: Option<Sender>,
    /// Bytes that may wait for the handler.
    room: usize,
}

impl Receiving {
    /// Passes what arrives to the handler. Ready when the parent has closed its end (`BrokenPipe`), or
    /// when that can no longer be detected.
    fn poll_parent_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            while let Ok(Some(frame)) = self.frames.next() {
                match frame {
                    PipeFrame::Data(data) => {
                        if let Some(sender) = &mut self.sender {
                            sender.push(data);
                        }
                    }
                    PipeFrame::Failed(why) => {
                        if let Some(sender) = self.sender.take() {
                            sender.fail(BodyError::Relayed(why));
                        }
                    }
                    PipeFrame::End | PipeFrame::Head { .. } => {
                        if let Some(sender) = self.sender.take() {
                            sender.end();
                        }
                    }
                }
            }
            let room = self.room;
            if self.sender.as_ref().is_some_and(|sender| sender.poll_full(context, room)) {
                // Reading is paused, but the parent's exit must still be noticed.
                return self
                    .pipe
                    .poll_closed(context)
                    .map(|closed| closed.err().unwrap_or(io::ErrorKind::BrokenPipe.into()));
            }
            match self.pipe.poll_read_into(context, self.frames.buffer()) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(ended) => {
                    if let Some(sender) = self.sender.take() {
                        sender.fail(BodyError::Aborted);
                    }
                    return Poll::Ready(ended.err().unwrap_or(io::ErrorKind::BrokenPipe.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
