//! Bugs of other FastCGI implementations, tested on both ends of this one.
//!
//! `docs/fastcgi-support.md` says whose each bug was and what it did; a test here keeps the page in sync.
//! `seeds.rs` gives the same conversations to the fuzz targets, `edges.rs` covers the numbers around
//! them.

use fastcgi_server::{Connection, Event, Limits, client, one_line};

use crate::application::{Responses, converse_in_all_cuts, random_pieces};
use crate::web_server::{STARTED, poll_all, receive, receive_in_all_cuts, show, started};
use crate::wire::*;

const LARGE_AND_PADDED: &str = "content of 65,535 bytes with padding";
const CUT_LENGTH: &str = "a length cut to 16 bits";
const ID_0: &str = "an application's record with id 0";
const END_OF_INPUT: &str = "an end of the input within a record";
const FORGED_LINES: &str = "STDERR that forges lines of a log";
const CHANGED_LIST: &str = "a list of requests changed while it is visited";
const ADDED_LENGTHS: &str = "lengths of a name and a value added up";
const PAST_THE_END: &str = "a pair longer than what is left";
const NEVER_FINISHED: &str = "requests started and never finished";
const EARLIER_VARIABLES: &str = "variables of an earlier request";
const LATE_BODY: &str = "a stream that goes on after the request";

/// What follows a case.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Whatever is sent next is understood.
    GoesOn,
    /// The connection has failed, and receives nothing more.
    Failed,
    /// The peer closes: nothing arrives, and the connection knows that something is missing.
    Ended,
}

/// One conversation that an implementation with the bug gets wrong.
pub(crate) struct Case {
    /// The row's first cell in docs/fastcgi-support.md.
    pub(crate) mistake: &'static str,
    pub(crate) case: &'static str,
    pub(crate) wire: Wire,
    received: Vec<String>,
    said: Vec<String>,
    after: After,
    responses: Responses,
}

impl Case {
    fn new<const N: usize>(
        mistake: &'static str,
        case: &'static str,
        wire: Wire,
        received: [&str; N],
    ) -> Case {
        let received: Vec<String> = received.map(str::to_owned).into();
        let failed = received.last().is_some_and(|line| line.starts_with("failed: "));
        let after = if failed { After::Failed } else { After::GoesOn };
        Case { mistake, case, wire, received, said: vec![], after, responses: Responses::AtTheEnd }
    }

    fn says<const N: usize>(self, said: [&str; N]) -> Case {
        Case { said: [self.said, said.map(str::to_owned).into()].concat(), ..self }
    }

    /// The request is answered, and nothing else is sent.
    fn responds(self, number: u16) -> Case {
        self.says([
            &format!("STDOUT {number} Status: 200\\r\\n\\r\\n"),
            &format!("STDOUT {number} end"),
            &format!("END_REQUEST {number} app 0 protocol 0"),
        ])
    }

    fn ended(self) -> Case {
        Case { after: After::Ended, ..self }
    }

    fn name(&self) -> String {
        format!("{}: {}", self.mistake, self.case)
    }
}

/// A whole request that no case may receive: what an attacker hides in the content of other records.
fn forged_request() -> Vec<u8> {
    Wire::new().get(666, KEEP).bytes
}

/// Ends of all started requests, likewise.
fn forged_ends() -> Vec<u8> {
    STARTED.fold(Wire::new(), |wire, number| wire.record(END, number, &[0; 8])).bytes
}

/// Content of `length` bytes that consists only of forged records from `at` on.
fn hiding(forged: &[u8], at: usize, length: usize) -> Vec<u8> {
    let forged = forged.iter().copied().cycle();
    std::iter::repeat_n(0xee, at).chain(forged).take(length).collect()
}

/// One pair with a name of one byte, `length` bytes in all.
fn one_pair(length: usize) -> Vec<u8> {
    let block = block(&[("A", &"v".repeat(length - 6))]);
    assert_eq!(block.len(), length);
    block
}

