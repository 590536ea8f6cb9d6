//! What one side sends, the other receives: pairs, records, and whole conversations of interleaved
//! requests between the crate's two ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastcgi_server::{
    Connection, Event, Header, Limits, Params, ProtocolStatus, RecordType, RequestId, Role, client,
    one_line,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::application::random_pieces;
use crate::wire::id;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn borrowed(pairs: &Pairs) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(name, value)| (&name[..], &value[..]))
}

fn any_pairs() -> impl Strategy<Value = Pairs> {
    let part = || {
        prop_oneof![
            8 => vec(any::<u8>(), 0..12),
            2 => vec(any::<u8>(), 120..136),
            1 => vec(any::<u8>(), 1000..1001),
        ]
    };
    vec((part(), part()), 0..12)
}

/// One request and its response.
#[derive(Clone, Debug)]
struct Case {
    role: Role,
    keep_connection: bool,
    params: Vec<Pairs>,
    stdin: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    stdout: Vec<Vec<u8>>,
    stderr: Vec<u8>,
    app_status: u32,
}

fn any_case() -> impl Strategy<Value = Case> {
    let role = prop_oneof![Just(Role::Responder), Just(Role::Authorizer), Just(Role::Filter)];
    let pieces = || {
        vec(
            prop_oneof![
                10 => vec(any::<u8>(), 0..50),
                1 => Just(vec![b'x'; 5000]),
                1 => Just(vec![b'y'; 70_000]),
            ],
            0..4,
        )
    };
    let stderr =
        prop_oneof![3 => Just(vec![]), 1 => vec(any::<u8>(), 1..30), 1 => Just(vec![b'e'; 66_000])];
    (
        role,
        any::<bool>(),
        vec(any_pairs(), 0..3),
        pieces(),
        pieces(),
        pieces(),
        stderr,
        any::<u32>(),
    )
        .prop_map(
            |(role, keep_connection, params, stdin, data, stdout, stderr, app_status)| {
                let none = Vec::new;
                Case {
                    role,
                    keep_connection,
                    params,
                    stdin: if role == Role::Authorizer { none() } else { stdin },
                    data: if role == Role::Filter { data } else { none() },
                    stdout,
                    stderr,
                    app_status,
                }
            },
        )
}

