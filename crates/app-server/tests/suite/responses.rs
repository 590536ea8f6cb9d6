//! What happens to an application's response on its way out: over FastCGI, CGI and HTTP alike.

use std::task::Poll;

use app_server::Settings;
use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;

use crate::cgi;
use crate::client::{Server, id, raw_request, test};

/// Responds as the path says: `/STATUS/BODY`.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/{status}/{body}", any(response))
        .route("/headers", any(headers))
        .route("/line/{length}", any(line))
        .route("/length/{stated}/{sent}/{how}", any(length))
        .route("/lengths", any(|| async { [("content-length", "1"), ("x-other", "2")] }))
}

async fn response(
    axum::extract::Path((status, body)): axum::extract::Path<(u16, String)>,
) -> Response<AxumBody> {
    let body = match body.as_str() {
        "none" => AxumBody::empty(),
        "whole" => AxumBody::from("body"),
        _ => pieces(vec!["bo", "dy"]),
    };
    Response::builder().status(status).body(body).unwrap()
}

/// A body whose length is not known in advance.
fn pieces(pieces: Vec<&'static str>) -> AxumBody {
    let mut pieces = pieces.into_iter();
    AxumBody::new(StreamBody::new(futures_util::stream::poll_fn(move |_| {
        let frame = |piece: &'static str| Ok::<_, axum::Error>(Frame::data(Bytes::from(piece)));
        Poll::Ready(pieces.next().map(frame))
    })))
}

async fn headers() -> Response<AxumBody> {
    Response::builder()
        .header("set-cookie", "a=1; Path=/")
        .header("set-cookie", "b=2")
        .header("location", "/else where?%2F")
        .header("connection", "x-hop, keep-alive")
        .header("keep-alive", "timeout=9")
        .header("x-hop", "for the neighbor")
        .header("te", "trailers")
        .header("trailer", "x")
        .header("upgrade", "h2c")
        .header("status", "418")
        .body(AxumBody::from("body"))
        .unwrap()
}

/// A header whose line, including its line ending, has this many bytes.
async fn line(axum::extract::Path(length): axum::extract::Path<usize>) -> Response<AxumBody> {
    let value = "v".repeat(length - "x-long: \r\n".len());
    Response::builder().header("x-long", value).body(AxumBody::from("body")).unwrap()
}

async fn length(
    axum::extract::Path((stated, sent, how)): axum::extract::Path<(String, usize, String)>,
    _: Request,
) -> Response<AxumBody> {
    let body = match how.as_str() {
        "whole" => AxumBody::from("b".repeat(sent)),
        _ => pieces(vec!["b"; sent]),
    };
    Response::builder().header("content-length", stated).body(body).unwrap()
}

/// A response in a form that all transports share.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    /// `None`: not announced.
    length: Option<u64>,
    body: String,
    /// The end was signaled: by END_REQUEST, the exit code, the last chunk or the announced length.
    whole: bool,
    head: String,
}

impl Seen {
    /// Parses what CGI and FastCGI write.
    fn cgi(text: &[u8], whole: bool) -> Seen {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.strip_prefix("Status: ").unwrap()[..3].parse().unwrap();
        Seen {
            status,
            length: length_in(head),
            body: body.to_owned(),
            whole,
            head: head.to_owned(),
        }
    }

    fn http(text: &str) -> Seen {
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            return Seen {
                status: 0,
                length: None,
                body: text.to_owned(),
                whole: false,
                head: String::new(),
            };
        };
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let length = length_in(head);
        let (body, whole) = if head.contains("transfer-encoding: chunked") {
            dechunked(rest)
        } else {
            (rest.to_owned(), true)
        };
        Seen { status, length, body, whole, head: head.to_owned() }
    }
}

fn length_in(head: &str) -> Option<u64> {
    let mut lines = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
    let length = lines.next().map(|length| length.parse().unwrap());
    assert_eq!(lines.next(), None, "{head}");
    length
}

fn dechunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, after == "\r\n");
        }
        body += &after[..size];
        rest = &after[size + 2..];
    }
    (body, false)
}

