//! The application's end of one connection: records to events, commands to records.
//!
//! Here records meet requests: which are active, what the connection answers by itself, and what
//! ends it. Where a record begins and ends is `framing.rs`' matter; which move is legal is
//! `request_state.rs`'; how bytes wait to be written is `output.rs`'. Events go to whoever runs
//! the application.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use crate::bodies::{
    BODY_LENGTH, BeginRequest, EndRequest, ProtocolStatus, Role, unknown_type_body,
};
use crate::error::{ConnectionError, Problem};
use crate::event::{CloseWhen, Event, Refusal, Request};
use crate::framing::Framing;
use crate::limits::Limits;
use crate::one_line::one_line;
use crate::output::Output;
use crate::params::Params;
use crate::record::{Header, RecordType, RequestId};
use crate::request_state::{Application, Move, RequestState, Ruling};
use crate::requests::Requests;

/// The application's end of one connection from a web server.
///
/// Input: [`handle_input`](Self::handle_input), then [`poll_event`](Self::poll_event) until
/// `None`. Commands: [`stdout`](Self::stdout), [`stdout_in_place`](Self::stdout_in_place),
/// [`stderr`](Self::stderr), [`end_request`](Self::end_request); each returns `false` and does
/// nothing when the request is not active any more, which is nobody's mistake: the connection may
/// have failed meanwhile. Output: [`transmit`](Self::transmit),
/// [`transmitted`](Self::transmitted). When all is sent, ask [`close_when`](Self::close_when).
///
/// GET_VALUES, unknown management types, unknown roles and requests past the limit are answered
/// without an event; look at [`unsent`](Self::unsent) after polling.
///
/// A connection that has nothing to do holds no memory beyond this structure, which is less than
/// 512 bytes.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    framing: Framing,
    awaiting: Awaiting,
    /// Requests that are active, and ended ones whose input is waited for before closing.
    requests: Requests<RequestState>,
    /// How many of them are active: 0 <= active <= limits.requests_per_connection.
    active: usize,
    /// Whether a request without KEEP_CONN has ended, so that the connection is ours to close.
    closing: bool,
    output: Output,
    /// Bytes of our own replies queued since `replies_since`.
    replies: usize,
    /// The output position that must be sent before `replies` is counted from zero again.
    replies_since: u64,
}

/// What the next bytes of input are.
#[derive(Debug)]
enum Awaiting {
    /// A record's header.
    Header,
    /// The body of this request's BEGIN_REQUEST.
    BeginBody(RequestId),
    /// The content of a record of one of this request's streams.
    Stream(RequestId, RecordType),
    /// The content of GET_VALUES, of which this is there.
    Values(Vec<u8>),
    /// Content that is of no consequence.
    Skipped,
    /// Nothing: the connection has failed.
    Nothing,
}

/// Input.
impl Connection {
    /// Makes the end of a fresh connection.
    pub fn new(limits: Limits) -> Connection {
        Connection {
            limits,
            framing: Framing::default(),
            awaiting: Awaiting::Header,
            requests: Requests::default(),
            active: 0,
            closing: false,
            output: Output::default(),
            replies: 0,
            replies_since: 0,
        }
    }

    /// Takes what was just read. It is kept, not copied, and the events for bodies are slices of
    /// it: their memory is free again when they are dropped and `poll_event` has said `None`.
    /// Poll until then before the next input; input that comes earlier is copied.
    pub fn handle_input(&mut self, input: Bytes) {
        if !self.has_failed() {
            self.framing.handle_input(input);
        }
    }

    /// Returns what happened next; `None` when more input is needed to say.
    pub fn poll_event(&mut self) -> Option<Event> {
        match self.next_event() {
            Ok(Some(event)) => Some(event),
            Ok(None) => {
                self.framing.release_input();
                None
            }
            Err(problem) => {
                let record_at = self.framing.record_at();
                self.fail();
                Some(Event::Failed(ConnectionError { problem, record_at }))
            }
        }
    }

