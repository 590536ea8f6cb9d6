//! One FastCGI exchange: the request goes to the application, its answer back to the connection.
//!
//! The answer's head, a small body, the end of the stream and END_REQUEST stand together in the
//! connection's output, which `fastcgi.rs` sends in one write.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{BufMut, Bytes};
use fastcgi_server::RequestId;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tower_service::Service;

use crate::application::Application;
use crate::body::Body;
use crate::error_report::{About, Cause};
use crate::fastcgi::Link;
use crate::http_to_cgi::{announced_length, has_body, write_head};

/// Body bytes that are copied behind the head, into the same record; more is shared instead.
/// Copying 8 KiB costs less than the allocation and the further segment of a vectored write.
const COPIED_BYTES: usize = 8 * 1024;

/// Answers one request and ends it.
pub(crate) async fn run<S, B>(
    application: Rc<Application<S>>,
    link: Rc<Link>,
    id: RequestId,
    request: Request<Body>,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
    B::Error: fmt::Display,
{
    let method = request.method().clone();
    let mut about = Some(About::request(&request));
    let (head, body) = application.answer(request).await.into_parts();
    let mut body = pin!(body);
    let has_body = has_body(&method, head.status);

    // What is there at once goes out with the head; nothing is waited for.
    let mut first = Bytes::new();
    if has_body {
        let polled = poll_fn(|context| Poll::Ready(body.as_mut().poll_frame(context))).await;
        match polled {
            Poll::Ready(Some(Ok(frame))) => first = frame.into_data().unwrap_or_default(),
            Poll::Ready(Some(Err(error))) => {
                // No byte is out yet: the visitor can still be told.
                if let Some(about) = about.take() {
                    let page = application.page(Cause::BadResponse(error.0), &about);
                    link.page(id, &method, page);
                }
                return;
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
    drop(about);
    let hint = body.size_hint().exact().map(|rest| rest + first.len() as u64);
    let length = announced_length(&head.headers, head.status, hint);
    let copied = first.len() <= COPIED_BYTES;
    let mut wanted = link.stdout_in_place(id, |output| {
        write_head(&head, length, output);
        if copied {
            output.put_slice(&first);
        }
    });
    if !copied {
        wanted = link.stdout(id, first);
    }
    while wanted && has_body && !body.is_end_stream() {
        link.writable().await;
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => wanted = data(frame).is_none_or(|data| link.stdout(id, data)),
            Some(Err(_)) => return link.break_off(id),
            None => break,
        }
    }
    link.end(id);
}

/// A frame's bytes; trailers have no place in CGI.
fn data(frame: Frame<Bytes>) -> Option<Bytes> {
    frame.into_data().ok().filter(|data| !data.is_empty())
}

impl Link {
    /// Answers with a page of the server's own and ends the request.
    pub(crate) fn page(&self, id: RequestId, method: &Method, page: Response<Bytes>) {
        let (head, body) = page.into_parts();
        let length = announced_length(&head.headers, head.status, Some(body.len() as u64));
        self.stdout_in_place(id, |output| write_head(&head, length, output));
        if has_body(method, head.status) {
            self.stdout(id, body);
        }
        self.end(id);
    }
}
