//! The application's end of one connection: records to events, commands to records.
//!
//! Here records meet requests: which are active, which replies the connection makes by itself, and what
//! ends it. Where a record begins and ends is determined in `framing.rs`, which moves are legal in
//! `request_state.rs`, and how bytes wait to be written in `output.rs`. Events go to the caller that runs
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
/// Input: [`handle_input`](Self::handle_input), then [`poll_event`](Self::poll_event) until `None`.
/// Commands: [`stdout`](Self::stdout), [`stdout_in_place`](Self::stdout_in_place),
/// [`stderr`](Self::stderr), [`end_request`](Self::end_request); each returns `false` and does nothing if
/// the request is no longer active, which is not a mistake: the connection may have failed in the
/// meantime. Output: [`transmit`](Self::transmit), [`transmitted`](Self::transmitted). When everything is
/// sent, check [`close_when`](Self::close_when).
///
/// GET_VALUES, unknown management types, unknown roles and requests beyond the limit are answered without
/// an event; check [`unsent`](Self::unsent) after polling.
///
/// An idle connection holds no memory beyond this structure, which is less than 512 bytes.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    framing: Framing,
    awaiting: Awaiting,
    /// Active requests, and ended ones whose remaining input is awaited before closing.
    requests: Requests<RequestState>,
    /// How many of them are active: 0 <= active <= limits.requests_per_connection.
    active: usize,
    /// Whether a request without KEEP_CONN has ended, so that this end has to close the connection.
    closing: bool,
    output: Output,
    /// Bytes of the connection's own replies queued since `replies_since`.
    replies: usize,
    /// The output position that must be sent before `replies` is reset to zero.
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
    /// The content of GET_VALUES, of which this has arrived.
    Values(Vec<u8>),
    /// Content to be skipped.
    Skipped,
    /// Nothing: the connection has failed.
    Nothing,
}

/// Input.
impl Connection {
    /// Creates this end of a new connection.
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

    /// Takes the bytes just read. They are kept, not copied, and the events for bodies are slices of
    /// them: their memory is free again once those are dropped and `poll_event` has returned `None`. Poll
    /// until then before the next input; input that arrives earlier is copied.
    pub fn handle_input(&mut self, input: Bytes) {
        if !self.has_failed() {
            self.framing.handle_input(input);
        }
    }

    /// Returns the next event; `None` if more input is needed.
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

    /// Consumes input until there is an event. Every second iteration consumes input, which bounds the
    /// work.
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
                    self.reply_to_get_values(block)?;
                }
                Awaiting::Nothing => return Ok(None),
            }
        }
    }

    /// Decides what a record is and what happens to its content. Content that is not needed is skipped.
    fn handle_header(&mut self, header: Header) -> Result<Option<Event>, Problem> {
        let Some(id) = header.id else { return self.handle_management(header).map(|()| None) };
        // §3.3: an application ignores records of inactive requests. Management types with a request id
        // and types that do not exist are not records of a request either, active or not.
        let Some(record_type) = RecordType::from_byte(header.record_type) else { return Ok(None) };
        if record_type == RecordType::BeginRequest {
            if self.is_active(id) {
                return Err(Problem::DuplicateBegin { id });
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
            // Only tracked for its end. Records out of order no longer matter.
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
            Ruling::To(_) => self.handle_move(id, to, header),
            Ruling::Ignored => Ok(None),
            Ruling::BeforeParamsEnd => Err(Problem::BeforeParamsEnd { id, record: record_type }),
            Ruling::AfterStreamEnd => Err(Problem::AfterStreamEnd { id, record: record_type }),
        }
    }

    /// Determines what a legal move of an active request means for the application.
    fn handle_move(
        &mut self,
        id: RequestId,
        to: Move,
        header: Header,
    ) -> Result<Option<Event>, Problem> {
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
                // The application has not seen the request yet, so it cannot end it (§5.4).
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
            // The table makes these impossible; skipping would be correct anyway.
            (Application::Unaware, Move::Stdin | Move::StdinEnd | Move::Data | Move::DataEnd)
            | (Application::Serving, Move::Params | Move::ParamsEnd)
            | (Application::Ended, _) => {}
        }
        Ok(None)
    }

    /// Handles BEGIN_REQUEST for an inactive id.
    fn begin(&mut self, id: RequestId, begin: BeginRequest) -> Result<(), Problem> {
        let refused = match Role::from_number(begin.role) {
            None => ProtocolStatus::UnknownRole,
            Some(role) if self.active < usize::from(self.limits.requests_per_connection) => {
                self.requests.insert(RequestState::new(id, role, begin.keep_connection));
                self.active += 1;
                return Ok(());
            }
            // §5.5 distinguishes an application that takes one request at a time from a busy one.
            Some(_) if self.limits.requests_per_connection == 1 => ProtocolStatus::CannotMultiplex,
            Some(_) => ProtocolStatus::Overloaded,
        };
        self.requests.remove(id);
        if !begin.keep_connection {
            // The web server keeps sending until it learns of the refusal. An unknown role most likely
            // has a responder's streams.
            let role = Role::from_number(begin.role).unwrap_or(Role::Responder);
            let mut request = RequestState::new(id, role, false);
            request.end();
            self.closing = true;
            self.drain(request);
        }
        let body = EndRequest { app_status: 0, protocol_status: refused }.encode();
        self.reply(RecordType::EndRequest, Some(id), &body)
    }
}

