//! What tools keep in an S3 store, through any machine.

use std::net::SocketAddr;

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::http_client::{Request, Response, Upload};

const BLOBS: &str = "/tools/diagnostics/blobs";

#[test]
fn a_blob_that_one_machine_has_stored_is_on_all() {
    let redirected = ["s3_redirect = true"];
    let Some(site) = ThreeNodes::start_with("haproxy", &redirected).expect("it starts") else {
        return;
    };
    // More than one part of an upload to S3.
    let content = Upload::Counted(9 << 20);
    let path = format!("{BLOBS}/one");
    let put = Request { method: "PUT".to_owned(), ..Request::post(&*path, content.clone()) };
    let put = put.header("Content-Type", "text/x-one");
    let response = site.send_to("a", put).expect("a response");
    assert_eq!(response.status, 200, "{}", response.text());
    for node in ["a", "b", "c"] {
        let response = read_through(&site, node, &path);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("text/x-one"));
        assert_eq!(response.sha256, content.sha256(), "{node}");
        assert_eq!(fetch_from_the_store(&site, node, &path).sha256, content.sha256(), "{node}");
    }
    let removed = site.send_to("b", Request::with_method("DELETE", &*path)).expect("a response");
    assert_eq!(removed.status, 200, "{}", removed.text());
    for node in ["a", "b", "c"] {
        assert_eq!(read_through(&site, node, &path).status, 404, "{node}");
    }
    site.check_threads();
}

/// Reads a blob as a page's script does, which is not sent elsewhere.
fn read_through(site: &ThreeNodes, node: &str, path: &str) -> Response {
    let request = Request::get(path).header("Sec-Fetch-Mode", "cors");
    site.send_to(node, request).expect("a response")
}

/// Follows a link to a blob: its content does not pass through the node.
fn fetch_from_the_store(site: &ThreeNodes, node: &str, path: &str) -> Response {
    let link = site.send_to(node, Request::get(path)).expect("a response");
    assert_eq!((link.status, link.body_bytes), (302, 0), "{}", link.text());
    let address = link.header("location").expect("an address").strip_prefix("http://");
    let (server, target) = address.and_then(|it| it.split_once('/')).expect("a path");
    let store: SocketAddr = "192.0.2.4:3900".parse().expect("an address");
    assert_eq!(server.parse(), Ok(store));
    let request = Request::get(format!("/{target}")).header("Host", server);
    let response = site.send_inside(store, request).expect("a response");
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.header("content-disposition").is_some_and(|it| it.starts_with("attachment")));
    response
}
