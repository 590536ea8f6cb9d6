//! A child that crashes, panics or exceeds a limit costs one response.

use case_runner::{Case, Ending::Success};

use crate::app::{CULPRITS, PIECE, http_server, server, settings};
use crate::children::until_no_children;
use crate::client::{id, test};
use crate::transfer::{MIB_64, both_ways, http_get};

pub(crate) const CASES: &[Case] = &[
    ("a_culprit_is_one_page_over_fastcgi", a_culprit_is_one_page_over_fastcgi, Success),
    ("a_culprit_is_one_page_over_http", a_culprit_is_one_page_over_http, Success),
    (
        "after_the_head_a_culprit_truncates_its_response",
        after_the_head_a_culprit_truncates_its_response,
        Success,
    ),
    ("a_culprit_while_a_body_arrives", a_culprit_while_a_body_arrives, Success),
];

fn a_culprit_is_one_page_over_fastcgi() {
    let here = std::process::id();
    test(async {
        let server = server(settings());
        for (how, status, words) in CULPRITS {
            let mut client = server.connect().await;
            // On the same connection, and on another.
            client.begin(2, true, "GET", "/sleep");
            client.protocol.stdin_end(id(2));
            client.begin(1, true, "GET", &format!("/isolated/culprit/{how}"));
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let mut other = server.connect().await;
            other.send_get(1, true, "/isolated/sleep").await;
            let (mut responses, mut ended) = ([Vec::new(), Vec::new()], 0);
            while ended < 2 {
                match client.event().await.unwrap() {
                    fastcgi_server::client::Event::Stdout { id, data } => {
                        responses[usize::from(id.get()) - 1].extend_from_slice(&data);
                    }
                    fastcgi_server::client::Event::End { .. } => ended += 1,
                    other => panic!("not expected: {other:?}"),
                }
            }
            let [culprit, slow] = responses.map(|response| String::from_utf8(response).unwrap());
            assert!(culprit.starts_with(&format!("Status: {status} ")), "{how}: {culprit}");
            assert!(culprit.contains(words), "{how}: {culprit}");
            assert!(slow.starts_with("Status: 200 "), "{how}: {slow}");
            assert_eq!(other.response(1).await.status(), 200, "{how}");
            assert_eq!(client.get(true, "/process").await.body(), here.to_string().as_bytes());
            assert_eq!(client.get(true, "/isolated/culprit/quickly").await.status(), 200);
        }
        until_no_children().await;
    });
}

fn a_culprit_is_one_page_over_http() {
    test(async {
        let server = http_server(settings());
        for (how, status, words) in CULPRITS {
            let response = http_get(&server, &format!("/isolated/culprit/{how}")).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{how}: {response}");
            assert!(response.contains(words), "{how}: {response}");
            assert!(http_get(&server, "/process").await.ends_with(&std::process::id().to_string()));
        }
        until_no_children().await;
    });
}

fn after_the_head_a_culprit_truncates_its_response() {
    test(async {
        let fastcgi = server(settings());
        let http = http_server(settings());
        for (how, ..) in CULPRITS {
            let mut client = fastcgi.connect().await;
            let response = client.get(true, &format!("/isolated/started/{how}")).await;
            assert!(!response.ended, "{how}");
            assert_eq!(response.body(), vec![1; PIECE], "{how}");
            assert_eq!(fastcgi.connect().await.get(false, "/process").await.status(), 200);

            let response = http_get(&http, &format!("/isolated/started/{how}")).await;
            assert!(response.starts_with("HTTP/1.1 200 "), "{how}");
            assert!(!response.ends_with("0\r\n\r\n"), "{how}: the response looks complete");
            assert!(http_get(&http, "/process").await.starts_with("HTTP/1.1 200 "));
        }
        // One that does nothing is complete.
        let mut client = fastcgi.connect().await;
        let response = client.get(true, "/isolated/started/quickly").await;
        assert!(response.ended);
        assert_eq!(response.body().len(), 2 * PIECE);
        assert!(http_get(&http, "/isolated/started/quickly").await.ends_with("0\r\n\r\n"));
        until_no_children().await;
    });
}

fn a_culprit_while_a_body_arrives() {
    test(async {
        let server = server(settings());
        for how in ["abort", "reading", "memory", "stack"] {
            let mut client = server.connect().await;
            client.begin(1, true, "POST", &format!("/isolated/culprit/{how}"));
            // All of it can be sent, whatever happens to its reader.
            for _ in 0..64 {
                client.stdin(1, vec![0; PIECE]);
                client.send().await.unwrap();
            }
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            assert_eq!(client.response(1).await.status(), 500, "{how}");
            assert_eq!(server.connect().await.get(false, "/process").await.status(), 200);
        }
        let http = http_server(settings());
        let head = format!(
            "POST /isolated/culprit/reading HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {MIB_64}\r\n\r\n"
        );
        let mut stream = http.connect_raw().await;
        let response = both_ways(&mut stream, head.as_bytes(), MIB_64).await;
        assert!(response.starts_with(b"HTTP/1.1 500 "));
        // A truncated body is reported as it is inline.
        for path in ["/count", "/isolated/count"] {
            let mut client = server.connect().await;
            let pairs: [(&[u8], &[u8]); 3] = [
                (b"REQUEST_METHOD", b"POST"),
                (b"REQUEST_URI", path.as_bytes()),
                (b"CONTENT_LENGTH", b"10"),
            ];
            assert!(client.protocol.begin(id(1), fastcgi_server::Role::Responder, true));
            client.protocol.params(id(1), pairs);
            client.protocol.params_end(id(1));
            client.stdin(1, &b"abc"[..]);
            client.protocol.stdin_end(id(1));
            client.send().await.unwrap();
            let response = client.response(1).await;
            let words = "3 bytes, then: request body ended after 3 of 10 announced bytes";
            assert_eq!(std::str::from_utf8(response.body()).unwrap(), words);
        }
        until_no_children().await;
    });
}