/// Replies that the connection makes by itself.
impl Connection {
    /// Handles a record without a request (§4). Anything but a known query, including a request's record
    /// without an id, is a management record of an unknown type (§4.2).
    fn handle_management(&mut self, header: Header) -> Result<(), Problem> {
        match RecordType::from_byte(header.record_type) {
            Some(RecordType::GetValues) => {
                self.awaiting = Awaiting::Values(Vec::new());
                Ok(())
            }
            // Replies to queries that were never made. Replying with UNKNOWN_TYPE could loop forever
            // between two applications.
            Some(RecordType::GetValuesResult | RecordType::UnknownType) => Ok(()),
            _ => {
                let body = unknown_type_body(header.record_type);
                self.reply(RecordType::UnknownType, None, &body)
            }
        }
    }

    /// Replies to GET_VALUES: each known name once, in a fixed order (§4.1).
    fn reply_to_get_values(&mut self, block: Vec<u8>) -> Result<(), Problem> {
        let requested = Params::from_block(Bytes::from(block)).map_err(|pair_at| {
            Problem::PairLength { record: RecordType::GetValues, id: None, pair_at }
        })?;
        let per_connection = self.limits.requests_per_connection;
        let connections = self.limits.connections;
        let known = [
            ("FCGI_MAX_CONNS", u64::from(connections)),
            ("FCGI_MAX_REQS", u64::from(connections) * u64::from(per_connection)),
            ("FCGI_MPXS_CONNS", u64::from(per_connection > 1)),
        ];
        let mut values = Vec::new();
        for (name, value) in known {
            if requested.get(name.as_bytes()).is_some() {
                let value = value.to_string();
                crate::pairs::encode(name.as_bytes(), value.as_bytes(), |piece| {
                    values.extend_from_slice(piece);
                });
            }
        }
        self.reply(RecordType::GetValuesResult, None, &values)
    }

    /// Queues a reply of the connection's own, unless the peer leaves too many unread.
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
    /// Queues a part of a request's response, in as many records as necessary. Up to 4 KiB are copied,
    /// more is shared. An empty part is ignored: the stream ends with `end_request`.
    pub fn stdout(&mut self, id: RequestId, data: Bytes) -> bool {
        let open = self.open_request(id).is_some();
        if open {
            self.output.stream(RecordType::Stdout, id, data);
        }
        open
    }

    /// Lets `write` append a part of a request's response directly to the output buffer, where it is
    /// contiguous with its header and all small pieces around it: for a response's head, and a body
    /// generated on the spot. Up to 65,535 bytes become one record; more have to be moved.
    ///
    /// # Panics
    ///
    /// If `write` removes bytes from the buffer that it did not append. If `write` panics, what it
    /// appended is removed.
    pub fn stdout_in_place(&mut self, id: RequestId, write: impl FnOnce(&mut BytesMut)) -> bool {
        let open = self.open_request(id).is_some();
        if open {
            self.output.in_place(RecordType::Stdout, id, write);
        }
        open
    }

    /// Queues a message for the web server's log, copied, as [one line](one_line): most web servers log
    /// what they receive verbatim. mod_fcgid cuts a record at about 8,000 bytes; nothing after
    /// `end_request` is read.
    pub fn stderr(&mut self, id: RequestId, message: &[u8]) -> bool {
        let Some(request) = self.open_request(id) else { return false };
        let line = one_line(message);
        request.stderr_used |= !line.is_empty();
        self.output.copied_stream(RecordType::Stderr, id, line.as_bytes());
        true
    }

