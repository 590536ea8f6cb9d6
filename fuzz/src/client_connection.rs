//! The web server's end of a connection, with untrusted input in place of an application.
//!
//! Three requests are started. The first byte says how the rest is split and what the web server does
//! meanwhile.

use std::io::IoSlice;

use bytes::Bytes;
use fastcgi_server::client::{Connection, Event};
use fastcgi_server::{Limits, Problem, RequestId, Role};

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&behavior, input)) = input.split_first() else { return };
    let mut connection = Connection::new();
    for id in [1, 2, 3].into_iter().filter_map(RequestId::new) {
        assert!(connection.begin(id, Role::Responder, true));
    }
    let mut application = fastcgi_server::Connection::new(Limits::default());
    let mut behavior = usize::from(behavior);
    for piece in input.chunks(behavior % 37 + 1) {
        connection.handle_input(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.poll_event() {
            let mut about = RequestId::ONE;
            match event {
                Event::Stdout { id, data } | Event::Stderr { id, data } => {
                    assert!(!data.is_empty());
                    assert!(connection.is_active(id));
                    about = id;
                }
                Event::End { id, .. } => {
                    assert!(!connection.is_active(id));
                    about = id;
                }
                Event::Values(values) => {
                    for (name, _) in &values {
                        assert!(values.get(name).is_some());
                    }
                }
                Event::UnknownType(_) => {}
                Event::Failed(error) => {
                    assert!(!error.to_string().is_empty());
                    assert_eq!(connection.active_requests(), 0);
                    assert_eq!(connection.poll_event(), None);
                    return;
                }
            }
            behavior = behavior.wrapping_mul(31).wrapping_add(7);
            let large = vec![b'x'; behavior % 70_000];
            let unsent = connection.unsent();
            // What the table of moves does not allow does nothing.
            match behavior % 8 {
                0 => drop(connection.params(about, [(&b"NAME"[..], &large[..])])),
                1 => drop(connection.params_end(about)),
                2 => drop(connection.stdin(about, Bytes::from(large))),
                3 => drop(connection.stdin_end(about)),
                4 => drop(connection.abort(about)),
                5 => drop(connection.begin(about, Role::Responder, behavior % 3 == 0)),
                6 => write(&mut connection, unsent / 2, &mut application),
                _ => write(&mut connection, unsent, &mut application),
            }
            assert!(connection.active_requests() <= 3);
        }
    }
}

/// Writes this many bytes to an application. It may reject what is asked of it (the ends of requests come from
/// the input, not from the program), but never where records start.
fn write(connection: &mut Connection, bytes: usize, application: &mut fastcgi_server::Connection) {
    let mut left = bytes;
    while left > 0 {
        let mut slices = [IoSlice::new(&[])];
        connection.transmit(&mut slices);
        let written = slices[0].len().min(left);
        application.handle_input(Bytes::copy_from_slice(&slices[0][..written]));
        connection.transmitted(written);
        left -= written;
        while let Some(event) = application.poll_event() {
            if let fastcgi_server::Event::Failed(error) = event {
                assert!(!matches!(error.problem, Problem::Version { .. }), "{error}");
            }
        }
    }
}