/// What a sender that truncates lengths to 16 bits makes of 99,000 bytes: a record of 33,464, followed by
/// forged records and one that nobody misses, up to the last byte.
fn cut_record(kind: u8, forged: &[u8]) -> Wire {
    const SAID: u16 = (99_000 - 65_536) as u16;
    let hidden = Wire::new().raw(forged);
    let rest = 65_536 - hidden.bytes.len() - 8;
    let hidden = hidden.record(kind, 999, &vec![0xee; rest]);
    let record = Wire::new().header(1, kind, 1, SAID, 0).raw(&vec![b'x'; usize::from(SAID)]);
    let record = record.raw(&hidden.bytes);
    assert_eq!(record.bytes.len(), 8 + 99_000);
    record
}

/// Pairs of lengths whose sums are small, negative or zero when added in 32 bits.
const ADDED_UP: [(&str, u32, u32); 5] = [
    ("two of 31 bits", 0x7fff_ffff, 0x7fff_ffff),
    ("a name of 31 bits", 0x7fff_ffff, 1),
    ("a value of 31 bits", 1, 0x7fff_ffff),
    ("two halves", 0x4000_0000, 0x4000_0000),
    ("a sum that is zero with their eight bytes", 0x7fff_fffc, 0x7fff_fffc),
];

fn lengths_only(name: u32, value: u32) -> Vec<u8> {
    let lengths = [name, value].map(|length| (0x8000_0000 | length).to_be_bytes());
    [&lengths.concat()[..], b"and twenty bytes....."].concat()
}

/// The first pair is good. The second is longer than what is left, but shorter than the whole.
fn pair_past_the_end() -> Vec<u8> {
    [&block(&[("A", &"b".repeat(50))])[..], &[20, 20], b"ten bytes."].concat()
}

