//! One FastCGI connection of the load: requests out, responses in.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use event_loop::net::{Address, Stream};
use event_loop::time;
use fastcgi_server::client::{Connection as Protocol, Event};
use fastcgi_server::{ProtocolStatus, RequestId, Role};

use crate::response::CgiResponse;
use crate::run::{Run, Served};

/// The size of one read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Segments of one vectored write.
const SLICES: usize = 64;

/// Sends requests on one connection until none is left to send or, with a connection per request,
/// until the first has been answered.
///
/// # Errors
///
/// If the connect fails or the connection breaks.
pub async fn connection(run: &Run, served: &Cell<Served>) -> io::Result<()> {
    let stream = connect(&run.options.to, run.options.patience).await?;
    let mut connection = Connection::new(run, stream, !run.options.new_connections);
    poll_fn(|context| connection.poll_work(context, served)).await
}

/// Sends one request on a keep-alive connection, then nothing more. Returns when the server closes it.
pub async fn idle(run: Rc<Run>, served: Rc<Cell<bool>>) {
    let Ok(stream) = connect(&run.options.to, run.options.patience).await else { return };
    let mut connection = Connection::new(&run, stream, true);
    connection.begin(0, Instant::now());
    // How the connection ends does not matter.
    let _: io::Result<()> = poll_fn(|context| {
        ready!(connection.poll_send(context))?;
        loop {
            if ready!(connection.poll_read(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
            while let Some(event) = connection.protocol.poll_event() {
                if let Some((_, fault)) = connection.handle(event) {
                    run.prepared(fault);
                    served.set(true);
                }
            }
        }
    })
    .await;
}

/// Connects; gives up after `patience` seconds.
///
/// # Errors
///
/// As `connect(2)`, or `TimedOut`.
pub async fn connect(to: &Address, patience: f64) -> io::Result<Stream> {
    time::timeout(Duration::from_secs_f64(patience), Stream::connect(to)).await?
}

struct Connection<'a> {
    run: &'a Run,
    stream: Stream,
    keep: bool,
    protocol: Protocol,
    /// Indexed by request id minus one.
    slots: Vec<Slot>,
    active: usize,
    started: u64,
}

/// A request in flight, or room for one.
#[derive(Default)]
struct Slot {
    started: Option<Instant>,
    response: CgiResponse,
}

impl<'a> Connection<'a> {
    fn new(run: &'a Run, stream: Stream, keep: bool) -> Self {
        let in_flight = if keep { run.options.in_flight.max(1) } else { 1 };
        let slots = (0..in_flight).map(|_| Slot::default()).collect();
        Connection { run, stream, keep, protocol: Protocol::new(), slots, active: 0, started: 0 }
    }

    /// Starts requests, sends and reads until nothing is left to do.
    fn poll_work(
        &mut self,
        context: &mut Context<'_>,
        served: &Cell<Served>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.begin_all(served);
            if self.active == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(Err(error)) = self.poll_send(context) {
                // The response may say why.
                if self.poll_read(context).is_pending() {
                    return Poll::Ready(Err(error));
                }
            }
            match ready!(self.poll_read(context))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                _ => self.handle_events(served),
            }
        }
    }

    fn begin_all(&mut self, served: &Cell<Served>) {
        if self.active == self.slots.len() {
            return;
        }
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let once = !self.keep && self.started > 0;
            if self.slots[index].started.is_some() || once {
                continue;
            }
            if !self.run.may_begin() {
                return;
            }
            Served::begin(served);
            self.begin(index, now);
        }
    }

    fn begin(&mut self, index: usize, now: Instant) {
        let Some(id) = RequestId::new(index as u16 + 1) else { return };
        self.slots[index] = Slot { started: Some(now), response: CgiResponse::default() };
        self.active += 1;
        self.started += 1;
        let parameters = &self.run.parameters;
        self.protocol.begin(id, Role::Responder, self.keep);
        let pairs = parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.protocol.params(id, pairs);
        self.protocol.params_end(id);
        let mut left = self.run.options.body.unwrap_or(0);
        while left > 0 {
            let piece = left.min(self.run.piece.len() as u64);
            self.protocol.stdin(id, self.run.piece.slice(..piece as usize));
            left -= piece;
        }
        self.protocol.stdin_end(id);
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.protocol.unsent() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.protocol.transmit(&mut slices);
            let sent = ready!(self.stream.poll_write_vectored(context, &slices[..count]))?;
            self.protocol.transmitted(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.run.buffer.borrow_mut();
        make_room(&mut buffer);
        let count = ready!(self.stream.poll_read_into(context, &mut buffer))?;
        let input = buffer.split_to(count).freeze();
        drop(buffer);
        self.protocol.handle_input(input);
        Poll::Ready(Ok(count))
    }

    fn handle_events(&mut self, served: &Cell<Served>) {
        while let Some(event) = self.protocol.poll_event() {
            if let Some((started, fault)) = self.handle(event) {
                Served::record_response(served);
                self.run.record_response(started, fault);
            }
        }
    }

    /// If the event completes a request, returns when it was started and what is wrong with its response.
    fn handle(&mut self, event: Event) -> Option<(Instant, Option<String>)> {
        match event {
            Event::Stdout { id, data } => {
                let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
                slot.response.add(&data, &self.run.expected);
                None
            }
            Event::End { id, protocol_status, .. } => {
                let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
                let started = slot.started.take()?;
                self.active -= 1;
                let fault = match protocol_status {
                    ProtocolStatus::RequestComplete => slot.response.fault(&self.run.expected),
                    other => Some(format!("the request was refused: {other:?}")),
                };
                Some((started, fault))
            }
            Event::Failed(error) => {
                self.run.broken(&error.to_string());
                None
            }
            Event::Stderr { .. } | Event::Values(_) | Event::UnknownType(_) => None,
        }
    }
}

/// Reserves room for a read in the shared buffer.
pub(crate) fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < READ_BYTES / 2 {
        buffer.reserve(READ_BYTES);
    }
}
