//! One request's states and the transition table: every rule that changes a state is here.
//!
//! A request has two sides that move independently. What the *web server* has sent of it is its
//! [`Phase`]; the records move it:
//!
//! ```text
//!   Params --end of PARAMS--> Stdin ----------------------> Complete    responder
//!                             (nothing) ------------------> Complete    authorizer
//!                             StdinAndData --> Data ------> Complete    filter
//!                                         '--> Stdin -----> Complete
//!
//!   any of these --ABORT_REQUEST--> Aborted, where everything is ignored
//! ```
//!
//! What the *application* has received and done is its [`Application`] state: unaware until PARAMS
//! are complete, then serving (or refusing), then ended.
//!
//! [`next_phase`] is the whole table. A record can be a legal move, be ignored, or be a
//! violation; the latter two change nothing. The client side walks the same table to know what
//! it may send, so the two sides cannot disagree. What a violation means for the connection is
//! decided in `connection.rs`.

use crate::bodies::Role;
use crate::record::{RecordType, RequestId};
use crate::requests::WithId;

/// How much of a request's input has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// PARAMS are arriving, or have not started.
    Params,
    /// PARAMS have ended; STDIN is open, and there is no DATA (or it has ended).
    Stdin,
    /// PARAMS have ended; STDIN and DATA are open: only for filters.
    StdinAndData,
    /// PARAMS and STDIN have ended; DATA is open: only for filters.
    Data,
    /// Every stream of the role has ended.
    Complete,
    /// The web server has aborted the request.
    Aborted,
}

impl Phase {
    /// Returns whether nothing more is expected from the web server.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Phase::Complete | Phase::Aborted)
    }
}

/// A record as the table sees it: for streams, whether it carries content or ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Move {
    Params,
    ParamsEnd,
    Stdin,
    StdinEnd,
    Data,
    DataEnd,
    Abort,
}

impl Move {
    /// Returns the move that a record of this type and length makes; `None` for types that are not part
    /// of a request's input.
    pub(crate) fn of(record_type: RecordType, content_length: u16) -> Option<Move> {
        let is_end = content_length == 0;
        match record_type {
            RecordType::Params => Some(if is_end { Move::ParamsEnd } else { Move::Params }),
            RecordType::Stdin => Some(if is_end { Move::StdinEnd } else { Move::Stdin }),
            RecordType::Data => Some(if is_end { Move::DataEnd } else { Move::Data }),
            RecordType::AbortRequest => Some(Move::Abort),
            RecordType::BeginRequest
            | RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValues
            | RecordType::GetValuesResult
            | RecordType::UnknownType => None,
        }
    }
}

/// The table's answer to a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Legal: the request is in this phase now.
    To(Phase),
    /// Ignored: a stream that the role does not have, a second end, anything after an abort.
    Ignored,
    /// STDIN or DATA while PARAMS are open (FastCGI 1.0 §6.2: "next").
    BeforeParamsEnd,
    /// Content for a stream that has ended (§3.3).
    AfterStreamEnd,
}

