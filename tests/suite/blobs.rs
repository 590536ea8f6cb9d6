//! Blobs through the real program: put, sent whole and in part, and deleted, in the folder and in S3, over HTTP and behind a
//! web server.

use std::net::SocketAddr;

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, nginx, serve};
use end_to_end::http_client::{Request, Response, Upload};
use s3_fixture::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};

const BASE: &str = "/project";

const BLOB: &str = "/tools/diagnostics/blobs/reports/Report.css";

/// Larger than a piece, and smaller than what mod_fcgid refuses.
const LENGTH: u64 = 130_000;

fn setup() -> Setup {
    let setup = Setup::new(App::Toolshed, BASE).without_threads();
    setup.with_variable("TOOLSHED_PUBLIC", "diagnostics")
}

fn setup_with_s3(server: &Server) -> Setup {
    setup()
        .with_variable("TOOLSHED_S3_ENDPOINT", server.endpoint().leak())
        .with_variable("TOOLSHED_S3_REGION", REGION)
        .with_variable("TOOLSHED_S3_BUCKET", BUCKET)
        .with_variable("TOOLSHED_S3_ACCESS_KEY", ACCESS_KEY)
        .with_variable("TOOLSHED_S3_SECRET_KEY", SECRET_KEY)
}

/// Starts the program over HTTP, and behind web servers.
fn each_way(setup: &Setup, check: impl Fn(&Running)) {
    let at_the_root = Setup { base: "", ..setup.clone() };
    for running in
        [serve::start(&at_the_root), apache_fcgid::start(setup), nginx::start(setup, true)]
    {
        let running = running.expect("it starts");
        println!("{:?}", running.kind);
        check(&running);
        running.check_tasks().expect("no thread");
        running.stop().expect("it stops");
    }
}

fn send(running: &Running, request: Request) -> Response {
    request.below(running.base).send(running.address).expect("a response")
}

fn put(running: &Running, content: Upload) {
    let put = Request { body: content, ..Request::with_method("PUT", BLOB) };
    let response = send(running, put.header("Content-Type", "text/css; charset=utf-8"));
    assert_eq!(response.status, 200, "{} {}", response.text(), running.program_logs());
}

/// Checks what the site sends itself.
fn check_parts(running: &Running, content: &[u8]) {
    let get = |name: &str, value: &str| send(running, Request::get(BLOB).header(name, value));
    let last = content.len() - 1;
    let part = get("Range", "bytes=100000-100999");
    assert_eq!(part.status, 206, "{}", part.text());
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 100000-100999/{LENGTH}")));
    assert!(part.body == content[100_000..101_000]);
    let rest = get("Range", "bytes=-1000");
    assert_eq!(rest.header("content-range"), Some(&*format!("bytes 129000-{last}/{LENGTH}")));
    assert!(rest.body == content[129_000..]);
    let outside = get("Range", "bytes=130000-");
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), Some(&*format!("bytes */{LENGTH}")));
    let etag = part.header("etag").expect("a tag");
    assert_eq!(get("If-None-Match", etag).status, 304);
    assert_eq!(get("If-Match", "\"another\"").status, 412);
    let head = send(running, Request::with_method("HEAD", BLOB));
    assert_eq!((head.status, head.body_bytes), (200, 0));
    for response in [&part, &rest, &head] {
        check_head(response);
        assert_eq!(response.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    }
}

/// Checks what a browser makes of the file.
fn check_head(response: &Response) {
    assert_eq!(response.header("content-type"), Some("text/css; charset=utf-8"));
    let disposition = response.header("content-disposition").expect("a disposition");
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert!(disposition.contains("Report.css"), "{disposition}");
}

/// Checks that it is gone.
fn delete(running: &Running) {
    assert_eq!(send(running, Request::with_method("DELETE", BLOB)).status, 200);
    for request in [Request::get(BLOB), Request::get(BLOB).header("Range", "bytes=0-9")] {
        assert_eq!(send(running, request).status, 404);
    }
}

#[test]
fn blobs_pass_through_the_site() {
    let server = Server::start();
    let content = Upload::Counted(LENGTH);
    for setup in [setup(), setup_with_s3(&server)] {
        each_way(&setup, |running| {
            assert_eq!(send(running, Request::get(BLOB)).status, 404, "{}", running.program_logs());
            put(running, Upload::Text(b"the one before".to_vec()));
            put(running, content.clone());
            let whole = send(running, Request::get(BLOB));
            assert_eq!((whole.status, whole.body_bytes), (200, LENGTH), "{}", whole.text());
            assert_eq!(whole.sha256, content.sha256());
            check_head(&whole);
            check_parts(running, &whole.body);
            delete(running);
        });
    }
}

#[test]
fn visitors_fetch_blobs_from_the_s3_store() {
    let server = Server::start();
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let content = Upload::Counted(LENGTH);
    let setup = setup_with_s3(&server).with_variable("TOOLSHED_S3_REDIRECT", "true");
    each_way(&setup, |running| {
        put(running, content.clone());
        let redirect = send(running, Request::get(BLOB).header("Sec-Fetch-Mode", "navigate"));
        assert_eq!((redirect.status, redirect.body_bytes), (302, 0), "{}", redirect.text());
        assert_eq!(redirect.header("cache-control"), Some("no-store"));
        let location = redirect.header("location").expect("a location");
        let target = location.strip_prefix(&server.endpoint()).expect("it is the store's");
        let host = format!("localhost:{}", server.port());
        let fetch = |target: &str| {
            Request::get(target).header("Host", &host).send(address).expect("a response")
        };
        let fetched = fetch(target);
        assert_eq!((fetched.status, fetched.body_bytes), (200, LENGTH), "{}", fetched.text());
        assert_eq!(fetched.sha256, content.sha256());
        check_head(&fetched);
        let inline = target.replace("attachment", "inline");
        assert_ne!(inline, target);
        assert_eq!(fetch(&inline).status, 403, "it is signed");
        // An image of a page, and parts.
        let image = send(running, Request::get(BLOB).header("Sec-Fetch-Mode", "no-cors"));
        assert_eq!((image.status, image.sha256), (200, content.sha256()));
        check_parts(running, &image.body);
        delete(running);
        assert_eq!(fetch(target).status, 404);
    });
}