/// What is sent to an application.
pub(crate) fn to_application() -> Vec<Case> {
    const REQUEST: &str = "request 1 responder keep: REQUEST_URI=/";
    const FORGED: [&str; 2] = ["request 666 responder keep: REQUEST_URI=/", "stdin 666 end"];
    const NO_PAIRS: &str = "request 1 responder keep:";
    let request = || Wire::new().begin(1, RESPONDER, KEEP).params(1, &[("REQUEST_URI", "/")]);
    let hiding = |at| hiding(&forged_request(), at, 65_535);
    let mut cases = vec![
        Case::new(
            LARGE_AND_PADDED,
            "in a record that is skipped",
            Wire::new().record_with_padding(77, 5, &hiding(0), 1),
            [],
        ),
        Case::new(
            LARGE_AND_PADDED,
            "in a body",
            request().record_with_padding(STDIN, 1, &hiding(254), 255).record(STDIN, 1, b""),
            [REQUEST, "stdin 1 65535 bytes", "stdin 1 end"],
        )
        .responds(1),
        Case::new(
            CUT_LENGTH,
            // No reader can tell it from a small one; that much depends on the sender.
            "a POST of 99,000 bytes",
            request().raw(&cut_record(STDIN, &forged_request()).bytes).record(STDIN, 1, b""),
            [REQUEST, "stdin 1 33464 bytes", FORGED[0], FORGED[1], "stdin 1 end"],
        )
        .responds(666)
        .responds(1),
        Case::new(
            ID_0,
            "beside a request",
            (BEGIN..=DATA)
                .fold(request(), |wire, kind| wire.record(kind, 0, b"\0\x01\x01\0\0\0\0\0"))
                .record(STDIN, 1, b""),
            [REQUEST, "stdin 1 end"],
        )
        .says(["UNKNOWN_TYPE 0 1", "UNKNOWN_TYPE 0 2", "UNKNOWN_TYPE 0 3", "UNKNOWN_TYPE 0 4"])
        .says(["UNKNOWN_TYPE 0 5", "UNKNOWN_TYPE 0 6", "UNKNOWN_TYPE 0 7", "UNKNOWN_TYPE 0 8"])
        .responds(1),
        Case::new(END_OF_INPUT, "a header", Wire::new().raw(&[1, BEGIN, 0, 1]), []).ended(),
        Case::new(
            END_OF_INPUT,
            "BEGIN_REQUEST",
            Wire::new().header(1, BEGIN, 1, 8, 0).raw(&[0, 1, 1]),
            [],
        )
        .ended(),
        Case::new(
            END_OF_INPUT,
            "PARAMS",
            Wire::new().begin(1, RESPONDER, KEEP).header(1, PARAMS, 1, 80, 0).raw(b"\x01\x01Ab"),
            [],
        )
        .ended(),
        Case::new(
            END_OF_INPUT,
            "STDIN",
            request().header(1, STDIN, 1, 65_535, 8).raw(b"half"),
            [REQUEST, "stdin 1 half"],
        )
        .ended(),
        Case::new(
            END_OF_INPUT,
            "padding",
            request().header(1, STDIN, 1, 0, 8).raw(&[0xee; 7]),
            [REQUEST, "stdin 1 end"],
        )
        .responds(1)
        .ended(),
        Case::new(
            CHANGED_LIST,
            "requests that end beside one another",
            Wire::new()
                .begin(2, RESPONDER, KEEP)
                .begin(1, RESPONDER, KEEP)
                .begin(3, RESPONDER, KEEP)
                .params(3, &[])
                .params(1, &[])
                .params(2, &[])
                .record(STDIN, 1, b"one")
                .record(STDIN, 3, b"")
                .record(STDIN, 2, b"two")
                .record(STDIN, 1, b"")
                .record(STDIN, 2, b""),
            [
                "request 3 responder keep:",
                NO_PAIRS,
                "request 2 responder keep:",
                "stdin 1 one",
                "stdin 3 end",
                "stdin 2 two",
                "stdin 1 end",
                "stdin 2 end",
            ],
        )
        .responds(3)
        .responds(1)
        .responds(2),
        Case::new(
            PAST_THE_END,
            "PARAMS",
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &pair_past_the_end())
                .record(PARAMS, 1, b""),
            [
                "failed: the name-value pair at byte 53 of request 1's PARAMS extends beyond the end \
              of the stream (record at byte 89 of the connection)",
            ],
        ),
        Case::new(
            PAST_THE_END,
            "GET_VALUES",
            Wire::new().record(GET_VALUES, 0, &pair_past_the_end()),
            ["failed: the name-value pair at byte 53 of GET_VALUES extends beyond the end of the \
              record (record at byte 0 of the connection)"],
        ),
        Case::new(
            NEVER_FINISHED,
            "three thousand on one connection",
            (1..=3000).fold(Wire::new(), |wire, number| wire.begin(number, RESPONDER, KEEP)),
            ["failed: the peer leaves more than 32768 bytes of replies to its own queries unread \
              (record at byte 33792 of the connection)"],
        ),
        Case::new(
            EARLIER_VARIABLES,
            "of one that was answered, and of one that was given up",
            Wire::new()
                .begin(1, AUTHORIZER, KEEP)
                .params(1, &[("REMOTE_USER", "owner")])
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &block(&[("HTTP_COOKIE", "secret")]))
                .record(ABORT, 1, b"")
                .begin(1, AUTHORIZER, KEEP)
                .params(1, &[("A", "b")]),
            ["request 1 authorizer keep: REMOTE_USER=owner", "request 1 authorizer keep: A=b"],
        )
        .responds(1)
        .says(["END_REQUEST 1 app 1 protocol 0"])
        .responds(1),
        Case {
            responses: Responses::AtOnce,
            ..Case::new(
                LATE_BODY,
                "its id is used again",
                request()
                    .stdin(1, b"late", 2)
                    .begin(1, RESPONDER, KEEP)
                    .params(1, &[])
                    .stdin(1, b"", 1),
                [REQUEST, NO_PAIRS],
            )
            .responds(1)
            .responds(1)
        },
    ];
    for (case, name, value) in ADDED_UP {
        let lengths = lengths_only(name, value);
        cases.push(Case::new(
            ADDED_LENGTHS,
            case,
            Wire::new()
                .begin(1, RESPONDER, KEEP)
                .record(PARAMS, 1, &lengths)
                .record(PARAMS, 1, b""),
            ["failed: the name-value pair at byte 0 of request 1's PARAMS extends beyond the end \
              of the stream (record at byte 53 of the connection)"],
        ));
    }
    // Of three thousand, 64 are active and 2,048 have a response of 16 bytes.
    let never_finished = cases.iter_mut().find(|it| it.mistake == NEVER_FINISHED).unwrap();
    never_finished.said =
        (65..65 + 2048).map(|number| format!("END_REQUEST {number} app 0 protocol 2")).collect();
    cases
}