/// The table of moves.
pub(crate) fn next_phase(role: Role, phase: Phase, to: Move) -> Ruling {
    use Ruling::{AfterStreamEnd, BeforeParamsEnd, Ignored, To};
    match (phase, to) {
        // §5.4: the web server may abort at any time; it does not have to send anything after that, and
        // what it has already sent no longer matters.
        (Phase::Aborted, _) => Ignored,
        (_, Move::Abort) => To(Phase::Aborted),

        // §5.2: PARAMS come first; an empty record ends them.
        (Phase::Params, Move::Params) => To(Phase::Params),
        (Phase::Params, Move::ParamsEnd) => To(match role {
            Role::Responder => Phase::Stdin,
            Role::Authorizer => Phase::Complete,
            Role::Filter => Phase::StdinAndData,
        }),
        // §6.2, §6.4: the bodies come next. Ends are rejected as well: if one were ignored, the
        // application would wait for it forever.
        (Phase::Params, Move::Stdin | Move::StdinEnd | Move::Data | Move::DataEnd) => {
            BeforeParamsEnd
        }
        // §3.3: an ended stream has no more content. A second end is harmless.
        (Phase::Stdin | Phase::StdinAndData | Phase::Data | Phase::Complete, Move::Params) => {
            AfterStreamEnd
        }
        (Phase::Stdin | Phase::StdinAndData | Phase::Data | Phase::Complete, Move::ParamsEnd) => {
            Ignored
        }

        // §5.3, §6.4: the two bodies of a filter come in any order.
        (Phase::Stdin, Move::Stdin) => To(Phase::Stdin),
        (Phase::Stdin, Move::StdinEnd) => To(Phase::Complete),
        (Phase::StdinAndData, Move::Stdin | Move::Data) => To(Phase::StdinAndData),
        (Phase::StdinAndData, Move::StdinEnd) => To(Phase::Data),
        (Phase::StdinAndData, Move::DataEnd) => To(Phase::Stdin),
        (Phase::Data, Move::Data) => To(Phase::Data),
        (Phase::Data, Move::DataEnd) => To(Phase::Complete),

        // A stream that has ended, or that the role never had: lighttpd and others send an authorizer an
        // empty STDIN, although §6.3 gives it none.
        (Phase::Data | Phase::Complete, Move::Stdin) => match role {
            Role::Authorizer => Ignored,
            Role::Responder | Role::Filter => AfterStreamEnd,
        },
        (Phase::Stdin | Phase::Complete, Move::Data) => match role {
            Role::Responder | Role::Authorizer => Ignored,
            Role::Filter => AfterStreamEnd,
        },
        (Phase::Data | Phase::Complete, Move::StdinEnd) => Ignored,
        (Phase::Stdin | Phase::Complete, Move::DataEnd) => Ignored,
    }
}

/// What the application knows about a request and has done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    /// It has not received the request: PARAMS are arriving.
    Unaware,
    /// It has the request, and its bodies are reported.
    Serving,
    /// It has received a refusal; the bodies are not reported.
    Refusing,
    /// It has ended the request. The id is inactive (§3.3); the remaining input is drained.
    Ended,
}

/// One request of a connection, from BEGIN_REQUEST until both sides have finished it.
#[derive(Debug)]
pub(crate) struct RequestState {
    pub(crate) id: RequestId,
    pub(crate) role: Role,
    pub(crate) keep_connection: bool,
    pub(crate) phase: Phase,
    pub(crate) application: Application,
    /// Whether STDERR was used and therefore has to be ended.
    pub(crate) stderr_used: bool,
    /// PARAMS so far: the block that becomes [`Params`](crate::Params). Empty in other phases.
    pub(crate) params: Vec<u8>,
}

impl WithId for RequestState {
    fn id(&self) -> RequestId {
        self.id
    }
}

impl RequestState {
    /// A request whose BEGIN_REQUEST has arrived.
    pub(crate) fn new(id: RequestId, role: Role, keep_connection: bool) -> RequestState {
        RequestState {
            id,
            role,
            keep_connection,
            phase: Phase::Params,
            application: Application::Unaware,
            stderr_used: false,
            params: Vec::new(),
        }
    }

    /// Returns whether the id is active (§3.3): started, and not ended by the application.
    pub(crate) fn is_active(&self) -> bool {
        self.application != Application::Ended
    }

    /// Moves the phase according to the table; illegal moves change nothing.
    pub(crate) fn receive(&mut self, to: Move) -> Ruling {
        let ruling = next_phase(self.role, self.phase, to);
        if let Ruling::To(phase) = ruling {
            self.phase = phase;
        }
        ruling
    }

    /// The application has received the whole of the request's parameters.
    pub(crate) fn hand_over(&mut self) {
        debug_assert_eq!(self.application, Application::Unaware);
        self.application = Application::Serving;
    }

    /// The application has received a refusal.
    pub(crate) fn refuse(&mut self) {
        debug_assert_eq!(self.application, Application::Unaware);
        self.application = Application::Refusing;
        self.params = Vec::new();
    }

    /// The application has ended the request.
    pub(crate) fn end(&mut self) {
        self.application = Application::Ended;
        self.params = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 3] = [Role::Responder, Role::Authorizer, Role::Filter];
    const MOVES: [Move; 7] = [
        Move::Params,
        Move::ParamsEnd,
        Move::Stdin,
        Move::StdinEnd,
        Move::Data,
        Move::DataEnd,
        Move::Abort,
    ];

