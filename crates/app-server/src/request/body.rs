//! A request's body on its way from a connection to a handler, with backpressure.
//!
//! Over FastCGI it is a queue with two ends: the connection's ([`Sender`]) and the handler's ([`Body`]).
//! Over HTTP it is hyper's. The queue is an `Arc<Mutex<…>>` although everything runs on one thread: axum
//! requires `Send`, the lock is never contended, and reference counting needs no table to clean up.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_loop::time;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::request::patience::Alarm;
use crate::request::permits::{Arrival, Eviction};
use crate::request::spill::Spill;
use crate::settings::Settings;

/// A request's body: a stream of [`Bytes`], read at the handler's pace.
///
/// Dropping it discards the rest.
pub struct Body(Kind);

enum Kind {
    Empty,
    Queue {
        queue: Arc<Mutex<Queue>>,
        length: Option<u64>,
        arrival: Option<Arrival>,
    },
    /// Boxed because it is much larger than the other variants, and most requests have no body.
    Http(Box<HttpIncoming>),
}

/// A body that hyper receives.
struct HttpIncoming {
    incoming: hyper::body::Incoming,
    arrival: Arrival,
    alarm: Alarm,
    receive_timeout: Duration,
    /// Bytes of an unread body that are still read, so that the client, still sending, gets to read the response.
    unread_body_bytes: u64,
    /// The handler has dropped the body.
    unwanted: bool,
    /// Whether the body is still read for a while after its request has ended.
    lingers: bool,
    /// The client waits for `100 Continue` before it sends (RFC 9110 §10.1.1). hyper sends that when the
    /// body is first polled.
    held_back: bool,
}

/// How long data that follows a refusal is read and dropped. Closing immediately would discard the
/// refusal. nginx waits 5 s for more data, 30 s in total.
pub(crate) const LINGERING: Duration = Duration::from_secs(5);

/// Why a body ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The client left, or the web server aborted the request.
    Aborted,
    /// The web server announced `expected` bytes (CONTENT_LENGTH) and sent `received`.
    Incomplete {
        /// Bytes announced.
        expected: u64,
        /// Bytes received.
        received: u64,
    },
    /// Nothing arrived for this long (`receive_timeout`), or too little (`min_rate`).
    TimedOut(Duration),
    /// More bytes than allowed waited on disk (`spilled_body_bytes`).
    TooMuchWaiting(u64),
    /// The temporary file for spilled bytes cannot be written or read.
    Spill(std::io::Error),
    /// The HTTP connection failed.
    Http(hyper::Error),
    /// The source of the body cannot be read (descriptor 0 over CGI, or a file).
    Input(std::io::Error),
    /// The body broke off in the process that relays it to this one, for this reason.
    Relayed(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Aborted => {
                write!(formatter, "the request was aborted before its body was complete")
            }
            BodyError::Incomplete { expected, received } => {
                write!(
                    formatter,
                    "request body ended after {received} of {expected} announced bytes"
                )
            }
            BodyError::TimedOut(limit) => {
                write!(formatter, "request body stalled or too slow for {} s", limit.as_secs())
            }
            BodyError::TooMuchWaiting(limit) => write!(
                formatter,
                "more than {limit} bytes of the request body wait to be read (spilled_body_bytes)"
            ),
            BodyError::Spill(error) => {
                write!(formatter, "the temporary file for the request body failed: {error}")
            }
            BodyError::Http(error) => write!(formatter, "the HTTP connection failed: {error}"),
            BodyError::Input(error) => write!(formatter, "cannot read the request body: {error}"),
            BodyError::Relayed(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Spill(error) | BodyError::Input(error) => Some(error),
            BodyError::Http(error) => Some(error),
            _ => None,
        }
    }
}

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Body(Kind::Empty)
    }

    /// Makes the two ends of a queue. `length` is the announced length in bytes, if any.
    pub(crate) fn queue(length: Option<u64>) -> (Sender, Body) {
        Body::queue_of(length, None)
    }

    /// Like [`queue`](Self::queue), for a body that is still arriving and whose permit others may need.
    pub(crate) fn arriving(length: Option<u64>, settings: &Settings) -> (Sender, Body) {
        Body::queue_of(length, Some(Arrival::new(settings)))
    }

    fn queue_of(length: Option<u64>, arrival: Option<Arrival>) -> (Sender, Body) {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let body = Body(Kind::Queue { queue: queue.clone(), length, arrival: arrival.clone() });
        (Sender { queue, expected: length, received: 0, arrival }, body)
    }

    /// A body that hyper receives. It ends when its sender is too slow.
    pub(crate) fn http(
        incoming: hyper::body::Incoming,
        headers: &HeaderMap,
        settings: &Settings,
    ) -> Self {
        if incoming.is_end_stream() {
            return Body::empty();
        }
        let held_back = headers.contains_key(EXPECT);
        Body(Kind::Http(Box::new(HttpIncoming {
            incoming,
            arrival: Arrival::new(settings),
            alarm: Alarm::default(),
            receive_timeout: settings.receive_timeout,
            unread_body_bytes: settings.unread_body_bytes,
            unwanted: false,
            lingers: false,
            held_back,
        })))
    }

    /// Returns how the body is arriving, unless it is already complete.
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        match &self.0 {
            Kind::Empty => None,
            Kind::Queue { arrival, .. } => arrival.as_ref(),
            Kind::Http(http) => Some(&http.arrival),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Body").field("size_hint", &self.size_hint()).finish()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Queue { queue, length, .. } => {
                let polled = lock(queue).poll_next(context);
                if let (Poll::Ready(Some(Ok(data))), Some(left)) = (&polled, length) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                polled.map_ok(Frame::data)
            }
            Kind::Http(http) => http.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Queue { queue, .. } => lock(queue).is_at_end(),
            Kind::Http(http) => http.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Queue { length: Some(length), .. } => SizeHint::with_exact(*length),
            Kind::Queue { length: None, .. } => SizeHint::default(),
            Kind::Http(http) => http.incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Kind::Empty) {
            Kind::Empty => {}
            Kind::Queue { queue, .. } => lock(&queue).abandon(),
            Kind::Http(http) if http.held_back || http.incoming.is_end_stream() => {
                http.arrival.set_over();
            }
            Kind::Http(http) => event_loop::spawn(http.discard()).detach(),
        }
    }
}

