//! One request on a pair of files, for a process that serves no other: CGI (`cgi.rs`), the shell
//! (`shell.rs`).
//!
//! Handling the request, reading its body and writing its response are one future, polled together;
//! nothing is spawned. The poll set is used only where waiting is necessary.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use event_loop::pipe;
use http::{Request, StatusCode, response};

use crate::recovery::{ConnectionGuard, ReplyFormat};
use crate::request::application::{Application, READ_BYTES};
use crate::request::body::{Body, BodyError, Sender};
use crate::request::patience::Patience;
use crate::request::service::HttpService;
use crate::settings::Settings;
use crate::transport::respond::{self, ResponseSink};

/// Segments of one vectored write.
const SLICES: usize = 16;

/// Reads before the handler and the writer get a turn.
const READS_A_TURN: u32 = 8;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Complete,
    /// The application failed halfway; the reason is logged.
    Truncated,
}

/// Has the application answer, sends the response, then discards the rest of the body, so that a client
/// still sending it gets to read the response.
///
/// # Errors
///
/// When the response cannot be written: the reader has gone, or has stopped reading for too long.
pub(crate) async fn run<S: HttpService>(
    application: Rc<Application<S>>,
    request: Request<Body>,
    mut input: Option<Input>,
    output: Rc<Output>,
) -> io::Result<Ended> {
    let settings = &application.settings;
    let guard = application.register(&output.guard, 0, &request);
    // Everything written is this response, from the first byte on.
    guard.mark().response_follows(0);
    let mut send_patience = Patience::new(settings.send_timeout, 0);
    let mark = guard.mark().of_last_request();
    let mut responding = pin!(respond::run(application.clone(), output.clone(), request, mark));
    let mut answered = false;
    poll_fn(|context| {
        loop {
            answered = answered || responding.as_mut().poll(context).is_ready();
            let was_full = output.is_full();
            let blocked = match output.poll_send(context) {
                Poll::Ready(sent) => {
                    sent?;
                    send_patience.progress(1);
                    false
                }
                Poll::Pending if send_patience.poll_over(context) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
                }
                Poll::Pending => true,
            };
            if answered && !blocked {
                return Poll::Ready(Ok(()));
            }
            if let Some(input) = &mut input {
                input.poll_pump(context, blocked, settings);
            }
            let handler_has_room_again = was_full && !output.is_full();
            if !handler_has_room_again {
                return Poll::Pending;
            }
        }
    })
    .await?;
    output.close();
    if let Some(input) = input {
        input.discard_rest(settings).await;
    }
    Ok(if output.broken.get() { Ended::Truncated } else { Ended::Complete })
}

/// The source of a request's body.
pub(crate) struct Input {
    source: Source,
    /// Bytes of the announced length still to come; `None` if the body ends with the file.
    left: Option<u64>,
    /// `None` once the body has ended.
    sender: Option<Sender>,
    patience: Patience,
    buffer: BytesMut,
}

enum Source {
    /// Can be polled.
    Pipe(pipe::Reader),
    /// A file or a terminal. Its flags are left unchanged, because a terminal is shared with the shell.
    File(File),
}

