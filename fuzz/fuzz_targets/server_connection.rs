//! The application's end of a connection, fed by a stranger and answered by a moody application.
//!
//! The first byte says how the rest is cut and what the application does; the checks are those of
//! `crates/fastcgi-server/tests/protocol/hostile.rs`.

#![no_main]

use bytes::Bytes;
use fastcgi_server::{CloseWhen, Connection, Event, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&mood, input)) = input.split_first() else { return };
    let limits = Limits {
        params_bytes: 300,
        requests_per_connection: 3,
        reply_bytes: 500,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits);
    let mut mood = usize::from(mood);
    for piece in input.chunks(mood % 37 + 1) {
        connection.handle_input(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.poll_event() {
            let id = match event {
                Event::Request(request) => {
                    assert!(request.params.len_bytes() <= 300);
                    for (name, _) in &request.params {
                        assert!(request.params.get(name).is_some());
                    }
                    request.id
                }
                Event::Stdin { id, data } | Event::Data { id, data } => {
                    assert!(!data.is_empty());
                    id
                }
                Event::Refused { id, .. }
                | Event::StdinEnd { id }
                | Event::DataEnd { id }
                | Event::Abort { id } => id,
                Event::Failed(error) => {
                    assert!(!error.to_string().is_empty());
                    assert_eq!(connection.close_when(), CloseWhen::Now);
                    assert_eq!(connection.poll_event(), None);
                    return;
                }
            };
            assert!(connection.is_active(id));
            mood = mood.wrapping_mul(31).wrapping_add(7);
            match mood % 6 {
                0 => assert!(connection.end_request(id, 0)),
                1 => assert!(connection.stdout(id, Bytes::from(vec![0; mood % 70_000]))),
                2 => assert!(connection.stderr(id, b"a message")),
                3 => connection.transmitted(connection.unsent() / 2),
                4 => connection.transmitted(connection.unsent()),
                _ => {}
            }
            assert!(connection.active_requests() <= 3);
        }
    }
});