impl HttpIncoming {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.held_back = false;
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                match &frame {
                    Some(Ok(frame)) => {
                        self.arrival.received(frame.data_ref().map_or(0, Bytes::len));
                        if self.incoming.is_end_stream() {
                            self.arrival.set_over();
                        }
                    }
                    Some(Err(_)) | None => self.arrival.set_over(),
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Http)))
            }
            Poll::Pending => {
                if self.lingers {
                    return Poll::Pending;
                }
                // Once the request has ended, what is read is not needed.
                let Some(deadline) = self.arrival.wait() else {
                    return Poll::Ready(Some(Err(BodyError::Aborted)));
                };
                if !self.alarm.poll_past(context, deadline) {
                    return Poll::Pending;
                }
                // This drops the handler that reads the body, and the server responds to the client.
                if !self.unwanted && self.arrival.end(Eviction::TooSlow(self.receive_timeout)) {
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(BodyError::TimedOut(self.receive_timeout))))
            }
        }
    }

    async fn discard(mut self) {
        self.unwanted = true;
        self.lingers = self.arrival.wait().is_none();
        let arrival = self.arrival.clone();
        if self.lingers {
            let _ = time::timeout(LINGERING, self.read_rest()).await;
        } else {
            self.read_rest().await;
        }
        arrival.set_over();
    }

    async fn read_rest(&mut self) {
        let mut left = self.unread_body_bytes;
        while let Some(Ok(frame)) = poll_fn(|context| self.poll_frame(context)).await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    }
}

/// The connection's end of a body queue.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: Arc<Mutex<Queue>>,
    expected: Option<u64>,
    received: u64,
    arrival: Option<Arrival>,
}

impl Sender {
    /// Passes data to the reader. Bytes beyond the announced length are dropped (RFC 3875 §4.2: the
    /// script must not read more).
    pub(crate) fn push(&mut self, mut data: Bytes) {
        if let Some(expected) = self.expected {
            let room = expected.saturating_sub(self.received);
            if data.len() as u64 > room {
                data.truncate(room as usize);
            }
        }
        self.received += data.len() as u64;
        if let Some(arrival) = &self.arrival {
            arrival.received(data.len());
        }
        lock(&self.queue).push(data);
    }

