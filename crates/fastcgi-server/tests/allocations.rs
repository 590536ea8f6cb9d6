//! How many allocations a connection makes: one block for an ordinary request, none for an idle
//! connection.

use std::io::IoSlice;

use allocation_counter::measure;
use bytes::Bytes;
use fastcgi_server::{CloseWhen, Connection, Event, Limits, RequestId, Role, client};

/// What a web server sends for an ordinary GET, as one read delivers it.
fn request(keep_connection: bool) -> Bytes {
    let id = RequestId::ONE;
    let mut web_server = client::Connection::new();
    web_server.begin(id, Role::Responder, keep_connection);
    let names: Vec<String> = (0..30).map(|number| format!("HTTP_HEADER_{number}")).collect();
    web_server.params(id, names.iter().map(|name| (name.as_bytes(), &b"an ordinary value"[..])));
    web_server.params_end(id);
    web_server.stdin_end(id);
    web_server.take_unsent()
}

/// Serves one request on a connection and drains its output.
fn serve(connection: &mut Connection, input: Bytes) {
    connection.handle_input(input);
    while let Some(event) = connection.poll_event() {
        if let Event::Request(request) = event {
            assert_eq!(request.params.get(b"HTTP_HEADER_7"), Some(&b"an ordinary value"[..]));
            connection.stdout_in_place(request.id, |out| {
                out.extend_from_slice(b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n");
                out.extend_from_slice(&[b'x'; 1500]);
            });
            connection.end_request(request.id, 0);
        }
    }
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(connection.transmit(&mut slices), 1);
    connection.transmitted(connection.unsent());
}

#[test]
fn a_request_takes_one_allocation_on_a_keep_alive_connection() {
    let input = request(true);
    let mut connection = Connection::new(Limits::default());
    serve(&mut connection, input.clone());
    let counted = measure(|| {
        for _ in 0..100 {
            serve(&mut connection, input.clone());
        }
    });
    assert_eq!(counted.count_total, 100, "only the block of parameters");
    assert_eq!(counted.bytes_current, 0);
    assert_eq!(connection.close_when(), CloseWhen::KeepOpen);
}

#[test]
fn a_request_takes_one_allocation_on_a_connection_of_its_own() {
    let input = request(false);
    serve(&mut Connection::new(Limits::default()), input.clone());
    let counted = measure(|| {
        for _ in 0..100 {
            let mut connection = Connection::new(Limits::default());
            serve(&mut connection, input.clone());
            assert_eq!(connection.close_when(), CloseWhen::Now);
        }
    });
    assert_eq!(counted.count_total, 100, "only the block of parameters");
    assert_eq!(counted.bytes_current, 0);
}

#[test]
fn idle_connections_hold_nothing() {
    let input = request(true);
    serve(&mut Connection::new(Limits::default()), input.clone());
    let mut connections: Vec<_> = (0..100).map(|_| Connection::new(Limits::default())).collect();
    let counted = measure(|| {
        for connection in &mut connections {
            // A connection that served many requests and large responses, and is idle now.
            serve(connection, input.clone());
            let mut web_server = client::Connection::new();
            for number in 1..=50 {
                let id = RequestId::new(number).unwrap();
                web_server.begin(id, Role::Responder, true);
                web_server.params(id, [(&b"A"[..], &[b'b'; 3000][..])]);
                web_server.params_end(id);
                web_server.stdin(id, Bytes::from(vec![b'x'; 10_000]));
                web_server.stdin_end(id);
            }
            connection.handle_input(web_server.take_unsent());
            while connection.poll_event().is_some() {}
            for number in 1..=50 {
                let id = RequestId::new(number).unwrap();
                connection.stdout(id, Bytes::from(vec![b'x'; 100_000]));
                connection.end_request(id, 0);
            }
            while connection.unsent() > 0 {
                connection.transmitted(connection.unsent().min(30_000));
            }
        }
    });
    let held = counted.bytes_current / connections.len() as i64;
    let own = size_of::<Connection>() as i64;
    assert!(held + own < 1024, "an idle connection holds {held} bytes besides its own {own}");
}