/// What is sent to a web server with requests 1 to 3 started on the connection.
pub(crate) fn to_web_server() -> Vec<Case> {
    let hiding = |at| hiding(&forged_ends(), at, 65_535);
    let end = [0; 8];
    let mut cases = vec![
        Case::new(
            LARGE_AND_PADDED,
            "in a record that is skipped",
            Wire::new().record_with_padding(STDOUT, 5, &hiding(0), 1),
            [],
        ),
        Case::new(
            LARGE_AND_PADDED,
            "in a response",
            Wire::new().record_with_padding(STDOUT, 1, &hiding(254), 255),
            ["stdout 1 65535 bytes"],
        ),
        Case::new(
            CUT_LENGTH,
            "a response of 99,000 bytes",
            cut_record(STDOUT, &Wire::new().record(END, 2, &end).bytes).record(END, 1, &end),
            ["stdout 1 33464 bytes", "end 2 0 RequestComplete", "end 1 0 RequestComplete"],
        ),
        Case::new(
            ID_0,
            "STDOUT, STDERR and END_REQUEST among them",
            (BEGIN..=DATA).fold(Wire::new(), |wire, kind| wire.record(kind, 0, &end)),
            [],
        ),
        Case::new(END_OF_INPUT, "a header", Wire::new().raw(&[1, STDOUT, 0, 1]), []).ended(),
        Case::new(
            END_OF_INPUT,
            "STDOUT",
            Wire::new().header(1, STDOUT, 1, 65_535, 8).raw(b"half"),
            ["stdout 1 half"],
        )
        .ended(),
        Case::new(
            END_OF_INPUT,
            "END_REQUEST",
            Wire::new().record(STDOUT, 1, b"all").header(1, END, 1, 8, 0).raw(&end[..7]),
            ["stdout 1 all"],
        )
        .ended(),
        Case::new(
            END_OF_INPUT,
            "padding",
            Wire::new().header(1, END, 1, 8, 2).raw(&end).raw(b"\xee"),
            ["end 1 0 RequestComplete"],
        )
        .ended(),
        Case::new(
            FORGED_LINES,
            "a visitor's input in a warning",
            Wire::new().record(STDERR, 1, FORGED_LINE),
            ["stderr 1 bad input \\'x\\r\\nFAKE: all is well\\x1b[31m\\'"],
        ),
        Case::new(
            CHANGED_LIST,
            "requests that end beside one another",
            Wire::new()
                .record(STDOUT, 2, b"two")
                .record(END, 1, &end)
                .record(STDOUT, 2, b"")
                .record(END, 2, &end)
                .record(END, 1, &end),
            ["stdout 2 two", "end 1 0 RequestComplete", "end 2 0 RequestComplete"],
        ),
        Case::new(
            PAST_THE_END,
            "GET_VALUES_RESULT",
            Wire::new().record(GET_VALUES_RESULT, 0, &pair_past_the_end()),
            [
                "failed: the name-value pair at byte 53 of GET_VALUES_RESULT extends beyond the end of \
              the record (record at byte 0 of the connection)",
            ],
        ),
        Case::new(
            LATE_BODY,
            "STDOUT, STDERR and END_REQUEST",
            Wire::new()
                .record(END, 1, &end)
                .record(STDOUT, 1, b"late")
                .record(STDERR, 1, b"late")
                .record(END, 1, &end),
            ["end 1 0 RequestComplete"],
        ),
    ];
    for (case, name, value) in ADDED_UP {
        cases.push(Case::new(
            ADDED_LENGTHS,
            case,
            Wire::new().record(GET_VALUES_RESULT, 0, &lengths_only(name, value)),
            ["failed: the name-value pair at byte 0 of GET_VALUES_RESULT extends beyond the end of \
              the record (record at byte 0 of the connection)"],
        ));
    }
    cases
}

