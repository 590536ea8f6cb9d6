//! Requests that wait for a process, and processes that wait for a client.

use std::future::poll_fn;
use std::io::IoSlice;
use std::time::Duration;

use bytes::BytesMut;
use case_runner::{Case, Ending::Success};
use event_loop::time;

use crate::app::{Pages, application, http_server, notes, server, settings};
use crate::children::{is_alive, process_of, until_gone, until_no_children};
use crate::client::{Server, id, test};

pub(crate) const CASES: &[Case] = &[
    ("a_client_that_disconnects_ends_its_child", a_client_that_disconnects_ends_its_child, Success),
    ("requests_wait_in_order", requests_wait_in_order, Success),
    ("waiting_times_out", waiting_times_out, Success),
    ("a_slow_body_gives_up_its_process", a_slow_body_gives_up_its_process, Success),
    (
        "time_spent_waiting_for_the_client_does_not_count",
        time_spent_waiting_for_the_client_does_not_count,
        Success,
    ),
];

fn a_client_that_disconnects_ends_its_child() {
    test(async {
        let mut settings = settings();
        // Nothing else ends them.
        settings.isolated_cpu = Duration::from_secs(1000);
        settings.isolated_time = Duration::from_secs(1000);
        let fastcgi = server(settings.clone());
        let http = http_server(settings);
        for how in ["pending", "loop"] {
            let path = format!("/isolated/forever/{how}");
            let mut client = fastcgi.connect().await;
            client.send_get(1, true, &path).await;
            let child = process_of(&mut client).await;
            assert!(is_alive(child));
            drop(client);
            until_gone(child).await;

            // Aborted, with the connection kept alive.
            let mut client = fastcgi.connect().await;
            client.send_get(1, true, &path).await;
            let child = process_of(&mut client).await;
            client.protocol.abort(id(1));
            client.send().await.unwrap();
            until_gone(child).await;

            let mut stream = http.connect_raw().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            let slices = [IoSlice::new(request.as_bytes())];
            poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
            let mut input = BytesMut::new();
            let child = loop {
                input.reserve(4096);
                poll_fn(|context| stream.poll_read_into(context, &mut input)).await.unwrap();
                let text = std::str::from_utf8(&input).unwrap();
                let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
                if let Some(line) = body.lines().nth(1) {
                    break line.parse().unwrap();
                }
            };
            assert!(is_alive(child));
            drop(stream);
            until_gone(child).await;
        }
        until_no_children().await;
    });
}

fn requests_wait_in_order() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        let server = server(settings);
        let mut client = server.connect().await;
        for number in 1..=8u16 {
            client.begin(number, true, "GET", &format!("/isolated/note/{number}"));
            client.protocol.stdin_end(id(number));
        }
        client.send().await.unwrap();
        // Other requests do not wait for them.
        assert_eq!(server.connect().await.get(false, "/process").await.status(), 200);
        let mut ended = 0;
        while ended < 8 {
            if let fastcgi_server::client::Event::End { .. } = client.event().await.unwrap() {
                ended += 1;
            }
        }
        let text = std::fs::read_to_string(notes()).unwrap();
        let expected: String = (1..=8).map(|number| format!("{number}\n-{number}\n")).collect();
        assert_eq!(text, expected, "one after another, in order");

        // Four permits allow four at once, not five.
        let mut settings = self::settings();
        settings.isolated_wait = Duration::from_millis(100);
        let server = self::server(settings);
        let mut running = Vec::new();
        for _ in 0..4 {
            let mut client = server.connect().await;
            client.send_get(1, true, "/isolated/forever/pending").await;
            running.push((process_of(&mut client).await, client));
        }
        assert!(running.iter().all(|(child, _)| is_alive(*child)));
        assert_eq!(server.connect().await.get(false, "/isolated/process").await.status(), 503);
        running.pop();
        assert_eq!(server.connect().await.get(false, "/isolated/process").await.status(), 200);
    });
}

fn waiting_times_out() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        settings.isolated_wait = Duration::from_millis(100);
        let server = server(settings);
        let mut first = server.connect().await;
        first.send_get(1, true, "/isolated/forever/pending").await;
        let child = process_of(&mut first).await;
        let response = server.connect().await.get(false, "/isolated/process").await;
        assert_eq!(response.status(), 503);
        assert!(response.text().contains("retry-after: 1"), "{}", response.text());
        let words = "it waited 0.1 s (isolated_wait) for one of 1 processes (max_isolated)";
        assert!(response.text().contains(words), "{}", response.text());
        // A waiting request gets the permit of one whose client disconnects.
        let mut second = server.connect().await;
        second.send_get(1, true, "/isolated/process").await;
        drop(first);
        assert_eq!(second.response(1).await.status(), 200);
        until_gone(child).await;
    });
}

/// A request with a slow body gives up the only process to another, and its client gets a response.
fn a_slow_body_gives_up_its_process() {
    test(async {
        let mut settings = settings();
        settings.max_isolated = 1;
        settings.receive_timeout = Duration::from_secs(60);
        let server = server(settings);
        let mut slow = server.connect().await;
        slow.begin(1, true, "POST", "/isolated/count");
        slow.stdin(1, &b"abc"[..]);
        slow.send().await.unwrap();
        let response = server.connect().await.get(false, "/isolated/process").await;
        assert_eq!(response.status(), 200);
        assert_eq!(slow.response(1).await.status(), 503);
        until_no_children().await;
    });
}

/// The child has 1.5 s in total, enough for a busy machine; the client takes longer to send and to read.
fn time_spent_waiting_for_the_client_does_not_count() {
    test(async {
        let mut settings = settings();
        settings.isolated_time = Duration::from_millis(1500);
        let host = Pages { below: "/", wall: Duration::from_millis(1500) };
        let server = app_server::Server::new(application()).settings(settings).host(host);
        let server = Server::fastcgi_of(server);
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/count");
        for _ in 0..4 {
            client.stdin(1, &b"abc"[..]);
            client.send().await.unwrap();
            // As long as a slow client takes.
            time::sleep(Duration::from_millis(500)).await;
        }
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.status(), 200);

        client.send_get(1, true, "/stream").await;
        let first = client.event().await;
        time::sleep(Duration::from_millis(3000)).await;
        let rest = client.response(1).await;
        assert!(first.is_some() && rest.ended);

        assert_eq!(client.get(true, "/culprit/silence").await.status(), 504);
    });
}