    /// The table written a second time, as a picture. Columns are `MOVES`. `.` ignored, `!` before
    /// the end of PARAMS, `x` after the end of the stream; otherwise the next phase's letter:
    /// P(arams) S(tdin) B(oth) D(ata) C(omplete) A(borted). Rows that a role cannot reach are
    /// left out: `every_phase_in_the_table_is_reached` proves that nothing is missing.
    const TABLE: &[(Role, Phase, &str)] = &[
        (Role::Responder, Phase::Params, "PS!!!!A"),
        (Role::Responder, Phase::Stdin, "x.SC..A"),
        (Role::Responder, Phase::Complete, "x.x...A"),
        (Role::Responder, Phase::Aborted, "......."),
        (Role::Authorizer, Phase::Params, "PC!!!!A"),
        (Role::Authorizer, Phase::Complete, "x.....A"),
        (Role::Authorizer, Phase::Aborted, "......."),
        (Role::Filter, Phase::Params, "PB!!!!A"),
        (Role::Filter, Phase::StdinAndData, "x.BDBSA"),
        (Role::Filter, Phase::Stdin, "x.SCx.A"),
        (Role::Filter, Phase::Data, "x.x.DCA"),
        (Role::Filter, Phase::Complete, "x.x.x.A"),
        (Role::Filter, Phase::Aborted, "......."),
    ];

    fn letter(ruling: Ruling) -> char {
        match ruling {
            Ruling::Ignored => '.',
            Ruling::BeforeParamsEnd => '!',
            Ruling::AfterStreamEnd => 'x',
            Ruling::To(Phase::Params) => 'P',
            Ruling::To(Phase::Stdin) => 'S',
            Ruling::To(Phase::StdinAndData) => 'B',
            Ruling::To(Phase::Data) => 'D',
            Ruling::To(Phase::Complete) => 'C',
            Ruling::To(Phase::Aborted) => 'A',
        }
    }

    fn request(role: Role, phase: Phase) -> RequestState {
        RequestState { phase, ..RequestState::new(RequestId::ONE, role, false) }
    }

    #[test]
    fn moves_follow_the_table_and_illegal_moves_change_nothing() {
        for &(role, phase, row) in TABLE {
            for (to, expected) in MOVES.into_iter().zip(row.chars()) {
                let mut request = request(role, phase);
                let ruling = request.receive(to);
                assert_eq!(letter(ruling), expected, "{role}, {phase:?}, {to:?}");
                match ruling {
                    Ruling::To(next) => assert_eq!(request.phase, next),
                    _ => assert_eq!(request.phase, phase, "{role}, {phase:?}, {to:?}"),
                }
            }
        }
    }

    #[test]
    fn every_phase_in_the_table_is_reached() {
        for role in ROLES {
            let mut reached = vec![Phase::Params];
            let mut index = 0;
            while index < reached.len() {
                for to in MOVES {
                    if let Ruling::To(next) = next_phase(role, reached[index], to)
                        && !reached.contains(&next)
                    {
                        reached.push(next);
                    }
                }
                index += 1;
            }
            let drawn = TABLE.iter().filter(|row| row.0 == role).map(|row| row.1);
            assert!(drawn.clone().all(|phase| reached.contains(&phase)), "{role}: {reached:?}");
            assert_eq!(drawn.count(), reached.len(), "{role}: {reached:?}");
        }
    }

    #[test]
    fn every_phase_but_the_final_ones_leads_to_an_end() {
        for &(role, phase, _) in TABLE {
            let mut request = request(role, phase);
            for to in [Move::ParamsEnd, Move::StdinEnd, Move::DataEnd] {
                request.receive(to);
            }
            assert!(request.phase.is_over(), "{role}, {phase:?}");
        }
    }

    #[test]
    fn refusing_releases_params() {
        let mut request = request(Role::Responder, Phase::Params);
        request.params = vec![0; 100];
        request.refuse();
        assert_eq!(request.application, Application::Refusing);
        assert_eq!(request.params.capacity(), 0);
        assert!(request.is_active());
        request.end();
        assert!(!request.is_active());
    }

    #[test]
    fn a_request_has_the_size_that_limits_states() {
        assert!(size_of::<RequestState>() <= 48);
    }
}
