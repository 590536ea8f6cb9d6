//! The web server's end of a connection: begins requests, receives responses.
//!
//! For tests, load generation and relays. The mirror image of `connection.rs`, built from the same parts:
//! `framing.rs`, `output.rs`, and the table of `request_state.rs`, which here says what may be *sent*.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use crate::bodies::{BODY_LENGTH, BeginRequest, EndRequest, ProtocolStatus, Role};
use crate::error::{ConnectionError, Problem};
use crate::framing::Framing;
use crate::output::Output;
use crate::pairs;
use crate::params::Params;
use crate::record::{Header, RecordType, RequestId};
use crate::request_state::{Move, Phase, Ruling, next_phase};
use crate::requests::{Requests, WithId};

/// What an application did, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A part of a request's response: a slice of the input, not copied, never empty.
    Stdout {
        /// The request.
        id: RequestId,
        /// The next bytes.
        data: Bytes,
    },
    /// A part of a log message: a slice of the input, not copied, never empty. It may contain newlines
    /// and escape sequences from a client: pass it through [`one_line`](crate::one_line) before logging
    /// it.
    Stderr {
        /// The request.
        id: RequestId,
        /// The next bytes.
        data: Bytes,
    },
    /// The application has ended a request; its id is free again.
    End {
        /// The request.
        id: RequestId,
        /// The exit status that a CGI program would have returned.
        app_status: u32,
        /// Whether the request was served at all.
        protocol_status: ProtocolStatus,
    },
    /// The reply to `get_values`: the names that the application knows, with their values.
    Values(Params),
    /// The application does not know management records of this type.
    UnknownType(u8),
    /// The connection cannot continue. No request is active any more and no event follows; close it.
    Failed(ConnectionError),
}

/// The web server's end of one connection to an application.
///
/// It has the same shape and order of calls as the application's end, [`crate::Connection`]. Commands
/// return `false` and do nothing where the protocol does not allow the record: streams must follow the
/// order of the role, nothing may follow their end, and nothing may be sent for an inactive request. A
/// request is active from [`begin`](Self::begin) until [`Event::End`].
///
/// What the application sends for unknown or ended ids is ignored. It is up to the caller to know how
/// many requests to begin at once and whether the application can multiplex
/// ([`get_values`](Self::get_values) asks).
#[derive(Debug, Default)]
pub struct Connection {
    framing: Framing,
    awaiting: Awaiting,
    requests: Requests<SentRequest>,
    output: Output,
}

/// The state of a request on the web server's side.
#[derive(Debug)]
struct SentRequest {
    id: RequestId,
    role: Role,
    /// What has been sent so far.
    phase: Phase,
    stdout_ended: bool,
    stderr_ended: bool,
}

impl WithId for SentRequest {
    fn id(&self) -> RequestId {
        self.id
    }
}

/// What the next bytes of input are.
#[derive(Debug, Default)]
enum Awaiting {
    /// A record's header.
    #[default]
    Header,
    /// The body of this request's END_REQUEST.
    EndBody(RequestId),
    /// The content of a record of one of this request's streams.
    Stream(RequestId, RecordType),
    /// The content of GET_VALUES_RESULT, of which this has arrived.
    Values(Vec<u8>),
    /// The body of UNKNOWN_TYPE.
    UnknownTypeBody,
    /// Content to be skipped.
    Skipped,
    /// Nothing: the connection has failed.
    Nothing,
}

/// Commands.
impl Connection {
    /// Creates this end of a new connection.
    pub fn new() -> Connection {
        Connection::default()
    }

    /// Begins a request. Without `keep_connection`, the application closes the connection after the
    /// request.
    pub fn begin(&mut self, id: RequestId, role: Role, keep_connection: bool) -> bool {
        if self.has_failed() || self.is_active(id) {
            return false;
        }
        let body = BeginRequest { role: role.number(), keep_connection }.encode();
        self.output.record(RecordType::BeginRequest, Some(id), &body);
        let phase = Phase::Params;
        self.requests.insert(SentRequest {
            id,
            role,
            phase,
            stdout_ended: false,
            stderr_ended: false,
        });
        true
    }

