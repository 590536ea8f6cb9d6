//! Requests and bodies reach the child in full, and its responses come back in full.

use case_runner::{Case, Ending::Success};

use crate::app::{PIECE, http_server, server, settings};
use crate::children::until_no_children;
use crate::client::{id, raw_request, test};
use crate::transfer::{MIB_64, both_ways, pattern};

pub(crate) const CASES: &[Case] = &[
    ("an_isolated_request_is_like_any_other", an_isolated_request_is_like_any_other, Success),
    ("the_request_reaches_the_child_in_full", the_request_reaches_the_child_in_full, Success),
    ("large_bodies_over_fastcgi", large_bodies_over_fastcgi, Success),
    ("large_bodies_over_http", large_bodies_over_http, Success),
];

fn an_isolated_request_is_like_any_other() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        let here = std::process::id().to_string();
        assert_eq!(client.get(true, "/process").await.body(), here.as_bytes());
        let response = client.get(true, "/isolated/process").await;
        assert_eq!(response.status(), 200);
        let there = std::str::from_utf8(response.body()).unwrap();
        assert!(there.parse::<u32>().is_ok() && there != here, "{there}");
        let response = client.get(true, "/isolated/failing").await;
        assert_eq!((response.status(), response.body()), (502, &b"the other side is gone"[..]));
        // The head says the same as inline.
        for path in ["/process", "/empty", "/nowhere", "/echo", "/failing"] {
            let head = |response: crate::client::Response| {
                let text = response.text().split("\r\n\r\n").next().unwrap().to_owned();
                (response.ended, text)
            };
            let inline = head(client.get(true, path).await);
            let isolated = head(client.get(true, &format!("/isolated{path}")).await);
            assert_eq!(inline.0, isolated.0);
            assert_eq!(inline.1.len(), isolated.1.len(), "{} {}", inline.1, isolated.1);
        }
        // HEAD has no body, and its child exits.
        client.begin(1, true, "HEAD", "/isolated/process");
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        assert_eq!(client.response(1).await.body(), b"");
        until_no_children().await;
    });
}

fn the_request_reaches_the_child_in_full() {
    test(async {
        let server = http_server(settings());
        let request = |path: &str| {
            format!(
                "POST {path}?a=b%2Fc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Sample: one\r\n\
                 Content-Length: 3\r\n\r\nabc"
            )
        };
        let mut responses = Vec::new();
        for path in ["/request", "/isolated/request"] {
            let mut stream = server.connect_raw().await;
            let response = raw_request(&mut stream, request(path).as_bytes()).await;
            let body = response.split("\r\n\r\n").nth(1).unwrap().to_owned();
            responses.push(body.replace("/isolated", ""));
        }
        assert!(responses[0].contains("POST /request?a=b%2Fc Some(\"one\")"), "{}", responses[0]);
        assert!(responses[0].ends_with("Some(3)"), "{}", responses[0]);
        assert_eq!(responses[0], responses[1]);
    });
}

fn large_bodies_over_fastcgi() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        client.begin(1, true, "POST", "/isolated/count");
        for piece in 0..64u8 {
            client.stdin(1, vec![piece; PIECE]);
            client.send().await.unwrap();
        }
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        let sum: usize = (0..64).map(|piece| piece * PIECE).sum();
        let response = client.response(1).await;
        assert_eq!(
            std::str::from_utf8(response.body()).unwrap(),
            format!("{MIB_64} bytes, sum {sum}")
        );
        let response = client.get(true, "/isolated/stream").await;
        assert!(response.ended);
        assert_eq!(response.body().len(), MIB_64);
        assert!(
            response
                .body()
                .chunks(PIECE)
                .enumerate()
                .all(|(at, piece)| { piece.iter().all(|byte| usize::from(*byte) == at + 1) })
        );
        // The test held the response in this process, the server only little of it.
        until_no_children().await;
    });
}

fn large_bodies_over_http() {
    test(async {
        let server = http_server(settings());
        let head = format!(
            "POST /isolated/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {MIB_64}\r\n\r\n"
        );
        let mut stream = server.connect_raw().await;
        let response = both_ways(&mut stream, head.as_bytes(), MIB_64).await;
        let at = response.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(
            response.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&response[..at])
        );
        // The length of the echo is known, and the child has announced it.
        let head = String::from_utf8_lossy(&response[..at]).to_lowercase();
        assert!(head.contains(&format!("content-length: {MIB_64}\r\n")), "{head}");
        let body = &response[at..];
        assert_eq!(body.len(), MIB_64);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        until_no_children().await;
    });
}