    /// Consumes input until something happens. Every second turn consumes input, so the work is
    /// bounded by it.
    fn next_event(&mut self) -> Result<Option<Event>, Problem> {
        loop {
            match &mut self.awaiting {
                Awaiting::Header => match self.framing.next_header() {
                    None => return Ok(None),
                    Some(Err(found)) => return Err(Problem::Version { found }),
                    Some(Ok(header)) => {
                        self.awaiting = Awaiting::Skipped;
                        if let Some(event) = self.handle_header(header)? {
                            return Ok(Some(event));
                        }
                    }
                },
                Awaiting::Skipped => {
                    if !self.framing.skip_content() {
                        return Ok(None);
                    }
                    self.awaiting = Awaiting::Header;
                }
                Awaiting::BeginBody(id) => {
                    let id = *id;
                    let Some(body) = self.framing.fixed_body() else { return Ok(None) };
                    self.awaiting = Awaiting::Header;
                    self.begin(id, BeginRequest::decode(body))?;
                }
                Awaiting::Stream(id, RecordType::Params) => {
                    let Some(request) = self.requests.get_mut(*id) else {
                        self.awaiting = Awaiting::Skipped;
                        continue;
                    };
                    if !self.framing.gather_content(&mut request.params) {
                        return Ok(None);
                    }
                    self.awaiting = Awaiting::Header;
                }
                Awaiting::Stream(id, stream) => {
                    let (id, stream) = (*id, *stream);
                    // The application may have ended the request in the middle of the record.
                    if !self.requests.get(id).is_some_and(RequestState::is_active) {
                        self.awaiting = Awaiting::Skipped;
                        continue;
                    }
                    let Some(data) = self.framing.content() else { return Ok(None) };
                    if self.framing.content_left() == 0 {
                        self.awaiting = Awaiting::Header;
                    }
                    return Ok(Some(match stream {
                        RecordType::Data => Event::Data { id, data },
                        _ => Event::Stdin { id, data },
                    }));
                }
                Awaiting::Values(block) => {
                    if !self.framing.gather_content(block) {
                        return Ok(None);
                    }
                    let block = std::mem::take(block);
                    self.awaiting = Awaiting::Header;
                    self.answer_values(block)?;
                }
                Awaiting::Nothing => return Ok(None),
            }
        }
    }

    /// Decides what a record is, and what becomes of its content. Content that nothing here asks
    /// for is skipped.
    fn handle_header(&mut self, header: Header) -> Result<Option<Event>, Problem> {
        let Some(id) = header.id else { return self.handle_management(header).map(|()| None) };
        // §3.3: an application ignores records of inactive requests. Management types with an id
        // and types that do not exist are no records of a request either, active or not.
        let Some(record_type) = RecordType::from_byte(header.record_type) else { return Ok(None) };
        if record_type == RecordType::BeginRequest {
            if self.is_active(id) {
                return Err(Problem::BegunTwice { id });
            }
            check_length(record_type, BODY_LENGTH as u16, header)?;
            self.awaiting = Awaiting::BeginBody(id);
            return Ok(None);
        }
        let Some(request) = self.requests.get_mut(id) else { return Ok(None) };
        let Some(to) = Move::of(record_type, header.content_length) else {
            let from_applications =
                [RecordType::EndRequest, RecordType::Stdout, RecordType::Stderr];
            if request.is_active() && from_applications.contains(&record_type) {
                return Err(Problem::WrongDirection { id, record: record_type });
            }
            return Ok(None);
        };
        if !request.is_active() {
            // Only watched for its end. What is out of order has no consequence any more.
            request.receive(to);
            if request.phase.is_over() {
                self.requests.remove(id);
            }
            return Ok(None);
        }
        if to == Move::Abort {
            check_length(record_type, 0, header)?;
        }
        match request.receive(to) {
            Ruling::To(_) => self.moved(id, to, header),
            Ruling::Ignored => Ok(None),
            Ruling::BeforeParamsEnd => Err(Problem::BeforeParamsEnd { id, record: record_type }),
            Ruling::AfterStreamEnd => Err(Problem::AfterStreamEnd { id, record: record_type }),
        }
    }