/// Sends a request over each transport; returns the name of the transport with each response.
async fn ask(method: &str, uri: &str) -> [(&'static str, Seen); 3] {
    let fastcgi = {
        let server = Server::fastcgi(router(), Settings::default());
        let mut client = server.connect().await;
        client.begin(1, false, method, uri);
        client.protocol.stdin_end(id(1));
        client.send().await.unwrap();
        let response = client.response(1).await;
        Seen::cgi(&response.text, response.ended)
    };
    let cgi = {
        let ran = cgi::run("responses", &[("REQUEST_METHOD", method), ("REQUEST_URI", uri)], b"");
        Seen::cgi(&ran.output, ran.success)
    };
    let http = {
        let server = Server::http(router(), Settings::default());
        let mut stream = server.connect_raw().await;
        let request = format!("{method} {uri} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        Seen::http(&raw_request(&mut stream, request.as_bytes()).await)
    };
    [("FastCGI", fastcgi), ("CGI", cgi), ("HTTP", http)]
}

#[test]
fn method_by_status_by_body() {
    test(async {
        // method, status, body, announced length, received body
        let cases: &[(&str, u16, &str, Option<u64>, &str)] = &[
            ("GET", 200, "none", Some(0), ""),
            ("GET", 200, "whole", Some(4), "body"),
            ("GET", 200, "pieces", None, "body"),
            ("HEAD", 200, "none", Some(0), ""),
            ("HEAD", 200, "whole", Some(4), ""),
            ("HEAD", 200, "pieces", None, ""),
            ("POST", 200, "whole", Some(4), "body"),
            ("POST", 201, "pieces", None, "body"),
            ("GET", 204, "none", None, ""),
            ("GET", 204, "whole", None, ""),
            ("DELETE", 204, "pieces", None, ""),
            ("HEAD", 204, "whole", None, ""),
            ("GET", 304, "none", None, ""),
            ("GET", 304, "whole", Some(4), ""),
            ("GET", 304, "pieces", None, ""),
            ("HEAD", 304, "whole", Some(4), ""),
            ("GET", 404, "whole", Some(4), "body"),
            ("HEAD", 404, "whole", Some(4), ""),
            ("GET", 500, "none", Some(0), ""),
            ("GET", 599, "whole", Some(4), "body"),
        ];
        for &(method, status, body, length, seen) in cases {
            for (transport, response) in ask(method, &format!("/{status}/{body}")).await {
                let name = format!("{method} {status} {body} over {transport}: {response:?}");
                assert_eq!(response.status, status, "{name}");
                assert_eq!(response.body, seen, "{name}");
                assert!(response.whole, "{name}");
                assert_eq!(response.length, length, "{name}");
            }
        }
    });
}

#[test]
fn interim_statuses_do_not_end_a_request() {
    test(async {
        for status in [100, 101, 103] {
            for (transport, response) in ask("GET", &format!("/{status}/none")).await {
                assert_eq!(response.status, 500, "{status} over {transport}: {response:?}");
                assert!(
                    response.body.contains("Reference: "),
                    "{status} over {transport}: {response:?}"
                );
            }
        }
    });
}

#[test]
fn headers_are_sent_unchanged_except_hop_by_hop() {
    test(async {
        for (transport, response) in ask("GET", "/headers").await {
            for line in ["set-cookie: a=1; Path=/", "set-cookie: b=2", "location: /else where?%2F"]
            {
                assert!(
                    response.head.lines().any(|it| it == line),
                    "{transport}: {}",
                    response.head
                );
            }
            for name in ["x-hop", "keep-alive", "te", "trailer", "upgrade"] {
                let start = format!("{name}:");
                let sent = response.head.lines().any(|line| line.starts_with(&start));
                assert!(!sent, "{name} over {transport}: {}", response.head);
            }
            assert_eq!(response.status, 200, "{transport}");
        }
    });
}

#[test]
fn header_lines_that_web_servers_would_cut_are_rejected() {
    test(async {
        for (length, cgi_status) in [(8191, 200), (8192, 500), (20_000, 500)] {
            for (transport, response) in ask("GET", &format!("/line/{length}")).await {
                let expected = if transport == "HTTP" { 200 } else { cgi_status };
                assert_eq!(response.status, expected, "{length} over {transport}");
                let page = response.body.contains("Reference: ");
                assert_eq!(page, expected == 500, "{length} over {transport}");
            }
        }
    });
}

#[test]
fn a_stated_length_is_enforced() {
    test(async {
        // stated, sent, how; status, announced length, bytes of body, complete
        let cases: &[(&str, usize, &str, u16, u64, usize, bool)] = &[
            ("4", 4, "whole", 200, 4, 4, true),
            ("4", 4, "pieces", 200, 4, 4, true),
            ("4", 6, "whole", 200, 4, 4, true),
            ("4", 6, "pieces", 200, 4, 4, true),
            ("0", 6, "whole", 200, 0, 0, true),
            // The body is truncated.
            ("4", 2, "pieces", 200, 4, 2, false),
        ];
        for &(stated, sent, how, status, told, body, whole) in cases {
            for (transport, response) in ask("GET", &format!("/length/{stated}/{sent}/{how}")).await
            {
                let name = format!("{stated} {sent} {how} over {transport}: {response:?}");
                if transport == "HTTP" && !whole && response.status == 0 {
                    // hyper had not sent the head yet: the connection closes without a response.
                    continue;
                }
                assert_eq!(response.status, status, "{name}");
                assert_eq!(response.length, Some(told), "{name}");
                assert_eq!(response.body.len(), body, "{name}");
                // Over HTTP, the closed connection signals it.
                assert!(transport == "HTTP" || response.whole == whole, "{name}");
            }
        }
        // If it is known before the first byte, the client can still get an error page.
        for (stated, sent, how) in
            [("4", 2, "whole"), ("4", 0, "pieces"), ("x", 1, "whole"), ("-1", 1, "whole")]
        {
            for (transport, response) in ask("GET", &format!("/length/{stated}/{sent}/{how}")).await
            {
                let name = format!("{stated} {sent} {how} over {transport}: {response:?}");
                if transport == "HTTP" && how == "pieces" {
                    continue;
                }
                assert_eq!(response.status, 500, "{name}");
                assert!(response.body.contains("Reference: "), "{name}");
            }
        }
        // HEAD and 304 announce a length without a body.
        for (transport, response) in ask("HEAD", "/length/9/0/whole").await {
            assert_eq!(
                (response.status, response.length),
                (StatusCode::OK.as_u16(), Some(9)),
                "{transport}"
            );
        }
    });
}