const FORGED_LINE: &[u8] = b"bad input 'x\r\nFAKE: all is well\x1b[31m'";

#[test]
fn an_application_does_not_repeat_them() {
    for case in to_application() {
        let name = case.name();
        let mut wire = case.wire;
        let mut expected = Case { wire: Wire::new(), ..case };
        if expected.after != After::Ended {
            wire = wire.get(9, KEEP);
        }
        if expected.after == After::GoesOn {
            let last = "request 9 responder keep: REQUEST_URI=/";
            expected.received.push(last.to_owned());
            if expected.responses == Responses::AtTheEnd {
                expected.received.push("stdin 9 end".to_owned());
            }
            expected = expected.responds(9);
        }
        let outcome =
            converse_in_all_cuts(&name, &Limits::default(), expected.responses, &wire.bytes);
        assert_eq!(outcome.received(), expected.received, "{name}");
        assert_eq!(outcome.said(), expected.said, "{name}");
        assert_eq!(outcome.is_between_requests, expected.after == After::GoesOn, "{name}");
    }
}

#[test]
fn a_web_server_does_not_repeat_them() {
    for mut case in to_web_server() {
        let name = case.name();
        let mut wire = case.wire;
        if case.after != After::Ended {
            wire = wire.record(STDOUT, 3, b"good").record(END, 3, &[0; 8]);
        }
        if case.after == After::GoesOn {
            case.received.extend(["stdout 3 good", "end 3 0 RequestComplete"].map(str::to_owned));
        }
        let outcome = receive_in_all_cuts(&name, &wire.bytes);
        assert_eq!(outcome.received(), case.received, "{name}");
        assert_eq!(outcome.is_between_records, case.after == After::GoesOn, "{name}");
        let ended = case.received.iter().filter(|line| line.starts_with("end ")).count();
        let active = if case.after == After::Failed { 0 } else { STARTED.count() - ended };
        assert_eq!(outcome.active_requests, active, "{name}");
    }
}

/// `CUT_LENGTH`, where it is made: the sender. Whatever is sent, the forged records are where a length
/// truncated to 16 bits would end.
#[test]
fn neither_side_truncates_a_length_to_16_bits() {
    for length in [65_535, 65_536, 65_537, 99_000, 131_071, 131_072, 131_073, 200_000] {
        let at = length % 65_536;
        let to_application = hiding(&forged_request(), at, length);
        let to_web_server = hiding(&forged_ends(), at, length);
        let line = "x".repeat(length);

        let mut web_server = client::Connection::new();
        assert!(web_server.begin(id(1), fastcgi_server::Role::Filter, true));
        assert!(web_server.params(id(1), [(&b"A"[..], &to_application[..])]));
        assert!(web_server.params_end(id(1)));
        assert!(web_server.stdin(id(1), to_application.clone().into()));
        assert!(web_server.data(id(1), to_application.clone().into()));
        let sent = web_server.take_unsent();
        let params = content_of(&sent, PARAMS);
        assert_eq!(params.len(), 1 + 4 + 1 + length, "one byte, four bytes, A, the value");
        assert_eq!(params[6..], to_application);
        assert_eq!(content_of(&sent, STDIN), to_application);
        assert_eq!(content_of(&sent, DATA), to_application);

        let mut application =
            Connection::new(Limits { params_bytes: 1 << 20, ..Limits::default() });
        application.handle_input(sent);
        let mut received = Vec::new();
        while let Some(event) = application.poll_event() {
            match event {
                Event::Request(request) => received.push((request.id, request.params.len_bytes())),
                Event::Stdin { id, data } | Event::Data { id, data } => {
                    received.push((id, data.len()))
                }
                other => panic!("{length} bytes: {other:?}"),
            }
        }
        assert!(received.iter().all(|(about, _)| *about == id(1)), "{length} bytes: {received:?}");
        assert_eq!(received.iter().map(|(_, length)| length).sum::<usize>(), 3 * length + 6);

        assert!(application.stdout(id(1), to_web_server.clone().into()));
        assert!(application.stdout_in_place(id(1), |out| out.extend_from_slice(&to_web_server)));
        assert!(application.stderr(id(1), line.as_bytes()));
        let sent = application.take_unsent();
        assert_eq!(content_of(&sent, STDOUT), to_web_server.repeat(2));
        assert_eq!(content_of(&sent, STDERR), line.as_bytes());
    }
}

