//! What tools keep in an S3 store, through any machine.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::three_nodes::ThreeNodes;
use end_to_end::http_client::{Checksum, Request, Response, Upload, pattern};
use end_to_end::{is_long, process_table};

const BLOBS: &str = "/tools/diagnostics/blobs";

const UPLOADS: &str = "/tools/diagnostics/uploads";

const NODES: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_blob_that_one_machine_has_stored_is_on_all() {
    let redirected = ["s3_redirect = true"];
    let Some(site) = ThreeNodes::start_with(
        "machines::blobs::a_blob_that_one_machine_has_stored_is_on_all",
        "haproxy",
        &redirected,
    )
    .expect("it starts") else {
        return;
    };
    // More than one part of an upload to S3.
    let content = Upload::Counted(9 << 20);
    let path = format!("{BLOBS}/one");
    let put = Request { method: "PUT".to_owned(), ..Request::post(&*path, content.clone()) };
    send(&site, "a", put.header("Content-Type", "text/x-one"));
    for node in NODES {
        let response = read_through(&site, node, &path);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("text/x-one"));
        assert_eq!(response.sha256, content.sha256(), "{node}");
        assert_eq!(fetch_from_the_store(&site, node, &path).sha256, content.sha256(), "{node}");
    }
    without_the_store_the_rest_works(&site, &path);
    send(&site, "b", Request::with_method("DELETE", &*path));
    for node in NODES {
        assert_eq!(read_through(&site, node, &path).status, 404, "{node}");
    }
    site.check_threads();
}

fn without_the_store_the_rest_works(site: &ThreeNodes, path: &str) {
    site.end("s3", libc::SIGKILL);
    for node in NODES {
        assert_eq!(read_through(site, node, path).status, 503, "{node}");
        send(site, node, Request::get("/"));
        send(site, node, Request::get("/readyz"));
    }
    site.start_again("s3");
    let deadline = Instant::now() + Duration::from_secs(30);
    for node in NODES {
        while read_through(site, node, path).status != 200 {
            assert!(Instant::now() < deadline, "{node} does not find the store again");
        }
    }
}

/// The size of each part but the last, as `blobs::PART_BYTES`.
const PART_BYTES: u64 = 8 << 20;

/// How much memory a node may need more than before: for a part that it sends to S3, and pieces on their way.
const MEMORY_KIB: u64 = 32 << 10;

#[test]
fn an_upload_in_parts_goes_through_three_machines_and_survives_one() {
    let redirected = ["s3_redirect = true"];
    let Some(site) = ThreeNodes::start_with(
        "machines::blobs::an_upload_in_parts_goes_through_three_machines_and_survives_one",
        "haproxy",
        &redirected,
    )
    .expect("it starts") else {
        return;
    };
    let length: u64 = if is_long() { 1 << 30 } else { 24 << 20 } + 12_345;
    let count = length.div_ceil(PART_BYTES);
    let part = |number: u64| part(number, PART_BYTES.min(length - (number - 1) * PART_BYTES));
    let id = send(&site, "a", Request::post(format!("{UPLOADS}/film"), Upload::Nothing)).text();
    let upload = format!("{UPLOADS}/film/{id}");
    let put_part = |node: &str, number| {
        let target = format!("{upload}/parts/{number}");
        let put = Request::post(target, Upload::Text(part(number)));
        send(&site, node, Request { method: "PUT".to_owned(), ..put });
    };
    // Each node takes every third part, all at the same time.
    let put_parts = |nodes: &[&str], numbers: std::ops::RangeInclusive<u64>| {
        thread::scope(|scope| {
            for (at, node) in nodes.iter().enumerate() {
                let numbers = numbers.clone().skip(at).step_by(nodes.len());
                scope.spawn(move || numbers.for_each(|number| put_part(node, number)));
            }
        });
    };
    // Each has sent something to S3 once.
    put_parts(&NODES, 1..=3);
    let before = NODES.map(|node| memory(&site, node));
    put_parts(&NODES, 1..=count / 2);
    site.end("b", libc::SIGKILL);
    put_parts(&["a", "c"], count / 2 + 1..=count);
    let finish = Request::post(format!("{upload}/{length}"), Upload::Nothing);
    send(&site, "c", finish.clone());
    // A client that has not heard of it asks another node.
    send(&site, "a", finish);
    site.start_again("b");
    site.wait_until_ready("b");

    let mut checksum = Checksum::default();
    (1..=count).for_each(|number| checksum.update(&part(number)));
    let checksum = checksum.hex();
    let path = format!("{BLOBS}/film");
    for node in NODES {
        let response = read_through(&site, node, &path);
        assert_eq!((response.body_bytes, &response.sha256), (length, &checksum), "{node}");
        let response = fetch_from_the_store(&site, node, &path);
        assert_eq!((response.body_bytes, &response.sha256), (length, &checksum), "{node}");
    }
    let after = NODES.map(|node| memory(&site, node));
    println!("memory at most, in KiB: {before:?}; after {length} bytes {after:?}");
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + MEMORY_KIB, "{before} KiB, then {after} KiB");
    }
    site.check_threads();
}

/// The content of a part, different for each.
fn part(number: u64, length: u64) -> Vec<u8> {
    let start = usize::try_from(number * 7919).expect("a small number") % pattern().len();
    let bytes = pattern().iter().cycle().skip(start).copied();
    bytes.take(usize::try_from(length).expect("it fits into memory")).collect()
}

/// The largest resident size of a node so far, in KiB.
fn memory(site: &ThreeNodes, node: &str) -> u64 {
    process_table::kib(site.pid(node), "VmHWM").expect("it runs")
}

fn send(site: &ThreeNodes, node: &str, request: Request) -> Response {
    let response = site.send_to(node, request).expect("a response");
    assert_eq!(response.status, 200, "{node}: {}", response.text());
    response
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