    /// Says what a legal move of an active request means for the application.
    fn moved(&mut self, id: RequestId, to: Move, header: Header) -> Result<Option<Event>, Problem> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(None) };
        match (request.application, to) {
            (Application::Unaware, Move::Params) => {
                let limit = self.limits.params_bytes;
                if request.params.len() + usize::from(header.content_length) > limit {
                    request.refuse();
                    let reason = Refusal::ParamsTooLarge { limit };
                    return Ok(Some(Event::Refused { id, reason }));
                }
                self.awaiting = Awaiting::Stream(id, RecordType::Params);
            }
            (Application::Unaware, Move::ParamsEnd) => {
                let params = finish_block(&mut request.params).map_err(|pair_at| {
                    Problem::PairLength { record: RecordType::Params, id: Some(id), pair_at }
                })?;
                request.hand_over();
                return Ok(Some(Event::Request(Request {
                    id,
                    role: request.role,
                    keep_connection: request.keep_connection,
                    params,
                })));
            }
            (Application::Unaware, Move::Abort) => {
                // Nobody knows of the request yet, so nobody else could end it (§5.4).
                self.retire(id);
                self.reply(
                    RecordType::EndRequest,
                    Some(id),
                    &EndRequest { app_status: 1, protocol_status: ProtocolStatus::RequestComplete }
                        .encode(),
                )?;
            }
            (Application::Serving, Move::Stdin) => {
                self.awaiting = Awaiting::Stream(id, RecordType::Stdin);
            }
            (Application::Serving, Move::Data) => {
                self.awaiting = Awaiting::Stream(id, RecordType::Data);
            }
            (Application::Serving, Move::StdinEnd) => return Ok(Some(Event::StdinEnd { id })),
            (Application::Serving, Move::DataEnd) => return Ok(Some(Event::DataEnd { id })),
            (Application::Serving | Application::Refusing, Move::Abort) => {
                return Ok(Some(Event::Abort { id }));
            }
            // The rest of a refused request is skipped.
            (Application::Refusing, _) => {}
            // The table makes these impossible; if they were, to skip them would be right.
            (Application::Unaware, Move::Stdin | Move::StdinEnd | Move::Data | Move::DataEnd)
            | (Application::Serving, Move::Params | Move::ParamsEnd)
            | (Application::Ended, _) => {}
        }
        Ok(None)
    }

    /// Takes a BEGIN_REQUEST for an inactive id.
    fn begin(&mut self, id: RequestId, begin: BeginRequest) -> Result<(), Problem> {
        let refused = match Role::from_number(begin.role) {
            None => ProtocolStatus::UnknownRole,
            Some(role) if self.active < usize::from(self.limits.requests_per_connection) => {
                self.requests.insert(RequestState::begun(id, role, begin.keep_connection));
                self.active += 1;
                return Ok(());
            }
            // §5.5 tells an application that takes one request at a time from a busy one.
            Some(_) if self.limits.requests_per_connection == 1 => ProtocolStatus::CannotMultiplex,
            Some(_) => ProtocolStatus::Overloaded,
        };
        self.requests.remove(id);
        if !begin.keep_connection {
            // The web server goes on sending what it does not know to be refused. An unknown role
            // most likely has a responder's streams.
            let role = Role::from_number(begin.role).unwrap_or(Role::Responder);
            let mut request = RequestState::begun(id, role, false);
            request.end();
            self.closing = true;
            self.drain(request);
        }
        let body = EndRequest { app_status: 0, protocol_status: refused }.encode();
        self.reply(RecordType::EndRequest, Some(id), &body)
    }
}

/// What the connection answers by itself.
impl Connection {
    /// Takes a record without a request (§4). What is not a known question, including a request's
    /// record without an id, is a management record of a type we do not understand (§4.2).
    fn handle_management(&mut self, header: Header) -> Result<(), Problem> {
        match RecordType::from_byte(header.record_type) {
            Some(RecordType::GetValues) => {
                self.awaiting = Awaiting::Values(Vec::new());
                Ok(())
            }
            // Answers to questions that nobody asked. To say that we do not understand could go
            // back and forth for ever between two applications.
            Some(RecordType::GetValuesResult | RecordType::UnknownType) => Ok(()),
            _ => {
                let body = unknown_type_body(header.record_type);
                self.reply(RecordType::UnknownType, None, &body)
            }
        }
    }

    /// Answers GET_VALUES: each name that we know, once, in a fixed order (§4.1).
    fn answer_values(&mut self, block: Vec<u8>) -> Result<(), Problem> {
        let asked = Params::from_block(Bytes::from(block)).map_err(|pair_at| {
            Problem::PairLength { record: RecordType::GetValues, id: None, pair_at }
        })?;
        let per_connection = self.limits.requests_per_connection;
        let connections = self.limits.connections;
        let known = [
            ("FCGI_MAX_CONNS", u64::from(connections)),
            ("FCGI_MAX_REQS", u64::from(connections) * u64::from(per_connection)),
            ("FCGI_MPXS_CONNS", u64::from(per_connection > 1)),
        ];
        let mut answer = Vec::new();
        for (name, value) in known {
            if asked.get(name.as_bytes()).is_some() {
                let value = value.to_string();
                crate::pairs::encode(name.as_bytes(), value.as_bytes(), |piece| {
                    answer.extend_from_slice(piece);
                });
            }
        }
        self.reply(RecordType::GetValuesResult, None, &answer)
    }