    /// Sends parameters, in one record if they fit. May be called several times.
    pub fn params<'a>(
        &mut self,
        id: RequestId,
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> bool {
        let allowed = self.move_to(id, Move::Params);
        if allowed {
            self.output.in_place(RecordType::Params, id, |out| append_pairs(out, pairs));
        }
        allowed
    }

    /// Ends the parameters.
    pub fn params_end(&mut self, id: RequestId) -> bool {
        self.end_stream(id, RecordType::Params, Move::ParamsEnd)
    }

    /// Sends a part of the request's body. An empty part is ignored.
    pub fn stdin(&mut self, id: RequestId, data: Bytes) -> bool {
        let allowed = self.move_to(id, Move::Stdin);
        if allowed {
            self.output.stream(RecordType::Stdin, id, data);
        }
        allowed
    }

    /// Ends the body. Authorizers have none and need no end of it.
    pub fn stdin_end(&mut self, id: RequestId) -> bool {
        self.end_stream(id, RecordType::Stdin, Move::StdinEnd)
    }

    /// Sends a part of the file that a filter processes. An empty part is ignored.
    pub fn data(&mut self, id: RequestId, data: Bytes) -> bool {
        let allowed = self.move_to(id, Move::Data);
        if allowed {
            self.output.stream(RecordType::Data, id, data);
        }
        allowed
    }

    /// Ends the file.
    pub fn data_end(&mut self, id: RequestId) -> bool {
        self.end_stream(id, RecordType::Data, Move::DataEnd)
    }

    /// Aborts a request. The application still responds with END_REQUEST.
    pub fn abort(&mut self, id: RequestId) -> bool {
        self.end_stream(id, RecordType::AbortRequest, Move::Abort)
    }

    /// Requests values by name (`FCGI_MAX_CONNS`, `FCGI_MAX_REQS`, `FCGI_MPXS_CONNS`). Names that do not
    /// fit into the single record are left out.
    pub fn get_values<'a>(&mut self, names: impl IntoIterator<Item = &'a [u8]>) -> bool {
        if self.has_failed() {
            return false;
        }
        let mut content = Vec::new();
        for name in names {
            if content.len() + pairs::encoded_length(name, b"") <= crate::record::MAX_CONTENT {
                pairs::encode(name, b"", |piece| content.extend_from_slice(piece));
            }
        }
        self.output.record(RecordType::GetValues, None, &content);
        true
    }

    fn end_stream(&mut self, id: RequestId, record_type: RecordType, to: Move) -> bool {
        let allowed = self.move_to(id, to);
        if allowed {
            self.output.record(record_type, Some(id), &[]);
        }
        allowed
    }

    /// Moves a request as the table allows; returns whether it does.
    fn move_to(&mut self, id: RequestId, to: Move) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        match next_phase(request.role, request.phase, to) {
            Ruling::To(phase) => {
                request.phase = phase;
                true
            }
            Ruling::Ignored | Ruling::BeforeParamsEnd | Ruling::AfterStreamEnd => false,
        }
    }
}