/// `END_OF_INPUT`: at every byte, each end knows whether it has everything.
#[test]
fn an_end_of_the_input_is_never_taken_for_the_end_of_a_request() {
    let body = b"a body in three records";
    let request =
        Wire::padded(8).begin(1, RESPONDER, KEEP).params(1, &[("A", "b")]).stdin(1, body, 9).bytes;
    for cut in 0..request.len() {
        for seed in 0..5 {
            let pieces = random_pieces(&request[..cut], seed);
            let outcome =
                crate::application::converse(&Limits::default(), Responses::AtTheEnd, pieces);
            let ended = outcome.received().contains(&"stdin 1 end".to_owned());
            assert!(!ended, "the last record is a header, of which {cut} bytes lack some");
            assert_eq!(outcome.is_between_requests, cut == 0, "{cut} bytes");
        }
    }
    let response =
        Wire::padded(8).record(STDOUT, 1, b"Status: 200\r\n\r\nhello").record(STDOUT, 1, b"");
    let before_the_end = response.bytes.len();
    let response = response.record(END, 1, &[0; 8]).bytes;
    for cut in 0..=response.len() {
        let outcome = receive([&response[..cut]]);
        let ended = outcome.received().contains(&"end 1 0 RequestComplete".to_owned());
        assert_eq!(ended, cut == response.len(), "{cut} bytes");
        assert_eq!(outcome.active_requests, if ended { 2 } else { 3 }, "{cut} bytes");
        let borders = [0, 8 + 24, before_the_end, response.len()];
        assert_eq!(outcome.is_between_records, borders.contains(&cut), "{cut} bytes");
    }
}

