//! The application's end of a connection, with untrusted input and an erratic application.
//!
//! The first byte says how the rest is split and what the application does; the checks are those of
//! `crates/fastcgi-server/tests/protocol/hostile.rs`, plus that the output consists of whole records.

use std::io::IoSlice;

use bytes::Bytes;
use fastcgi_server::{CloseWhen, Connection, Event, Limits, client};

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&behavior, input)) = input.split_first() else { return };
    let limits = Limits {
        params_bytes: 300,
        requests_per_connection: 3,
        reply_bytes: 500,
        ..Limits::default()
    };
    let mut connection = Connection::new(limits);
    let mut web_server = client::Connection::new();
    let mut behavior = usize::from(behavior);
    for piece in input.chunks(behavior % 37 + 1) {
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
                    let all = connection.unsent();
                    return write(&mut connection, all, &mut web_server);
                }
            };
            assert!(connection.is_active(id));
            behavior = behavior.wrapping_mul(31).wrapping_add(7);
            let unsent = connection.unsent();
            match behavior % 6 {
                0 => assert!(connection.end_request(id, 0)),
                1 => assert!(connection.stdout(id, Bytes::from(vec![0; behavior % 70_000]))),
                2 => assert!(connection.stderr(id, b"a message\nof two lines")),
                3 => write(&mut connection, unsent / 2, &mut web_server),
                4 => write(&mut connection, unsent, &mut web_server),
                _ => {}
            }
            assert!(connection.active_requests() <= 3);
        }
    }
}

/// Writes this many bytes to a web server that knows none of the requests, and so only checks record
/// boundaries.
fn write(connection: &mut Connection, bytes: usize, web_server: &mut client::Connection) {
    let mut left = bytes;
    while left > 0 {
        let mut slices = [IoSlice::new(&[])];
        connection.transmit(&mut slices);
        let written = slices[0].len().min(left);
        web_server.handle_input(Bytes::copy_from_slice(&slices[0][..written]));
        connection.transmitted(written);
        left -= written;
        while let Some(event) = web_server.poll_event() {
            assert!(!matches!(event, client::Event::Failed(_)), "{event:?}");
        }
    }
}
