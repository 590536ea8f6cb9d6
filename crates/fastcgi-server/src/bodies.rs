//! The fixed bodies: BEGIN_REQUEST, END_REQUEST and UNKNOWN_TYPE, eight bytes each.
//!
//! Bytes in, values out, and back; whether a body is expected is decided in `connection.rs` and
//! `request_state.rs`. Reserved bytes are written as zero and ignored when read.

use std::fmt;

/// Bytes in every fixed body (FastCGI 1.0 §4.2, §5.1, §5.5).
pub(crate) const BODY_LENGTH: usize = 8;

/// The flag of BEGIN_REQUEST that leaves closing the connection to the web server (§5.1).
const KEEP_CONN: u8 = 1;

/// The role the web server wants the application to play (FastCGI 1.0 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Answers a request, as a CGI program does: PARAMS, then STDIN (§6.2).
    Responder,
    /// Decides whether a request may proceed: PARAMS only, no STDIN at all (§6.3).
    Authorizer,
    /// Responds with a modified file: PARAMS, STDIN and DATA (§6.4).
    Filter,
}

impl Role {
    /// Parses a role's number; `None` for one that the specification does not define.
    pub const fn from_number(number: u16) -> Option<Role> {
        match number {
            1 => Some(Role::Responder),
            2 => Some(Role::Authorizer),
            3 => Some(Role::Filter),
            _ => None,
        }
    }

    /// Returns the role's number on the wire (§8).
    pub const fn number(self) -> u16 {
        match self {
            Role::Responder => 1,
            Role::Authorizer => 2,
            Role::Filter => 3,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Responder => "responder",
            Role::Authorizer => "authorizer",
            Role::Filter => "filter",
        })
    }
}

/// How a request ended at the protocol level (FastCGI 1.0 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolStatus {
    /// The request was served, successfully or not (0).
    RequestComplete,
    /// Refused: this connection takes one request at a time (1).
    CannotMultiplex,
    /// Refused: the application is overloaded (2).
    Overloaded,
    /// Refused: the application does not know the role (3).
    UnknownRole,
    /// A number that the specification does not define.
    Other(u8),
}

impl ProtocolStatus {
    /// Parses the status byte.
    pub const fn from_byte(byte: u8) -> ProtocolStatus {
        match byte {
            0 => ProtocolStatus::RequestComplete,
            1 => ProtocolStatus::CannotMultiplex,
            2 => ProtocolStatus::Overloaded,
            3 => ProtocolStatus::UnknownRole,
            other => ProtocolStatus::Other(other),
        }
    }

    /// Returns the status byte.
    pub const fn byte(self) -> u8 {
        match self {
            ProtocolStatus::RequestComplete => 0,
            ProtocolStatus::CannotMultiplex => 1,
            ProtocolStatus::Overloaded => 2,
            ProtocolStatus::UnknownRole => 3,
            ProtocolStatus::Other(other) => other,
        }
    }
}

/// BEGIN_REQUEST's body (§5.1): two bytes of role, one of flags, five reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BeginRequest {
    /// The role's number, known or not.
    pub(crate) role: u16,
    /// Whether the web server wants to keep using the connection.
    pub(crate) keep_connection: bool,
}

impl BeginRequest {
    pub(crate) fn decode(body: [u8; BODY_LENGTH]) -> BeginRequest {
        let [role_1, role_0, flags, ..] = body;
        BeginRequest {
            role: u16::from_be_bytes([role_1, role_0]),
            keep_connection: flags & KEEP_CONN != 0,
        }
    }

    pub(crate) fn encode(self) -> [u8; BODY_LENGTH] {
        let [role_1, role_0] = self.role.to_be_bytes();
        [role_1, role_0, if self.keep_connection { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]
    }
}

/// END_REQUEST's body (§5.5): four bytes of application status, one of protocol status, three reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndRequest {
    /// The exit status that a CGI program would have returned.
    pub(crate) app_status: u32,
    pub(crate) protocol_status: ProtocolStatus,
}

impl EndRequest {
    pub(crate) fn decode(body: [u8; BODY_LENGTH]) -> EndRequest {
        let [a, b, c, d, protocol_status, ..] = body;
        EndRequest {
            app_status: u32::from_be_bytes([a, b, c, d]),
            protocol_status: ProtocolStatus::from_byte(protocol_status),
        }
    }

    pub(crate) fn encode(self) -> [u8; BODY_LENGTH] {
        let [a, b, c, d] = self.app_status.to_be_bytes();
        [a, b, c, d, self.protocol_status.byte(), 0, 0, 0]
    }
}

/// UNKNOWN_TYPE's body (§4.2): the unrecognized type, seven reserved bytes.
pub(crate) fn unknown_type_body(record_type: u8) -> [u8; BODY_LENGTH] {
    [record_type, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_round_trip() {
        for role in [0, 1, 2, 3, 4, 0x0100, u16::MAX] {
            for keep_connection in [false, true] {
                let begin = BeginRequest { role, keep_connection };
                assert_eq!(BeginRequest::decode(begin.encode()), begin);
            }
        }
        for app_status in [0, 1, 0x0102_0304, u32::MAX] {
            for status in 0..=255 {
                let protocol_status = ProtocolStatus::from_byte(status);
                assert_eq!(protocol_status.byte(), status);
                let end = EndRequest { app_status, protocol_status };
                assert_eq!(EndRequest::decode(end.encode()), end);
            }
        }
        assert_eq!(unknown_type_body(99), [99, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn reserved_bytes_and_unknown_flags_are_ignored() {
        let begin = BeginRequest::decode([0, 1, 0b1111_1110, 9, 9, 9, 9, 9]);
        assert_eq!(begin, BeginRequest { role: 1, keep_connection: false });
    }

    #[test]
    fn roles_have_the_numbers_of_section_8() {
        for role in [Role::Responder, Role::Authorizer, Role::Filter] {
            assert_eq!(Role::from_number(role.number()), Some(role));
        }
        assert_eq!(Role::from_number(0), None);
        assert_eq!(Role::from_number(4), None);
        assert_eq!(Role::from_number(0x0101), None);
    }
}