    /// Starts waiting for more. Returns the deadline, if there is one.
    pub(crate) fn wait(&self) -> Option<Instant> {
        self.arrival.as_ref().and_then(Arrival::wait)
    }

    /// Stops waiting: the reader has to catch up before more is read.
    pub(crate) fn pause(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.pause();
        }
    }

    /// Ends the request whose body arrived too slowly or, if its response has started, only the body.
    pub(crate) fn give_up(&self, receive_timeout: Duration) {
        if let Some(arrival) = &self.arrival {
            arrival.end(Eviction::TooSlow(receive_timeout));
        }
        lock(&self.queue).end(BodyEnd::Failed(BodyError::TimedOut(receive_timeout)));
    }

    /// From now on, spills to disk what arrives while `memory` bytes wait in memory; `disk` is the limit
    /// there.
    pub(crate) fn spill_past(&self, memory: usize, disk: u64) {
        lock(&self.queue).spill_limits = Some((memory, disk));
    }

    /// Ends the body: the stream is complete.
    pub(crate) fn end(self) {
        let end = match self.expected {
            Some(expected) if self.received < expected => {
                BodyEnd::Failed(BodyError::Incomplete { expected, received: self.received })
            }
            _ => BodyEnd::Complete,
        };
        self.set_over();
        lock(&self.queue).end(end);
    }

    /// Ends the body with an error.
    pub(crate) fn fail(self, error: BodyError) {
        self.set_over();
        lock(&self.queue).end(BodyEnd::Failed(error));
    }

    fn set_over(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.set_over();
        }
    }

    /// Whether at least `limit` bytes wait in memory; if so, wakes the context when fewer do.
    pub(crate) fn poll_full(&self, context: &mut Context<'_>, limit: usize) -> bool {
        let mut queue = lock(&self.queue);
        let full = queue.in_memory >= limit;
        queue.writer = full.then(|| (context.waker().clone(), limit / 2));
        full
    }
}

/// What a chunk costs besides its bytes: its slot in the queue, and the record header and padding that it
/// keeps allocated. Counted so that a body sent in single bytes cannot exhaust memory.
const PIECE_BYTES: usize = 64;

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    /// Memory that `pieces` use, in bytes.
    in_memory: usize,
    /// Follows `pieces`, if it is not empty.
    spill: Option<Spill>,
    spill_limits: Option<(usize, u64)>,
    end: Option<BodyEnd>,
    reader: Option<Waker>,
    /// Woken once at most this many bytes are in memory.
    writer: Option<(Waker, usize)>,
    /// The body was dropped; nothing more is kept.
    abandoned: bool,
}

#[derive(Debug)]
enum BodyEnd {
    Complete,
    Failed(BodyError),
    /// The error has been returned.
    Reported,
}

impl Queue {
    fn push(&mut self, data: Bytes) {
        if self.abandoned || self.end.is_some() || data.is_empty() {
            return;
        }
        let spilling = self.spill.as_ref().is_some_and(|spill| !spill.is_empty());
        match self.spill_limits {
            Some((memory, disk)) if spilling || self.in_memory >= memory => {
                if let Err(error) = self.push_to_disk(&data, disk) {
                    self.end = Some(BodyEnd::Failed(error));
                }
            }
            _ => {
                self.in_memory += data.len() + PIECE_BYTES;
                self.pieces.push_back(data);
            }
        }
        self.wake_reader();
    }

