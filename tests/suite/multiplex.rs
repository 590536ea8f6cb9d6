//! Many concurrent requests on one connection, over a real socket.

use bytes::Bytes;
use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Setup, external};
use end_to_end::http_client::{Upload, pattern};
use fastcgi_server::ProtocolStatus;
use std::time::{Duration, Instant};

const COMPLETE: Option<(u32, ProtocolStatus)> = Some((0, ProtocolStatus::RequestComplete));

#[test]
fn a_slow_request_does_not_delay_interleaved_ones() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    let slow = id(7);
    let started = Instant::now();
    for number in 1..=64 {
        let id = id(number);
        if id == slow {
            connection.begin(id, true, "GET", "/slow?seconds=2", None);
            connection.stdin_end(id);
        } else {
            let target = format!("/echo/{number}");
            connection.begin(id, true, "POST", &target, Some(4 * pattern().len() as u64));
        }
    }
    // The bodies arrive piece by piece, one of each request in turn.
    for _ in 0..4 {
        for number in (1..=64).filter(|number| id(*number) != slow) {
            connection.stdin(id(number), Bytes::from_static(pattern()));
            connection.flush().expect("the program reads on");
        }
    }
    for number in (1..=64).filter(|number| id(*number) != slow) {
        connection.stdin_end(id(number));
    }
    connection.flush().expect("the program reads on");
    let sum = Upload::Counted(4 * pattern().len() as u64).sha256();
    for count in 1..=63 {
        let (ended, response) = connection.finish_any().expect("a response arrives");
        assert_ne!(ended, slow, "the slow one is the last, not number {count}");
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert_eq!(response.status(), 200, "{body}");
        assert!(body.contains(&format!("\"/echo/{}\"", ended.get())), "{body}");
        assert!(body.contains(&sum), "{body}");
        assert_eq!(response.end, COMPLETE);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "the slow one delays no other");
    let (ended, response) = connection.finish_any().expect("a response arrives");
    assert_eq!((ended, response.body()), (slow, &b"slow"[..]));
    assert_eq!(program.check_unharmed(), Ok(()));
}

#[test]
fn request_ids_can_be_reused() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    for round in 0..200 {
        let id = id([1, 2, 65_535][round % 3]);
        let response =
            connection.get(id, true, &format!("/echo/{round}")).expect("a response arrives");
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert!(body.contains(&format!("\"/echo/{round}\"")), "{body}");
        assert_eq!(response.end, COMPLETE);
    }
}

#[test]
fn an_aborted_request_is_cancelled_and_the_others_continue() {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    for number in [1, 2] {
        connection.begin(id(number), true, "GET", "/hang", None);
        connection.stdin_end(id(number));
    }
    connection.flush().expect("the program reads");
    connection.abort(id(1));
    connection.flush().expect("the program reads");
    connection.finish(id(1)).expect("an aborted request is ended");
    let count = connection.get(id(3), true, "/cancelled").expect("a response arrives");
    assert_eq!(count.body(), b"1");
    // Closing the connection cancels its other requests.
    drop(connection);
    let mut connection = program.connect().expect("it listens");
    let deadline = Instant::now() + Duration::from_secs(5);
    while connection.get(id(1), true, "/cancelled").expect("a response arrives").body() != b"2" {
        assert!(Instant::now() < deadline, "the other is not cancelled");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn requests_above_the_limit_are_overloaded() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut connection = program.connect().expect("it listens");
    let values = connection
        .values(&["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])
        .expect("the program answers");
    assert_eq!(values.get(b"FCGI_MPXS_CONNS"), Some(&b"1"[..]));
    for number in 1..=64 {
        connection.begin(id(number), true, "GET", "/slow?milliseconds=500", None);
        connection.stdin_end(id(number));
    }
    connection.begin(id(65), true, "GET", "/slow?milliseconds=500", None);
    connection.stdin_end(id(65));
    connection.flush().expect("the program reads");
    let refused = connection.finish(id(65)).expect("a response arrives");
    assert_eq!(refused.end.map(|(_, status)| status), Some(ProtocolStatus::Overloaded));
    for _ in 1..=64 {
        let (_, response) = connection.finish_any().expect("a response arrives");
        assert_eq!(response.body(), b"slow");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}