/// What the web server has to send of a request, in order.
enum Step<'a> {
    Begin,
    Params(&'a Pairs),
    ParamsEnd,
    Stdin(&'a [u8]),
    StdinEnd,
    Data(&'a [u8]),
    DataEnd,
}

fn steps(case: &Case) -> Vec<Step<'_>> {
    let mut steps = vec![Step::Begin];
    steps.extend(case.params.iter().map(Step::Params));
    steps.push(Step::ParamsEnd);
    if case.role != Role::Authorizer {
        steps.extend(case.stdin.iter().map(|piece| Step::Stdin(piece)));
        steps.push(Step::StdinEnd);
    }
    if case.role == Role::Filter {
        steps.extend(case.data.iter().map(|piece| Step::Data(piece)));
        steps.push(Step::DataEnd);
    }
    steps
}

fn send(web_server: &mut client::Connection, id: RequestId, case: &Case, step: &Step<'_>) {
    let done = match step {
        Step::Begin => web_server.begin(id, case.role, case.keep_connection),
        Step::Params(pairs) => web_server.params(id, borrowed(pairs)),
        Step::ParamsEnd => web_server.params_end(id),
        Step::Stdin(piece) => web_server.stdin(id, Bytes::copy_from_slice(piece)),
        Step::StdinEnd => web_server.stdin_end(id),
        Step::Data(piece) => web_server.data(id, Bytes::copy_from_slice(piece)),
        Step::DataEnd => web_server.data_end(id),
    };
    assert!(done, "a legal step was refused");
}

#[derive(Debug, Default, PartialEq)]
struct Received {
    params: Params,
    stdin: Vec<u8>,
    data: Vec<u8>,
    ends: usize,
}

#[derive(Debug, Default, PartialEq)]
struct Answered {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Option<u32>,
}

proptest! {
    // A case of the long property is four whole requests; a hundred cases cover every kind.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pairs_round_trip(pairs in any_pairs()) {
        let params = Params::from_pairs(borrowed(&pairs));
        prop_assert!(params.iter().eq(borrowed(&pairs)));
        for (name, _) in &pairs {
            let first = pairs.iter().find(|pair| pair.0 == *name).map(|pair| &pair.1[..]);
            prop_assert_eq!(params.get(name), first);
        }
    }

    #[test]
    fn headers_round_trip(record_type in 0..11_usize, number: u16, content_length: u16, padding_length: u8) {
        let record_type = RecordType::ALL[record_type] as u8;
        let header = Header { record_type, id: RequestId::new(number), content_length, padding_length };
        prop_assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn interleaved_requests_are_received_and_answered(
        cases in vec(any_case(), 1..5),
        schedule in vec(any::<prop::sample::Index>(), 60),
        seed: u64,
    ) {
        let cases: BTreeMap<RequestId, Case> =
            cases.into_iter().enumerate().map(|(index, e)| (id(index as u16 * 3 + 1), e)).collect();

        // The web server sends, one step of one request at a time.
        let mut web_server = client::Connection::new();
        let mut open: Vec<_> =
            cases.iter().map(|(id, e)| (*id, e, steps(e).into_iter())).collect();
        let mut schedule = schedule.iter().cycle();
        while !open.is_empty() {
            let which = schedule.next().unwrap().index(open.len());
            let (id, case, steps) = &mut open[which];
            match steps.next() {
                Some(step) => send(&mut web_server, *id, case, &step),
                None => drop(open.swap_remove(which)),
            }
        }
        prop_assert_eq!(web_server.active_requests(), cases.len());

        // The application receives.
        let limits = Limits { params_bytes: 1 << 20, ..Limits::default() };
        let mut connection = Connection::new(limits);
        let mut received: BTreeMap<RequestId, Received> = BTreeMap::new();
        for piece in random_pieces(&web_server.take_unsent(), seed) {
            connection.handle_input(Bytes::copy_from_slice(piece));
            while let Some(event) = connection.poll_event() {
                match event {
                    Event::Request(request) => {
                        let case = &cases[&request.id];
                        prop_assert_eq!(request.role, case.role);
                        prop_assert_eq!(request.keep_connection, case.keep_connection);
                        let params = request.params;
                        received.insert(request.id, Received { params, ..Received::default() });
                    }
                    Event::Stdin { id, data } => received.get_mut(&id).unwrap().stdin.extend(&data),
                    Event::Data { id, data } => received.get_mut(&id).unwrap().data.extend(&data),
                    Event::StdinEnd { id } | Event::DataEnd { id } => {
                        received.get_mut(&id).unwrap().ends += 1;
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        for (id, case) in &cases {
            let expected = Received {
                params: Params::from_pairs(case.params.iter().flat_map(borrowed)),
                stdin: case.stdin.concat(),
                data: case.data.concat(),
                ends: match case.role {
                    Role::Responder => 1,
                    Role::Authorizer => 0,
                    Role::Filter => 2,
                },
            };
            prop_assert_eq!(&received[id], &expected);
        }

        // It responds, one piece of each in turn.
        for turn in 0..5 {
            for (id, case) in &cases {
                if let Some(piece) = case.stdout.get(turn) {
                    if turn == 0 {
                        connection.stdout_in_place(*id, |out| out.extend_from_slice(piece));
                    } else {
                        connection.stdout(*id, Bytes::copy_from_slice(piece));
                    }
                }
                if turn == 2 {
                    connection.stderr(*id, &case.stderr);
                }
                if turn == 4 {
                    prop_assert!(connection.end_request(*id, case.app_status));
                }
            }
        }
        let response = connection.take_unsent();
        let keeps = cases.values().all(|case| case.keep_connection);
        let close_when = connection.close_when();
        prop_assert_eq!(close_when == fastcgi_server::CloseWhen::KeepOpen, keeps);

        // The web server receives the responses.
        let mut answered: BTreeMap<RequestId, Answered> = BTreeMap::new();
        for piece in random_pieces(&response, seed.wrapping_add(1)) {
            web_server.handle_input(Bytes::copy_from_slice(piece));
            while let Some(event) = web_server.poll_event() {
                match event {
                    client::Event::Stdout { id, data } => {
                        answered.entry(id).or_default().stdout.extend(&data);
                    }
                    client::Event::Stderr { id, data } => {
                        answered.entry(id).or_default().stderr.extend(&data);
                    }
                    client::Event::End { id, app_status, protocol_status } => {
                        prop_assert_eq!(protocol_status, ProtocolStatus::RequestComplete);
                        answered.entry(id).or_default().end = Some(app_status);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        for (id, case) in &cases {
            let expected = Answered {
                stdout: case.stdout.concat(),
                stderr: one_line(&case.stderr).as_bytes().to_vec(),
                end: Some(case.app_status),
            };
            prop_assert_eq!(&answered[id], &expected);
        }
        prop_assert_eq!(web_server.active_requests(), 0);
    }
}