    /// Queues an answer of our own, unless the peer leaves too many unread.
    fn reply(
        &mut self,
        record_type: RecordType,
        id: Option<RequestId>,
        content: &[u8],
    ) -> Result<(), Problem> {
        if self.output.sent() >= self.replies_since {
            self.replies = 0;
        }
        let limit = self.limits.reply_bytes;
        if self.replies >= limit {
            return Err(Problem::RepliesUnread { limit });
        }
        let before = self.output.queued();
        self.output.record(record_type, id, content);
        let after = self.output.queued();
        if self.replies == 0 {
            self.replies_since = after;
        }
        self.replies += (after - before) as usize;
        Ok(())
    }
}

/// Commands.
impl Connection {
    /// Queues a part of a request's answer, in as many records as it takes. Up to 4 KiB are
    /// copied, more is shared. An empty part is nothing: the stream ends with `end_request`.
    pub fn stdout(&mut self, id: RequestId, data: Bytes) -> bool {
        let answered = self.answered(id).is_some();
        if answered {
            self.output.stream(RecordType::Stdout, id, data);
        }
        answered
    }

    /// Lets `write` append a part of a request's answer right into the output buffer, where it
    /// stands beside its header and everything small around it: for a response's head, and a body
    /// that is made on the spot. Up to 65,535 bytes become one record; more costs moving them.
    ///
    /// # Panics
    /// When `write` takes bytes out of the buffer that it did not append. When `write` panics,
    /// what it appended is taken back.
    pub fn stdout_in_place(&mut self, id: RequestId, write: impl FnOnce(&mut BytesMut)) -> bool {
        let answered = self.answered(id).is_some();
        if answered {
            self.output.in_place(RecordType::Stdout, id, write);
        }
        answered
    }

    /// Queues a message for the web server's log, copied, as [one line](one_line): most web servers log what
    /// they receive as it is. mod_fcgid cuts a record at about 8,000 bytes; nothing after `end_request` is
    /// read.
    pub fn stderr(&mut self, id: RequestId, message: &[u8]) -> bool {
        let Some(request) = self.answered(id) else { return false };
        let line = one_line(message);
        request.stderr_used |= !line.is_empty();
        self.output.copied_stream(RecordType::Stderr, id, line.as_bytes());
        true
    }

    /// Ends a request: closes STDOUT, and STDERR if it was used, and queues END_REQUEST (§5.5).
    /// The id is inactive from now on; what still comes of its body is skipped. `app_status` is
    /// what a CGI program would give to `exit`; known web servers ignore it.
    pub fn end_request(&mut self, id: RequestId, app_status: u32) -> bool {
        let Some(request) = self.answered(id) else { return false };
        let stderr_used = request.stderr_used;
        self.output.record(RecordType::Stdout, Some(id), &[]);
        if stderr_used {
            self.output.record(RecordType::Stderr, Some(id), &[]);
        }
        let protocol_status = ProtocolStatus::RequestComplete;
        let body = EndRequest { app_status, protocol_status }.encode();
        self.output.record(RecordType::EndRequest, Some(id), &body);
        self.retire(id);
        true
    }

    /// The request, if the application has heard of it and has not ended it.
    fn answered(&mut self, id: RequestId) -> Option<&mut RequestState> {
        self.requests.get_mut(id).filter(|request| {
            matches!(request.application, Application::Serving | Application::Refusing)
        })
    }

    /// Makes an active request inactive.
    fn retire(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.end();
        self.active -= 1;
        let (keep_connection, phase) = (request.keep_connection, request.phase);
        self.closing |= !keep_connection;
        if keep_connection || phase.is_over() || self.drained() > self.drained_limit() {
            self.requests.remove(id);
        }
    }

    /// Remembers an ended request until its input is over, if there is room.
    fn drain(&mut self, request: RequestState) {
        if self.drained() < self.drained_limit() {
            self.requests.insert(request);
        }
    }

    /// How many ended requests we watch for the end of their input.
    fn drained(&self) -> usize {
        self.requests.len() - self.active
    }

    /// As many requests are drained as may be active; further ones are forgotten at once. So
    /// memory is bounded, and to close too early costs the web server one answer at worst.
    fn drained_limit(&self) -> usize {
        usize::from(self.limits.requests_per_connection)
    }