    fn push_to_disk(&mut self, data: &[u8], limit: u64) -> Result<(), BodyError> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new().map_err(BodyError::Spill)?),
        };
        if spill.len() + data.len() as u64 > limit {
            return Err(BodyError::TooMuchWaiting(limit));
        }
        spill.push(data).map_err(BodyError::Spill)
    }

    fn end(&mut self, end: BodyEnd) {
        // A failure must not be reported as an end of stream, nor hidden behind what waits.
        self.end.get_or_insert(end);
        self.wake_reader();
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(piece) = self.pieces.pop_front() {
            self.in_memory -= piece.len() + PIECE_BYTES;
            if self.writer.as_ref().is_some_and(|(_, low)| self.in_memory <= *low)
                && let Some((writer, _)) = self.writer.take()
            {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match self.spill.as_mut().map(Spill::pop) {
            Some(Ok(Some(piece))) => return Poll::Ready(Some(Ok(piece))),
            Some(Err(error)) => {
                self.spill = None;
                self.end = Some(BodyEnd::Reported);
                return Poll::Ready(Some(Err(BodyError::Spill(error))));
            }
            Some(Ok(None)) | None => {}
        }
        match &mut self.end {
            None => {
                if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                    self.reader = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Some(BodyEnd::Complete | BodyEnd::Reported) => Poll::Ready(None),
            Some(failed) => match std::mem::replace(failed, BodyEnd::Reported) {
                BodyEnd::Failed(error) => Poll::Ready(Some(Err(error))),
                BodyEnd::Complete | BodyEnd::Reported => Poll::Ready(None),
            },
        }
    }

    fn is_at_end(&self) -> bool {
        self.pieces.is_empty()
            && self.spill.as_ref().is_none_or(Spill::is_empty)
            && matches!(self.end, Some(BodyEnd::Complete | BodyEnd::Reported))
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.pieces = VecDeque::new();
        self.in_memory = 0;
        self.spill = None;
        if let Some((writer, _)) = self.writer.take() {
            writer.wake();
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // A panic while the lock was held leaves the queue in a valid state.
    queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(body: &mut Body) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(body).poll_frame(&mut context).map_ok(|frame| frame.into_data().unwrap())
    }

    fn data(body: &mut Body) -> Bytes {
        match next(body) {
            Poll::Ready(Some(Ok(data))) => data,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn is_send() {
        fn send<T: Send + 'static>() {}
        send::<Body>();
        send::<BodyError>();
    }

    #[test]
    fn streams_in_order_until_the_end() {
        let (mut sender, mut body) = Body::queue(Some(5));
        assert!(next(&mut body).is_pending());
        sender.push(Bytes::from_static(b"ab"));
        sender.push(Bytes::from_static(b"cde and more than was announced"));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(data(&mut body), "ab");
        assert_eq!(data(&mut body), "cde");
        assert!(next(&mut body).is_pending());
        sender.end();
        assert!(body.is_end_stream());
        assert!(matches!(next(&mut body), Poll::Ready(None)));
    }

    #[test]
    fn reports_missing_bytes() {
        let (mut sender, mut body) = Body::queue(Some(5));
        sender.push(Bytes::from_static(b"ab"));
        sender.end();
        assert_eq!(data(&mut body), "ab");
        let Poll::Ready(Some(Err(error))) = next(&mut body) else { panic!() };
        assert_eq!(error.to_string(), "request body ended after 2 of 5 announced bytes");
        assert!(matches!(next(&mut body), Poll::Ready(None)), "an error is reported once");
    }

    #[test]
    fn full_until_read() {
        let (mut sender, mut body) = Body::queue(None);
        let mut context = Context::from_waker(Waker::noop());
        sender.push(Bytes::from(vec![0; 10]));
        assert!(!sender.poll_full(&mut context, 11 + PIECE_BYTES));
        assert!(sender.poll_full(&mut context, 10 + PIECE_BYTES));
        data(&mut body);
        assert!(!sender.poll_full(&mut context, 10));
    }

    #[test]
    fn spills_to_disk_when_others_must_not_wait() {
        let (mut sender, mut body) = Body::queue(None);
        sender.spill_past(4, 100_000);
        for round in 0..1000u32 {
            sender.push(Bytes::from(round.to_le_bytes().to_vec()));
        }
        assert_eq!(lock(&sender.queue).in_memory, 4 + PIECE_BYTES);
        sender.end();
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = next(&mut body) {
            all.extend_from_slice(&piece);
        }
        let expected: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn disk_usage_is_limited() {
        let (mut sender, mut body) = Body::queue(None);
        sender.spill_past(0, 10);
        sender.push(Bytes::from(vec![0; 8]));
        sender.push(Bytes::from(vec![0; 8]));
        assert_eq!(data(&mut body).len(), 8);
        assert!(matches!(next(&mut body), Poll::Ready(Some(Err(BodyError::TooMuchWaiting(10))))));
    }

    #[test]
    fn an_unwanted_body_is_dropped() {
        let (mut sender, body) = Body::queue(None);
        drop(body);
        sender.push(Bytes::from(vec![0; 8]));
        assert_eq!(lock(&sender.queue).in_memory, 0);
    }
}