impl Input {
    /// A body from a descriptor, of `length` bytes if known.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn new(
        descriptor: OwnedFd,
        length: Option<u64>,
        settings: &Settings,
    ) -> io::Result<(Input, Body)> {
        let file = File::from(descriptor);
        let kind = file.metadata()?.file_type();
        let source = if kind.is_fifo() || kind.is_socket() {
            Source::Pipe(pipe::Reader::from_fd(file.into())?)
        } else {
            Source::File(file)
        };
        let (sender, body) = Body::queue(length);
        let patience = Patience::new(settings.receive_timeout, settings.min_rate);
        let (sender, buffer) = (Some(sender), BytesMut::new());
        Ok((Input { source, left: length, sender, patience, buffer }, body))
    }

    /// Passes on what can be read, as far as the handler has room for it. If the response is `blocked`,
    /// the body is read whatever the handler does, because web servers send all of it before they read;
    /// what does not fit in memory waits on disk.
    fn poll_pump(&mut self, context: &mut Context<'_>, blocked: bool, settings: &Settings) {
        for _ in 0..READS_A_TURN {
            let Some(sender) = &mut self.sender else { return };
            if blocked {
                sender.spill_past(settings.body_bytes, settings.spilled_body_bytes);
            } else if sender.poll_full(context, settings.body_bytes) {
                self.patience.pause();
                return;
            }
            match self.poll_piece(context) {
                Poll::Ready(Ok(Some(piece))) => {
                    if let Some(sender) = &mut self.sender {
                        sender.push(piece);
                    }
                }
                Poll::Ready(Ok(None)) => {
                    if let Some(sender) = self.sender.take() {
                        sender.end();
                    }
                }
                Poll::Ready(Err(error)) => {
                    if let Some(sender) = self.sender.take() {
                        sender.fail(error);
                    }
                }
                Poll::Pending => return,
            }
        }
        context.waker().wake_by_ref();
    }

    /// Reads and discards what is left, within limits.
    async fn discard_rest(mut self, settings: &Settings) {
        let mut room = settings.unread_body_bytes;
        while let Ok(Some(piece)) = poll_fn(|context| self.poll_piece(context)).await {
            let Some(rest) = room.checked_sub(piece.len() as u64) else { return };
            room = rest;
        }
    }

    /// Reads once; `None` at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let wanted = self.left.map_or(READ_BYTES, |left| left.min(READ_BYTES as u64) as usize);
        if self.sender.is_none() || wanted == 0 {
            return Poll::Ready(Ok(None));
        }
        let read = match &mut self.source {
            Source::Pipe(reader) => {
                self.buffer.reserve(wanted);
                match reader.poll_read_into(context, &mut self.buffer) {
                    Poll::Ready(read) => read,
                    Poll::Pending if self.patience.poll_over(context) => {
                        return Poll::Ready(Err(BodyError::TimedOut(self.patience.limit())));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Source::File(file) => {
                self.buffer.resize(wanted, 0);
                let read = file.read(&mut self.buffer);
                self.buffer.truncate(*read.as_ref().unwrap_or(&0));
                read
            }
        };
        match read {
            Ok(0) => Poll::Ready(Ok(None)),
            Ok(count) => {
                self.patience.progress(count);
                self.left = self.left.map(|left| left.saturating_sub(count as u64));
                Poll::Ready(Ok(Some(self.buffer.split().freeze())))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(BodyError::Input(error))),
        }
    }
}

/// Where the response goes: whatever is available is written as soon as the file accepts it.
pub(crate) struct Output {
    guard: ConnectionGuard,
    sink: RefCell<Option<Sink>>,
    write_head: WriteHead,
    /// The unsent part, in order.
    pieces: RefCell<VecDeque<Bytes>>,
    unsent: Cell<usize>,
    /// Unsent bytes at which the handler waits.
    limit: usize,
    status: Cell<Option<StatusCode>>,
    broken: Cell<bool>,
}

/// Writes a response's head and first bytes in a transport's format; returns bytes that are better shared
/// than copied.
pub(crate) type WriteHead =
    fn(&response::Parts, Option<u64>, Bytes, &mut BytesMut) -> Option<Bytes>;

enum Sink {
    /// Can be polled.
    Pipe(pipe::Writer),
    /// A file, a terminal, or anything else that is shared with a shell.
    File(File),
}

impl Output {
    /// Writes a response to a descriptor. `is_shared`: others write to the same open file, so its flags
    /// are left unchanged and writes block.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn new(
        descriptor: OwnedFd,
        is_shared: bool,
        write_head: WriteHead,
        settings: &Settings,
    ) -> io::Result<Rc<Output>> {
        let guard = ConnectionGuard::register(descriptor.as_fd(), ReplyFormat::Cgi);
        let file = File::from(descriptor);
        let can_wait = |kind: std::fs::FileType| kind.is_fifo() || kind.is_socket();
        let sink = if !is_shared && can_wait(file.metadata()?.file_type()) {
            Sink::Pipe(pipe::Writer::from_fd(file.into())?)
        } else {
            Sink::File(file)
        };
        Ok(Rc::new(Output {
            guard,
            sink: RefCell::new(Some(sink)),
            write_head,
            pieces: RefCell::default(),
            unsent: Cell::new(0),
            limit: settings.response_bytes,
            status: Cell::new(None),
            broken: Cell::new(false),
        }))
    }

    /// The response's status, once it has started.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status.get()
    }

    fn is_full(&self) -> bool {
        self.unsent.get() >= self.limit
    }

    fn push(&self, data: Bytes) {
        if !data.is_empty() {
            self.unsent.set(self.unsent.get() + data.len());
            self.pieces.borrow_mut().push_back(data);
        }
    }

    /// Writes what is pending. Ready when nothing is left.
    pub(crate) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sink = self.sink.borrow_mut();
        let Some(sink) = &mut *sink else { return Poll::Ready(Ok(())) };
        let mut pieces = self.pieces.borrow_mut();
        while !pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = slices.len().min(pieces.len());
            slices.iter_mut().zip(&*pieces).for_each(|(slice, piece)| *slice = IoSlice::new(piece));
            let written = match sink {
                Sink::Pipe(writer) => match writer.poll_write_vectored(context, &slices[..count]) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => return Poll::Pending,
                },
                Sink::File(file) => match file.write_vectored(&slices[..count]) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    written => written?,
                },
            };
            self.unsent.set(self.unsent.get() - written);
            self.guard.sent(written);
            forget(&mut pieces, written);
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the output: the reader sees the end.
    fn close(&self) {
        self.guard.unregister();
        *self.sink.borrow_mut() = None;
    }
}

/// Drops the first `written` bytes.
fn forget(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if written < first.len() {
            // Empty pieces do not stay in the queue.
            let _ = first.split_to(written);
            return;
        }
        written -= first.len();
        pieces.pop_front();
    }
}

impl ResponseSink for Rc<Output> {
    fn begin(&self, head: &response::Parts, length: Option<u64>, first: Bytes) -> bool {
        self.status.set(Some(head.status));
        let mut beginning = BytesMut::with_capacity(2048);
        let shared = (self.write_head)(head, length, first, &mut beginning);
        self.push(beginning.freeze());
        shared.into_iter().for_each(|data| self.push(data));
        true
    }

    fn data(&self, data: Bytes) -> bool {
        self.push(data);
        true
    }

    /// No waker needed: sending polls the request again.
    async fn writable(&self) {
        poll_fn(|_| if self.is_full() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn end(&self) {}

    fn break_off(&self) {
        self.broken.set(true);
    }
}