    fn fail(&mut self) {
        self.awaiting = Awaiting::Nothing;
        self.framing.discard_input();
        self.requests.clear();
        self.active = 0;
    }
}

/// Output.
impl Connection {
    /// Fills `slices` with what is to be written next, in order; returns how many were filled.
    /// Two to four slices are enough for most answers; more are used for large bodies.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.transmit(slices)
    }

    /// Notes that so many bytes, of those lent by `transmit`, were written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.output.transmitted(bytes);
    }

    /// Returns how many bytes wait to be written. An application that has much unsent should wait
    /// before it says more: this crate does not limit it.
    pub fn unsent(&self) -> usize {
        self.output.unsent()
    }

    /// Returns how many bytes were ever queued: where the next answer begins in what is written.
    pub fn queued(&self) -> u64 {
        self.output.queued()
    }

    /// Returns how many bytes were ever written.
    pub fn sent(&self) -> u64 {
        self.output.sent()
    }

    /// Returns the header of the record of which a part is written, if one is, and how many of that
    /// record's bytes are not, header and padding included. For whoever has to end it in another way.
    pub fn record_begun(&self) -> Option<(Header, usize)> {
        self.output.record_begun()
    }

    /// Takes everything unsent as one piece, copied; it counts as written. For tests and tools.
    pub fn take_unsent(&mut self) -> Bytes {
        self.output.take_unsent()
    }
}

/// Getters.
impl Connection {
    /// Returns how many requests are active: begun, and not ended by the application. Counts those
    /// whose parameters are still arriving.
    pub fn active_requests(&self) -> usize {
        self.active
    }

    /// Says whether a request is active.
    pub fn is_active(&self, id: RequestId) -> bool {
        self.requests.get(id).is_some_and(RequestState::is_active)
    }

    /// Says whether and when to close the connection. May change with every event, `end_request`
    /// and input.
    pub fn close_when(&self) -> CloseWhen {
        if self.has_failed() {
            CloseWhen::Now
        } else if self.active > 0 || !self.closing {
            CloseWhen::KeepOpen
        } else if self.requests.len() > 0 || !self.framing.is_between_records() {
            CloseWhen::AfterInput
        } else {
            CloseWhen::Now
        }
    }

    /// Says whether no request is active and no record half received: only then can the
    /// connection be handed to another process. There may be unsent bytes.
    pub fn is_between_requests(&self) -> bool {
        !self.has_failed() && self.active == 0 && self.framing.is_between_records()
    }

    /// Says whether no record is half received and nothing more is there: what comes next is a header.
    pub fn is_between_records(&self) -> bool {
        !self.has_failed() && self.framing.is_between_records()
    }

    /// Returns an active request whose parameters are still arriving, if there is one.
    pub fn arriving_request(&self) -> Option<RequestId> {
        let unaware = |it: &&RequestState| it.application == Application::Unaware;
        self.requests.iter().find(unaware).map(|it| it.id)
    }

    /// Returns how many bytes of memory incomplete parameters and queries take.
    pub fn held_bytes(&self) -> usize {
        let asked = match &self.awaiting {
            Awaiting::Values(block) => block.capacity(),
            _ => 0,
        };
        asked + self.requests.iter().map(|it| it.params.capacity()).sum::<usize>()
    }

    /// Returns the limits the connection keeps to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Says whether the connection has failed: [`Event::Failed`] was its last event.
    pub fn has_failed(&self) -> bool {
        matches!(self.awaiting, Awaiting::Nothing)
    }

    /// Says whether a request's input is over: nothing more of it is to be expected.
    /// True for requests that are not known.
    pub fn is_input_over(&self, id: RequestId) -> bool {
        self.requests.get(id).is_none_or(|request| request.phase.is_over())
    }
}

/// Checks a record whose length is fixed by the specification.
fn check_length(record: RecordType, expected: u16, header: Header) -> Result<(), Problem> {
    let found = header.content_length;
    if found == expected { Ok(()) } else { Err(Problem::BodyLength { record, expected, found }) }
}

/// Makes parameters of a gathered block, giving back memory it does not fill.
fn finish_block(block: &mut Vec<u8>) -> Result<Params, usize> {
    /// So much unused memory is left alone; moving the block costs more.
    const UNUSED: usize = 1024;
    let mut block = std::mem::take(block);
    if block.capacity() - block.len() > UNUSED {
        block.shrink_to_fit();
    }
    Params::from_block(Bytes::from(block))
}