/// Input.
impl Connection {
    /// Takes the bytes just read; see [`crate::Connection::handle_input`].
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
                self.awaiting = Awaiting::Nothing;
                self.framing.discard_input();
                self.requests.clear();
                Some(Event::Failed(ConnectionError { problem, record_at }))
            }
        }
    }

    fn next_event(&mut self) -> Result<Option<Event>, Problem> {
        loop {
            match &mut self.awaiting {
                Awaiting::Header => match self.framing.next_header() {
                    None => return Ok(None),
                    Some(Err(found)) => return Err(Problem::Version { found }),
                    Some(Ok(header)) => self.awaiting = self.handle_header(header)?,
                },
                Awaiting::Skipped => {
                    if !self.framing.skip_content() {
                        return Ok(None);
                    }
                    self.awaiting = Awaiting::Header;
                }
                Awaiting::EndBody(id) => {
                    let id = *id;
                    let Some(body) = self.framing.fixed_body() else { return Ok(None) };
                    self.awaiting = Awaiting::Header;
                    self.requests.remove(id);
                    let EndRequest { app_status, protocol_status } = EndRequest::decode(body);
                    return Ok(Some(Event::End { id, app_status, protocol_status }));
                }
                Awaiting::UnknownTypeBody => {
                    let Some(body) = self.framing.fixed_body() else { return Ok(None) };
                    self.awaiting = Awaiting::Header;
                    return Ok(Some(Event::UnknownType(body[0])));
                }
                Awaiting::Stream(id, stream) => {
                    let (id, stream) = (*id, *stream);
                    let Some(data) = self.framing.content() else { return Ok(None) };
                    if self.framing.content_left() == 0 {
                        self.awaiting = Awaiting::Header;
                    }
                    return Ok(Some(match stream {
                        RecordType::Stderr => Event::Stderr { id, data },
                        _ => Event::Stdout { id, data },
                    }));
                }
                Awaiting::Values(block) => {
                    if !self.framing.gather_content(block) {
                        return Ok(None);
                    }
                    let block = Bytes::from(std::mem::take(block));
                    self.awaiting = Awaiting::Header;
                    let record = RecordType::GetValuesResult;
                    return match Params::from_block(block) {
                        Ok(values) => Ok(Some(Event::Values(values))),
                        Err(pair_at) => Err(Problem::PairLength { record, id: None, pair_at }),
                    };
                }
                Awaiting::Nothing => return Ok(None),
            }
        }
    }

    /// Decides what happens to a record's content.
    fn handle_header(&mut self, header: Header) -> Result<Awaiting, Problem> {
        let Some(record) = RecordType::from_byte(header.record_type) else {
            return Ok(Awaiting::Skipped);
        };
        let found = header.content_length;
        let fixed = |awaiting| {
            let expected = BODY_LENGTH as u16;
            match found == expected {
                true => Ok(awaiting),
                false => Err(Problem::BodyLength { record, expected, found }),
            }
        };
        let Some(id) = header.id else {
            return match record {
                RecordType::GetValuesResult => Ok(Awaiting::Values(Vec::new())),
                RecordType::UnknownType => fixed(Awaiting::UnknownTypeBody),
                _ => Ok(Awaiting::Skipped),
            };
        };
        let Some(request) = self.requests.get_mut(id) else { return Ok(Awaiting::Skipped) };
        let ended = match record {
            RecordType::EndRequest => return fixed(Awaiting::EndBody(id)),
            RecordType::Stdout => &mut request.stdout_ended,
            RecordType::Stderr => &mut request.stderr_ended,
            RecordType::BeginRequest
            | RecordType::AbortRequest
            | RecordType::Params
            | RecordType::Stdin
            | RecordType::Data => return Err(Problem::WrongDirection { id, record }),
            RecordType::GetValues | RecordType::GetValuesResult | RecordType::UnknownType => {
                return Ok(Awaiting::Skipped);
            }
        };
        match found {
            0 => *ended = true,
            _ if *ended => return Err(Problem::AfterStreamEnd { id, record }),
            _ => return Ok(Awaiting::Stream(id, record)),
        }
        Ok(Awaiting::Skipped)
    }
}

/// Output.
impl Connection {
    /// Fills `slices` with what is to be written next, in order; returns how many were filled.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.transmit(slices)
    }

    /// Records that this many of the bytes lent by `transmit` were written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.output.transmitted(bytes);
    }

    /// Returns how many bytes are unsent.
    pub fn unsent(&self) -> usize {
        self.output.unsent()
    }

    /// Takes all unsent bytes in one copied piece; they count as written. For tests and tools.
    pub fn take_unsent(&mut self) -> Bytes {
        self.output.take_unsent()
    }
}

/// Getters.
impl Connection {
    /// Returns how many requests are active: started here and not ended by the application.
    pub fn active_requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns whether a request is active.
    pub fn is_active(&self, id: RequestId) -> bool {
        self.requests.get(id).is_some()
    }

    /// Returns whether no record has been received in part. An application that closes at any other
    /// point, or while a request is active, has truncated a response.
    pub fn is_between_records(&self) -> bool {
        !self.has_failed() && self.framing.is_between_records()
    }

    /// Returns whether the connection has failed: [`Event::Failed`] was its last event.
    pub fn has_failed(&self) -> bool {
        matches!(self.awaiting, Awaiting::Nothing)
    }
}

fn append_pairs<'a>(out: &mut BytesMut, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in pairs {
        pairs::encode(name, value, |piece| out.extend_from_slice(piece));
    }
}