    /// Ends a request: closes STDOUT, and STDERR if it was used, and queues END_REQUEST (§5.5). From now
    /// on the id is inactive, and what is left of its input is skipped. `app_status` is the exit status a
    /// CGI program would return; known web servers ignore it.
    pub fn end_request(&mut self, id: RequestId, app_status: u32) -> bool {
        let Some(request) = self.open_request(id) else { return false };
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

    /// Returns the request, if the application has received it and has not ended it.
    fn open_request(&mut self, id: RequestId) -> Option<&mut RequestState> {
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

    /// Keeps an ended request until its input is complete, if there is room.
    fn drain(&mut self, request: RequestState) {
        if self.drained() < self.drained_limit() {
            self.requests.insert(request);
        }
    }

    /// How many ended requests are tracked until their input ends.
    fn drained(&self) -> usize {
        self.requests.len() - self.active
    }

    /// As many requests are drained as may be active; any more are forgotten at once. This bounds memory,
    /// and closing too early costs the web server one response at worst.
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
    /// Fills `slices` with what is to be written next, in order; returns how many were filled. Two to
    /// four slices are enough for most responses; large bodies use more.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.transmit(slices)
    }

    /// Records that this many of the bytes lent by `transmit` were written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.output.transmitted(bytes);
    }

    /// Returns how many bytes are unsent. An application with many unsent bytes should wait before it
    /// queues more: this crate does not limit them.
    pub fn unsent(&self) -> usize {
        self.output.unsent()
    }

    /// Returns how many bytes were queued so far: the position at which the next response starts.
    pub fn queued(&self) -> u64 {
        self.output.queued()
    }

    /// Returns how many bytes were written so far.
    pub fn sent(&self) -> u64 {
        self.output.sent()
    }

    /// Returns the header of the record that is partly written, if there is one, and how many of its
    /// bytes, header and padding included, are not. For completing it by other means.
    pub fn partial_record(&self) -> Option<(Header, usize)> {
        self.output.partial_record()
    }

    /// Takes all unsent bytes in one copied piece; they count as written. For tests and tools.
    pub fn take_unsent(&mut self) -> Bytes {
        self.output.take_unsent()
    }
}

/// Getters.
impl Connection {
    /// Returns how many requests are active: started and not ended by the application. Includes those whose
    /// parameters are still arriving.
    pub fn active_requests(&self) -> usize {
        self.active
    }

    /// Returns whether a request is active.
    pub fn is_active(&self, id: RequestId) -> bool {
        self.requests.get(id).is_some_and(RequestState::is_active)
    }

    /// Returns whether and when to close the connection. May change with every event, `end_request` and
    /// input.
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

    /// Returns whether no request is active and no record is received in part: only then can the
    /// connection be handed to another process. There may be unsent bytes.
    pub fn is_between_requests(&self) -> bool {
        !self.has_failed() && self.active == 0 && self.framing.is_between_records()
    }

    /// Returns whether no record is received in part and no input is left: a header comes next.
    pub fn is_between_records(&self) -> bool {
        !self.has_failed() && self.framing.is_between_records()
    }

    /// Returns an active request whose parameters are still arriving, if there is one.
    pub fn arriving_request(&self) -> Option<RequestId> {
        let unaware = |it: &&RequestState| it.application == Application::Unaware;
        self.requests.iter().find(unaware).map(|it| it.id)
    }

    /// Returns how many bytes of memory incomplete parameters and queries use.
    pub fn held_bytes(&self) -> usize {
        let asked = match &self.awaiting {
            Awaiting::Values(block) => block.capacity(),
            _ => 0,
        };
        asked + self.requests.iter().map(|it| it.params.capacity()).sum::<usize>()
    }

    /// Returns the limits of the connection.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns whether the connection has failed: [`Event::Failed`] was its last event.
    pub fn has_failed(&self) -> bool {
        matches!(self.awaiting, Awaiting::Nothing)
    }

    /// Returns whether a request's input is complete: nothing more of it is expected. True for unknown
    /// requests.
    pub fn is_input_over(&self, id: RequestId) -> bool {
        self.requests.get(id).is_none_or(|request| request.phase.is_over())
    }
}

/// Checks a record whose length is fixed by the specification.
fn check_length(record: RecordType, expected: u16, header: Header) -> Result<(), Problem> {
    let found = header.content_length;
    if found == expected { Ok(()) } else { Err(Problem::BodyLength { record, expected, found }) }
}

/// Makes parameters from a complete block, releasing unused memory.
fn finish_block(block: &mut Vec<u8>) -> Result<Params, usize> {
    /// This much unused memory is kept; moving the block costs more.
    const UNUSED: usize = 1024;
    let mut block = std::mem::take(block);
    if block.capacity() - block.len() > UNUSED {
        block.shrink_to_fit();
    }
    Params::from_block(Bytes::from(block))
}
