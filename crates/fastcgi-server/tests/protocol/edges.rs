//! Lengths around every boundary in the protocol, in any combination.

use bytes::Bytes;
use fastcgi_server::{Connection, Event, Limits, client};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::application::{Responses, converse, random_pieces};
use crate::web_server::{poll_all, receive, show, started};
use crate::wire::*;

/// What a record can carry.
fn content_length() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        1_usize..20,
        126_usize..130,
        255_usize..258,
        8190_usize..8195,
        32_766_usize..32_770,
        65_526_usize..65_530,
        65_533_usize..65_536,
    ]
}

/// Lengths that may have to be split into records.
fn stream_length() -> impl Strategy<Value = usize> {
    prop_oneof![
        content_length(),
        65_536_usize..65_540,
        131_054_usize..131_074,
        196_582_usize..196_610,
    ]
}

/// What a pair's length may state.
fn said_length() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0_u32..20,
        2 => 126_u32..130,
        1 => 65_500_u32..65_540,
        1 => 0x3fff_fff0_u32..0x4000_0010,
        1 => 0x7fff_fff0_u32..=0x7fff_ffff,
        3 => Just(0x7fff_ffff_u32),
    ]
}

/// Lengths in either form, and whether the content they announce is there, completely or nearly.
fn any_block() -> impl Strategy<Value = Vec<u8>> {
    let pair = (said_length(), said_length(), any::<(bool, bool)>());
    (vec(pair, 0..4), 0_usize..3).prop_map(|(pairs, short)| {
        let mut block = Vec::new();
        for (name, value, (long_name, long_value)) in pairs {
            for (length, long) in [(name, long_name), (value, long_value)] {
                match u8::try_from(length) {
                    Ok(byte) if byte < 0x80 && !long => block.push(byte),
                    _ => block.extend((0x8000_0000 | length).to_be_bytes()),
                }
            }
            // As much of the content as one record has room for.
            let length = (u64::from(name) + u64::from(value)).min(65_535) as usize;
            block.resize(block.len() + length, b'x');
        }
        block.truncate(block.len().saturating_sub(short).min(65_535));
        block
    })
}

