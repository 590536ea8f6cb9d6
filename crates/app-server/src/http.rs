//! One HTTP/1.1 connection, by hyper, on the same loop and to the same application.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use event_loop::net::Stream;
use event_loop::time::{self, HyperTimer};
use http::Request;
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tower_service::Service;

use crate::application::Application;
use crate::base_path::BasePath;
use crate::body::{Body, Patience};
use crate::cgi_headers;
use crate::connections::Place;
use crate::extensions::{RemoteAddress, Scheme};
use crate::forwarded::{self, Peer};
use crate::settings::Settings;

/// Serves one connection until it ends.
pub(crate) async fn serve<S, B>(
    application: Rc<Application<S>>,
    stream: Stream,
    peer: Option<SocketAddr>,
    place: Place,
) where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    let place = Rc::new(place);
    place.set_idle_since(Some(time::now()));
    let settings = &application.settings;
    let stream = PatientStream { stream, patience: Patience::new(settings.send_timeout) };
    let in_progress = Rc::new(Cell::new(0u32));
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = InProgress::begin(&in_progress, &place);
        let request = into_ours(request, peer, settings);
        let application = application.clone();
        async move {
            let answer = application.answer(request).await;
            drop(exchange);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(settings.receive_timeout)
        .max_buf_size(settings.http_head_bytes.max(8192))
        .pipeline_flush(true)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let mut told = false;
    let end = poll_fn(|context| {
        if !told && place.poll_asked_to_close(context) {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
    if let Err(error) = end
        && !error.is_incomplete_message()
        && !error.is_timeout()
    {
        tracing::debug!("An HTTP connection ended: {error}.");
    }
}

/// hyper's request as the application sees all requests.
fn into_ours(
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    settings: &Settings,
) -> Request<Body> {
    let (mut head, incoming) = request.into_parts();
    // An absolute target (RFC 9112 §3.2.2) is the same request as its path.
    if head.uri.scheme().is_some() {
        head.uri = head.uri.path_and_query().cloned().map(Into::into).unwrap_or_default();
    }
    cgi_headers::join_cookies(&mut head.headers);
    let peer = peer.map_or(Peer::UnixSocket, |peer| Peer::Address(peer.ip()));
    let visitor = forwarded::visitor(&settings.trusted_proxies, peer, &head.headers);
    head.extensions.insert(BasePath::default());
    head.extensions.insert(visitor.scheme.unwrap_or(Scheme::Http));
    if let Some(address) = visitor.address {
        head.extensions.insert(RemoteAddress(address));
    }
    let body = Body::http(incoming, &head.headers, settings.receive_timeout);
    Request::from_parts(head, body)
}

/// Keeps the connection out of the idle ones while a request is with the application.
struct InProgress {
    count: Rc<Cell<u32>>,
    place: Rc<Place>,
}

impl InProgress {
    fn begin(count: &Rc<Cell<u32>>, place: &Rc<Place>) -> Self {
        count.set(count.get() + 1);
        place.set_idle_since(None);
        InProgress { count: count.clone(), place: place.clone() }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0 {
            self.place.set_idle_since(Some(time::now()));
        }
    }
}

/// A stream whose peer has to take what is written within a time.
struct PatientStream {
    stream: Stream,
    patience: Patience,
}

impl PatientStream {
    fn patiently(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match write(Pin::new(&mut self.stream), context) {
            Poll::Ready(written) => {
                self.patience.rest();
                Poll::Ready(written)
            }
            Poll::Pending if self.patience.poll_over(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Read::poll_read(Pin::new(&mut self.stream), context, buffer)
    }
}

impl Write for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.patiently(context, |stream, context| Write::poll_write(stream, context, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.patiently(context, |stream, context| {
            Write::poll_write_vectored(stream, context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.stream), context)
    }
}