/// `FORGED_LINES`, from one end to the other's log.
#[test]
fn a_message_is_one_line_of_the_log() {
    let mut application = Connection::new(Limits::default());
    application.handle_input(Wire::new().get(1, KEEP).bytes.into());
    while application.poll_event().is_some() {}
    for (message, expected) in [
        (FORGED_LINE, "STDERR 1 bad input \\'x\\\\r\\\\nFAKE: all is well\\\\u{1b}[31m\\'"),
        (b"ended\n", "STDERR 1 ended"),
    ] {
        assert!(application.stderr(id(1), message));
        assert_eq!(read_records(&application.take_unsent()), [expected]);
    }
    assert!(application.stderr(id(1), b"\r\n"));
    assert_eq!(application.unsent(), 0, "an empty record would end the stream");
    // An application that is not ours leaves it to the code that writes the log.
    let events = poll_all(&mut started(), [&Wire::new().record(STDERR, 1, FORGED_LINE).bytes[..]]);
    let [client::Event::Stderr { data, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(data, FORGED_LINE);
    assert_eq!(one_line(data), "bad input 'x\\r\\nFAKE: all is well\\u{1b}[31m'");
}

/// `CHANGED_LIST`: an application that ends requests, its own and others, whenever it receives anything.
#[test]
fn requests_may_be_ended_at_any_event_in_any_order() {
    let case = to_application().into_iter().find(|case| case.mistake == CHANGED_LIST).unwrap();
    let bytes = case.wire.get(4, KEEP).bytes;
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    let events = 11;
    for (order, at) in orders.into_iter().flat_map(|order| (0..events).map(move |at| (order, at))) {
        for step in [1, 3, 64, bytes.len()] {
            let mut connection = Connection::new(Limits::default());
            let (mut received, mut ended) = (0, Vec::new());
            for piece in bytes.chunks(step) {
                connection.handle_input(piece.to_vec().into());
                while let Some(event) = connection.poll_event() {
                    let about = match &event {
                        Event::Request(request) => request.id,
                        Event::Stdin { id, .. } | Event::StdinEnd { id } => *id,
                        other => panic!("{other:?}"),
                    };
                    assert!(!ended.contains(&about), "{order:?}, {at}, {step}: {event:?}");
                    if received == at {
                        // Requests that nobody has received yet cannot be ended.
                        let ends =
                            order.into_iter().map(id).filter(|it| connection.end_request(*it, 0));
                        ended = ends.collect();
                    }
                    received += 1;
                }
            }
            assert!(!connection.has_failed());
            assert!(connection.is_active(id(4)), "{order:?}, {at}, {step}");
            let active = 1 + 3 - ended.len();
            assert_eq!(connection.active_requests(), active, "{order:?}, {at}, {step}");
        }
    }
}

/// `CHANGED_LIST` at the other end: what has ended is started again while the rest of one read is processed.
#[test]
fn requests_may_be_started_at_any_event() {
    let ends = forged_ends().repeat(4);
    for step in [1, 5, 16, ends.len()] {
        let mut connection = started();
        let mut received = Vec::new();
        for piece in ends.chunks(step) {
            connection.handle_input(piece.to_vec().into());
            while let Some(event) = connection.poll_event() {
                let client::Event::End { id, .. } = event else { panic!("{}", show(&event)) };
                assert!(!connection.is_active(id));
                assert!(connection.begin(id, fastcgi_server::Role::Responder, true));
                received.push(id.get());
            }
        }
        assert_eq!(received, [1, 2, 3].repeat(4), "pieces of {step} bytes");
        assert_eq!(connection.active_requests(), 3);
    }
}

/// `LARGE_AND_PADDED` in records whose content has to make sense.
#[test]
fn large_pairs_may_be_padded() {
    for padding in [0, 1, 254, 255] {
        let wire = Wire::new()
            .record_with_padding(GET_VALUES, 0, &one_pair(65_535), padding)
            .begin(1, AUTHORIZER, KEEP)
            .record_with_padding(PARAMS, 1, &one_pair(65_535), padding)
            .record_with_padding(PARAMS, 1, b"", padding);
        let name = format!("{padding} bytes of padding");
        let outcome =
            converse_in_all_cuts(&name, &Limits::default(), Responses::AtTheEnd, &wire.bytes);
        assert_eq!(outcome.received(), ["request 1 authorizer keep: A=65529 bytes"], "{name}");
        assert_eq!(outcome.said()[0], "GET_VALUES_RESULT 0 end", "{name}");
        assert!(outcome.is_between_requests, "{name}");

        let wire = Wire::new()
            .record_with_padding(GET_VALUES_RESULT, 0, &one_pair(65_535), padding)
            .record_with_padding(END, 1, &[0; 8], padding);
        let outcome = receive_in_all_cuts(&name, &wire.bytes);
        let values = "values [(\"A\", \"65529 bytes\")]";
        assert_eq!(outcome.received(), [values, "end 1 0 RequestComplete"], "{name}");
    }
}

#[test]
fn the_page_lists_every_mistake() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fastcgi-support.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page.split("## Other people's mistakes").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .skip_while(|cell| *cell != "---")
        .skip(1)
        .collect();
    let cases: Vec<Case> = to_application().into_iter().chain(to_web_server()).collect();
    for case in &cases {
        assert!(rows.contains(&case.mistake), "no row for: {}", case.mistake);
    }
    for row in rows {
        assert!(cases.iter().any(|case| case.mistake == row), "no case for: {row}");
    }
    // The tests it names are here.
    let here = include_str!("mistakes.rs");
    let edges = include_str!("edges.rs");
    for test in table.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2) {
        let test = format!("fn {test}(");
        assert!(
            here.contains(&test) || edges.contains(&test),
            "no {test}) in mistakes.rs, edges.rs"
        );
    }
}

/// The content of all records of a kind; asserts that all records belong to request 1 and none is empty except
/// the one that ends PARAMS.
fn content_of(mut bytes: &[u8], kind: u8) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let [1, found, 0, 1, length_1, length_0, 0, 0] = *header else {
            panic!("a header that nobody wrote: {header:?}");
        };
        let length = usize::from(u16::from_be_bytes([length_1, length_0]));
        assert!(length > 0 || found == PARAMS, "a record of type {found} is empty");
        if found == kind {
            content.extend_from_slice(&rest[..length]);
        }
        bytes = &rest[length..];
    }
    content
}