/// Where the first incomplete pair starts, according to a reader that counts in 64 bits.
fn broken_pair(block: &[u8]) -> Option<u64> {
    let end = block.len() as u64;
    let mut at = 0;
    while at < end {
        let pair_at = at;
        let mut content = 0;
        for _ in 0..2 {
            let Some(first) = block.get(at as usize) else { return Some(pair_at) };
            if *first < 0x80 {
                content += u64::from(*first);
                at += 1;
            } else {
                let Some(bytes) = block.get(at as usize..at as usize + 4) else {
                    return Some(pair_at);
                };
                let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
                content += u64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
                at += 4;
            }
        }
        at += content;
        if at > end {
            return Some(pair_at);
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn content_and_padding_of_any_length_end_where_they_say(
        records in vec((prop_oneof![Just(STDIN), Just(PARAMS), Just(STDOUT), Just(DATA), Just(77_u8)],
            prop_oneof![Just(1_u16), Just(5_u16)], content_length(), any::<u8>()), 1..4),
        seed: u64,
    ) {
        // To an application whose request 1 has an open body.
        let forged = Wire::new().get(666, KEEP).bytes;
        let mut wire = Wire::new().begin(1, RESPONDER, KEEP).params(1, &[]);
        let mut expected = 0;
        for (kind, number, length, padding) in &records {
            // Some would end the connection or the body, which is not what this is about.
            let number = if matches!(*kind, PARAMS | STDOUT) || *length == 0 { 5 } else { *number };
            if (*kind, number) == (STDIN, 1) {
                expected += length;
            }
            let content: Vec<u8> = forged.iter().copied().cycle().take(*length).collect();
            wire = wire.record_with_padding(*kind, number, &content, *padding);
        }
        wire = wire.record(STDIN, 1, b"").get(9, KEEP);
        for pieces in [vec![&wire.bytes[..]], random_pieces(&wire.bytes, seed)] {
            let received = converse(&Limits::default(), Responses::AtTheEnd, pieces).received();
            let body = format!("stdin 1 {expected} bytes");
            let rest = if expected > 120 { received.iter().filter(|it| **it != body).count() } else { 4 };
            prop_assert_eq!(rest, 4, "{:?}", received);
            prop_assert!(!received.iter().any(|line| line.contains("666")), "{:?}", received);
            prop_assert_eq!(received.last().map(|it| &it[..]), Some("stdin 9 end"), "{:?}", received);
        }

        // To a web server.
        let forged = Wire::new().record(END, 1, &[0; 8]).record(END, 2, &[0; 8]).bytes;
        let mut wire = Wire::new();
        for (kind, number, length, padding) in &records {
            let number = if matches!(*kind, PARAMS | STDIN | DATA) || *length == 0 { 5 } else { *number };
            let content: Vec<u8> = forged.iter().copied().cycle().take(*length).collect();
            wire = wire.record_with_padding(*kind, number, &content, *padding);
        }
        let wire = wire.record(END, 3, &[0; 8]);
        for pieces in [vec![&wire.bytes[..]], random_pieces(&wire.bytes, seed)] {
            let received = receive(pieces).received();
            let (end, responses) = received.split_last().unwrap();
            prop_assert_eq!(end, "end 3 0 RequestComplete");
            prop_assert!(responses.iter().all(|it| it.starts_with("stdout 1 ")), "{:?}", received);
        }
    }

    #[test]
    fn pairs_are_whole_exactly_when_64_bits_say_so(block in any_block(), seed: u64) {
        let expected = match broken_pair(&block) {
            None => "whole".to_owned(),
            Some(at) => format!("pair at byte {at} of"),
        };
        let wire = Wire::new().begin(1, AUTHORIZER, KEEP);
        let wire = if block.is_empty() { wire } else { wire.record(PARAMS, 1, &block) };
        let wire = wire.record(PARAMS, 1, b"");
        let received = converse(&Limits::default(), Responses::Never, random_pieces(&wire.bytes, seed)).received();
        let [line] = &received[..] else { panic!("{received:?}") };
        let line = line.replace("request 1 authorizer", "whole");
        prop_assert!(line.contains(&expected), "{} is not {}", line, expected);

        let wire = Wire::new().record(GET_VALUES, 0, &block);
        let received = converse(&Limits::default(), Responses::Never, random_pieces(&wire.bytes, seed)).received();
        let line = received.first().map_or("whole", |line| line);
        prop_assert!(line.contains(&expected), "{} is not {}", line, expected);

        let wire = Wire::new().record(GET_VALUES_RESULT, 0, &block);
        let received = receive(random_pieces(&wire.bytes, seed)).received();
        let [line] = &received[..] else { panic!("{received:?}") };
        let line = line.replace("values [", "whole");
        prop_assert!(line.contains(&expected), "{} is not {}", line, expected);
    }

    #[test]
    fn streams_of_any_length_arrive_as_they_were_sent(
        name in stream_length(),
        value in stream_length(),
        body in vec(stream_length(), 0..3),
        // Pieces of up to 2,000 or 20,000 bytes.
        seed in (0..1000_u64).prop_map(|seed| seed * 5 + 3 + seed % 2),
    ) {
        let bytes = |length: usize| (0..length).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
        let (name, value) = (bytes(name), bytes(value));
        let mut web_server = client::Connection::new();
        let one = id(1);
        prop_assert!(web_server.begin(one, fastcgi_server::Role::Responder, true));
        prop_assert!(web_server.params(one, [(&name[..], &value[..]), (&value[..], &name[..])]));
        prop_assert!(web_server.params_end(one));
        for length in &body {
            prop_assert!(web_server.stdin(one, bytes(*length).into()));
        }
        prop_assert!(web_server.stdin_end(one));

        let mut application = Connection::new(Limits { params_bytes: 1 << 20, ..Limits::default() });
        let mut received: Vec<u8> = Vec::new();
        let mut ended = false;
        for piece in random_pieces(&web_server.take_unsent(), seed) {
            application.handle_input(Bytes::copy_from_slice(piece));
            while let Some(event) = application.poll_event() {
                match event {
                    Event::Request(request) => {
                        let pairs: Vec<_> = request.params.iter().collect();
                        prop_assert_eq!(pairs, [(&name[..], &value[..]), (&value[..], &name[..])]);
                    }
                    Event::Stdin { data, .. } => received.extend(&data),
                    Event::StdinEnd { .. } => ended = true,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        let sent: Vec<u8> = body.iter().flat_map(|length| bytes(*length)).collect();
        prop_assert_eq!(&received, &sent);
        prop_assert!(ended);

        for (at, length) in body.iter().enumerate() {
            match at {
                0 => application.stdout_in_place(one, |out| out.extend_from_slice(&bytes(*length))),
                _ => application.stdout(one, bytes(*length).into()),
            };
        }
        application.end_request(one, 7);
        let response = application.take_unsent();
        let events = poll_all(&mut started(), random_pieces(&response, seed));
        let (end, responses) = events.split_last().unwrap();
        prop_assert_eq!(show(end), "end 1 7 RequestComplete");
        match responses {
            [] => prop_assert!(sent.is_empty()),
            [client::Event::Stdout { data, .. }] => prop_assert_eq!(data, &sent),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
