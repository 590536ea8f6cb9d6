//! What is special about S3: the network, the server's refusals, what is left at the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use blobs::{AddressStyle, BlobError, BlobSettings, Blobs, PutOptions, S3Settings};
use http_body_util::BodyExt;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use s3_fixture::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
use test_certificates::Authority;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cases::{self, key, put_text};
use crate::content::{Content, End, check, text};
use crate::proxy::{Fault, Proxy};

/// Larger than a part of a multipart upload.
pub(crate) const LARGE: u64 = 9 << 20;

/// Runs a case with a new server, and checks what it leaves.
pub(crate) fn run(case: impl AsyncFnOnce(Blobs)) {
    let server = Server::start();
    event_loop::run(async {
        case(open(settings_of(&server))).await;
        wait_for_uploads(&server, 0).await;
    })
    .unwrap();
}

pub(crate) fn settings_of(server: &Server) -> S3Settings {
    S3Settings::new(server.endpoint(), REGION, BUCKET, ACCESS_KEY, SECRET_KEY)
}

pub(crate) fn open(settings: S3Settings) -> Blobs {
    Blobs::open(&BlobSettings::S3(settings)).unwrap()
}

/// Runs a case with a proxy in front of a new server.
fn run_behind_proxy(case: impl AsyncFnOnce(S3Settings, Proxy)) {
    let server = Server::start();
    let mut settings = settings_of(&server);
    event_loop::run(async {
        let proxy = Proxy::start(server.port(), None);
        settings.endpoint = format!("http://localhost:{}", proxy.port);
        case(settings, proxy.clone()).await;
        assert_eq!(proxy.left(), 0, "not every fault has happened");
    })
    .unwrap();
}

/// Sends a GET to a URL and returns the status and everything after the head. Blocks.
fn http_get(url: &str) -> (u16, String) {
    let (authority, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    write!(stream, "GET /{target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Returns how many multipart uploads are not complete.
fn uploads(server: &Server) -> usize {
    let endpoint = server.endpoint().parse().unwrap();
    let bucket = Bucket::new(endpoint, UrlStyle::Path, BUCKET, REGION).unwrap();
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY);
    let mut list = bucket.get_object(Some(&credentials), "");
    list.query_mut().insert("uploads", "");
    let (status, body) = http_get(list.sign(Duration::from_secs(60)).as_str());
    assert_eq!(status, 200, "{body}");
    body.matches("<Upload>").count()
}

async fn wait_for_uploads(server: &Server, expected: usize) {
    let start = Instant::now();
    while uploads(server) != expected {
        assert!(start.elapsed() < Duration::from_secs(20), "{} uploads", uploads(server));
        event_loop::time::sleep(Duration::from_millis(20)).await;
    }
}

fn say(status: &str, code: &str) -> Fault {
    let body =
        format!("<Error><Code>{code}</Code><Message>key {ACCESS_KEY} says no</Message></Error>");
    let length = body.len();
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    Fault::Say(response.leak())
}

#[test]
fn memory_is_bounded_however_large_a_blob_is() {
    let server = Server::start();
    cases::memory_is_bounded_however_large_a_blob_is(&open(settings_of(&server)));
}

#[test]
fn addresses_can_be_fetched_until_their_time_has_passed() {
    run(async |blobs| {
        let minute = Duration::from_secs(60);
        assert_eq!(blobs.presigned_get(&key("a/b"), minute, None).await.unwrap(), None);
        let options = PutOptions { content_type: Some("text/css".into()), expires: None };
        blobs.put(&key("a/b"), Content::new(1, 0), options).await.unwrap();
        put_text(&blobs, "a/b", "Hello").await;
        let url = blobs.presigned_get(&key("a/b"), minute, None).await.unwrap().unwrap();
        assert!(url.contains("X-Amz-Expires=60&") && !url.contains(SECRET_KEY), "{url}");
        assert_eq!(http_get(&url), (200, "Hello".to_owned()));
        assert_eq!(http_get(&url.replace("a/b", "a/c")).0, 403);
        let named = "attachment; filename*=UTF-8''k%C3%A4se.txt";
        let url = blobs.presigned_get(&key("a/b"), minute, Some(named)).await.unwrap().unwrap();
        assert_eq!(http_get(&url), (200, "Hello".to_owned()));

        let short = blobs.presigned_get(&key("a/b"), Duration::from_secs(1), None).await.unwrap();
        event_loop::time::sleep(Duration::from_millis(2100)).await;
        assert_ne!(http_get(&short.unwrap()).0, 200);

        // Not longer than the blob is served.
        let expires = Some(SystemTime::now() + Duration::from_secs(30));
        let options = PutOptions { content_type: None, expires };
        blobs.put(&key("b"), Content::new(1, 0), options).await.unwrap();
        let url = blobs.presigned_get(&key("b"), minute, None).await.unwrap().unwrap();
        assert!(url.contains("X-Amz-Expires=30&") || url.contains("X-Amz-Expires=29&"), "{url}");
    });
}

#[test]
fn a_bucket_may_be_part_of_the_host_and_a_prefix_separates_sites() {
    let server = Server::start();
    let mut settings = settings_of(&server);
    settings.style = AddressStyle::VirtualHost;
    settings.prefix = "sites/one/".into();
    let one = open(settings.clone());
    settings.prefix = "sites/two/".into();
    let two = open(settings);
    event_loop::run(async {
        put_text(&one, "a", "one").await;
        put_text(&two, "a", "two").await;
        put_text(&two, "b", "two").await;
        assert_eq!(text(one.get(&key("a"), ..).await.unwrap()).await, "one");
        assert_eq!(one.list("", None, 10).await.unwrap().len(), 1);
        assert_eq!(two.list("", None, 10).await.unwrap().len(), 2);
        let url =
            one.presigned_get(&key("a"), Duration::from_secs(9), None).await.unwrap().unwrap();
        let start = format!("http://{BUCKET}.localhost:{}/sites/one/blobs/a?", server.port());
        assert!(url.starts_with(&start), "{url}");
    })
    .unwrap();
}

/// Returns the TLS configuration of a server called `localhost`.
fn server_config(authority: &Authority) -> Arc<ServerConfig> {
    let (certificate, key) = authority.issue("localhost");
    let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

#[test]
fn tls_has_to_prove_the_servers_name() {
    let server = Server::start();
    let (authority, other) = (Authority::new(), Authority::new());
    event_loop::run(async {
        let proxy = Proxy::start(server.port(), Some(server_config(&authority)));
        let mut settings = settings_of(&server);
        settings.endpoint = format!("https://localhost:{}", proxy.port);
        settings.certificates = Some(authority.certificate());
        let blobs = open(settings.clone());
        blobs.put(&key("a"), Content::new(4, LARGE), PutOptions::default()).await.unwrap();
        check(blobs.get(&key("a"), ..).await.unwrap().unwrap(), 4, LARGE).await.unwrap();
        assert_eq!(proxy.connections(), 1);

        settings.certificates = Some(other.certificate());
        let stranger = open(settings.clone()).head(&key("a")).await.unwrap_err();
        settings.certificates = Some(authority.certificate());
        settings.endpoint = format!("https://127.0.0.1:{}", proxy.port);
        let address = open(settings.clone()).head(&key("a")).await.unwrap_err();
        for (error, problem) in [(stranger, "UnknownIssuer"), (address, "not valid for name")] {
            let text = error.to_string();
            assert!(text.contains(problem), "{text}");
            assert!(matches!(error, BlobError::Unreachable { .. }), "{error:?}");
        }
        settings.certificates = Some("/nowhere.pem".into());
        let error = Blobs::open(&BlobSettings::S3(settings)).unwrap_err();
        assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    })
    .unwrap();
}

#[test]
fn refusals_are_named_and_keys_never_shown() {
    let server = Server::start();
    let good = settings_of(&server);
    let (mut wrong_secret, mut wrong_key) = (good.clone(), good.clone());
    wrong_secret.secret_key = "wrong-secret-key".into();
    wrong_key.access_key = "wrong-access-key".into();
    let (mut wrong_bucket, mut wrong_region) = (good.clone(), good.clone());
    wrong_bucket.bucket = "no-such-bucket".into();
    wrong_region.region = "elsewhere".into();
    event_loop::run(async {
        for (settings, expected) in [
            (wrong_secret, "check access key, secret key, and what they allow"),
            (wrong_key, "check access key, secret key, and what they allow"),
            (wrong_bucket, "create the bucket, or correct its name"),
            (wrong_region, "correct the region"),
        ] {
            let blobs = open(settings.clone());
            let put = blobs.put(&key("a"), Content::new(1, 5), PutOptions::default()).await;
            let large = blobs.put(&key("a"), Content::new(1, LARGE), PutOptions::default()).await;
            let get = blobs.get(&key("a"), ..).await;
            let list = blobs.list("", None, 1).await;
            let errors =
                [put.unwrap_err(), large.unwrap_err(), get.unwrap_err(), list.unwrap_err()];
            for error in errors {
                let text = error.to_string();
                assert!(text.contains(expected), "{text}");
                let shown = format!("{text} {error:?} {settings:?} {blobs:?}");
                for secret in [&settings.access_key, &settings.secret_key] {
                    assert!(!shown.contains(secret), "{shown}");
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn a_refusal_counts_although_its_text_breaks_off() {
    run_behind_proxy(async |settings, proxy| {
        let cut = "HTTP/1.1 403 Forbidden\r\nContent-Length: 500\r\n\r\n<Error><Co";
        proxy.inject([Fault::Say(cut)]);
        let error = open(settings).list("", None, 1).await.unwrap_err();
        assert!(matches!(error, BlobError::Refused { status: 403, .. }), "{error:?}");
        assert_eq!(proxy.connections(), 1);
    });
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let good = S3Settings::new("https://s3.test", "eu", "bucket", "key", "secret");
    type Change = fn(&mut S3Settings);
    let cases: [(Change, &str); 10] = [
        (|it| it.endpoint = "s3.test".into(), "is not a URL"),
        (|it| it.endpoint = "https://käse.test".into(), "is not a URL"),
        (|it| it.endpoint = "ftp://s3.test".into(), "cannot be used"),
        (|it| it.endpoint = "https://s3.test/bucket".into(), "write https://HOST"),
        (|it| it.endpoint = "https://key:secret@s3.test".into(), "write https://HOST"),
        (|it| it.access_key = String::new(), "is missing"),
        (|it| it.secret_key = String::new(), "is missing"),
        (|it| it.prefix = "site".into(), "has no / at its end"),
        (|it| it.prefix = "../".into(), "the prefix cannot be used"),
        (|it| it.prefix = "x/".repeat(200), "is too long"),
    ];
    for (change, problem) in cases {
        let mut settings = good.clone();
        change(&mut settings);
        let error = Blobs::open(&BlobSettings::S3(settings)).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("secret@"), "{error}");
    }
}

#[test]
fn connections_are_kept_and_replaced_when_the_server_closes_them() {
    run_behind_proxy(async |settings, proxy| {
        let blobs = open(settings);
        for _ in 0..5 {
            put_text(&blobs, "a", "x").await;
            assert_eq!(text(blobs.get(&key("a"), ..).await.unwrap()).await, "x");
            assert!(blobs.head(&key("b")).await.unwrap().is_none());
        }
        assert_eq!(proxy.connections(), 1);
        // A response that is not read to its end closes its connection.
        blobs.put(&key("a"), Content::new(1, 1 << 20), PutOptions::default()).await.unwrap();
        drop(blobs.get(&key("a"), ..).await.unwrap());
        check(blobs.get(&key("a"), ..).await.unwrap().unwrap(), 1, 1 << 20).await.unwrap();
        assert_eq!(proxy.connections(), 2);
    });
    run_behind_proxy(async |settings, proxy| {
        let blobs = open(settings);
        // The server closes it after the response, while it is idle.
        proxy.inject([Fault::Say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]);
        assert!(blobs.head(&key("a")).await.unwrap().is_none());
        put_text(&blobs, "a", "x").await;
        assert_eq!(proxy.connections(), 2);
    });
}

#[test]
fn no_more_connections_than_allowed_are_open() {
    run_behind_proxy(async |mut settings, proxy| {
        settings.max_connections = 2;
        let blobs = open(settings);
        blobs.put(&key("a"), Content::new(1, 1 << 20), PutOptions::default()).await.unwrap();
        let reads: Vec<_> = (0..10)
            .map(|_| {
                let blobs = blobs.clone();
                event_loop::spawn(async move {
                    let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
                    check(blob, 1, 1 << 20).await.unwrap();
                })
            })
            .collect();
        for read in reads {
            read.await;
        }
        assert_eq!(proxy.max_open(), 2);
    });
}

#[test]
fn no_more_large_puts_than_allowed_are_in_memory() {
    let server = Server::start();
    let mut settings = settings_of(&server);
    settings.max_uploads = 1;
    let blobs = open(settings);
    event_loop::run(async {
        let endless = blobs.clone();
        let first = event_loop::spawn(async move {
            let content = Content::new(1, 200_000).ending(End::Never);
            endless.put(&key("a"), content, PutOptions::default()).await
        });
        // A small one does not wait, and the large one only until the first has left.
        put_text(&blobs, "b", "x").await;
        let name = key("c");
        let content = Content::new(2, 200_000);
        let mut second = Box::pin(blobs.put(&name, content, PutOptions::default()));
        let wait = event_loop::time::timeout(Duration::from_millis(300), &mut second);
        assert!(wait.await.is_err());
        drop(first);
        second.await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_request_waits_for_a_connection_only_so_long() {
    // Ten seconds.
    if std::env::var_os("TOOLSHED_TESTS_LONG").is_none() {
        return;
    }
    let server = Server::start();
    let mut settings = settings_of(&server);
    settings.max_connections = 1;
    let blobs = open(settings);
    event_loop::run(async {
        blobs.put(&key("a"), Content::new(1, LARGE), PutOptions::default()).await.unwrap();
        let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
        let error = blobs.head(&key("a")).await.unwrap_err();
        assert!(matches!(error, BlobError::Busy), "{error:?}");
        drop(blob);
        assert!(blobs.head(&key("a")).await.unwrap().is_some());
    })
    .unwrap();
}

#[test]
fn a_put_is_tried_again_after_what_passes() {
    let faults = [
        say("503 Slow Down", "SlowDown"),
        say("500 Internal Server Error", "InternalError"),
        say("429 Too Many Requests", "TooManyRequests"),
        Fault::CutRequest(100),
        Fault::CutRequest(200_000),
        Fault::CutResponse(0),
        Fault::CutResponse(20),
        Fault::Silence,
        // The server notices.
        Fault::DamageRequest(200_000),
    ];
    run_behind_proxy(async |mut settings, proxy| {
        settings.response_timeout = Duration::from_secs(1);
        for (seed, fault) in (1..).zip(&faults) {
            for length in [300_000, LARGE] {
                // Its first connection is new.
                let blobs = open(settings.clone());
                proxy.inject([fault.clone()]);
                let content = Content::new(seed, length);
                let put = blobs.put(&key("a"), content, PutOptions::default()).await;
                put.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
                let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
                check(blob, seed, length).await.unwrap();
            }
        }
    });
}

#[test]
fn other_requests_are_tried_again_too() {
    run_behind_proxy(async |settings, proxy| {
        put_text(&open(settings.clone()), "a", "x").await;
        for fault in [say("503 Slow Down", "SlowDown"), Fault::CutResponse(10)] {
            for twice in [1, 2] {
                let blobs = || {
                    proxy.inject(std::iter::repeat_n(fault.clone(), twice));
                    open(settings.clone())
                };
                assert_eq!(text(blobs().get(&key("a"), ..).await.unwrap()).await, "x");
                assert!(blobs().head(&key("a")).await.unwrap().is_some());
                assert_eq!(blobs().list("", None, 5).await.unwrap().len(), 1);
                blobs().remove_expired().await.unwrap();
                blobs().delete(&key("b")).await.unwrap();
            }
        }
    });
}

#[test]
fn what_does_not_pass_is_reported_in_time() {
    run_behind_proxy(async |mut settings, proxy| {
        settings.response_timeout = Duration::from_millis(200);
        let start = Instant::now();
        for (fault, problem) in [
            (say("503 Slow Down", "SlowDown"), "(503 SlowDown): key … says no"),
            (Fault::CutResponse(0), "connection closed before message completed"),
            (Fault::Silence, "it did not respond within 0.2 s"),
            (Fault::Say("nonsense\r\n\r\n"), "invalid HTTP version"),
        ] {
            proxy.inject(std::iter::repeat_n(fault, 4));
            let error = open(settings.clone()).get(&key("a"), ..).await.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(error.contains(&format!("localhost:{}", proxy.port)), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(15));

        // Port 1 is closed.
        settings.endpoint = "http://localhost:1".into();
        let error = open(settings).head(&key("a")).await.unwrap_err().to_string();
        assert!(error.contains("localhost:1 cannot be used: tcp:127.0.0.1:1: Conn"), "{error}");
    });
}

#[test]
fn a_response_that_breaks_off_is_an_error() {
    run_behind_proxy(async |settings, proxy| {
        let mut impatient = settings.clone();
        impatient.response_timeout = Duration::from_millis(500);
        let blobs = open(settings.clone());
        for length in [300_000, LARGE] {
            blobs.put(&key("a"), Content::new(1, length), PutOptions::default()).await.unwrap();
            for fault in [Fault::CutResponse(200_000), Fault::StallResponse(200_000)] {
                proxy.inject([fault.clone()]);
                let blob = open(impatient.clone()).get(&key("a"), ..).await.unwrap().unwrap();
                let error = blob.body.collect().await.unwrap_err();
                assert!(matches!(error, BlobError::Cut { .. }), "{fault:?}: {error:?}");
            }
        }
        // Of what was put by one request, each byte is checked.
        blobs.put(&key("a"), Content::new(1, 300_000), PutOptions::default()).await.unwrap();
        for at in [1000, 300_000] {
            proxy.inject([Fault::DamageResponse(at)]);
            let blob = open(settings.clone()).get(&key("a"), ..).await.unwrap().unwrap();
            let error = blob.body.collect().await.unwrap_err();
            assert!(matches!(error, BlobError::Damaged(_)), "{error:?}");
        }
    });
}

#[test]
fn a_slow_reader_is_no_silent_server() {
    let server = Server::start();
    let mut settings = settings_of(&server);
    settings.response_timeout = Duration::from_secs(2);
    let blobs = open(settings);
    event_loop::run(async {
        blobs.put(&key("a"), Content::new(1, LARGE), PutOptions::default()).await.unwrap();
        let mut blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
        let first = blob.body.frame().await.unwrap().unwrap().into_data().unwrap();
        blob.range.start += first.len() as u64;
        event_loop::time::sleep(Duration::from_millis(2500)).await;
        check(blob, 1, LARGE).await.unwrap();
    })
    .unwrap();
}

#[test]
fn an_upload_whose_completion_is_uncertain_is_looked_at() {
    let lost = Fault::LoseCompletion;
    let error = Fault::Replace("<CompleteMultipartUploadResult", "<Error><Code>SlowDown</Code>  ");
    run_behind_proxy(async |settings, proxy| {
        for (seed, fault) in (1..).zip([lost, error]) {
            let blobs = open(settings.clone());
            proxy.inject([fault]);
            let content = Content::new(seed, LARGE);
            blobs.put(&key("a"), content, PutOptions::default()).await.unwrap();
            check(blobs.get(&key("a"), ..).await.unwrap().unwrap(), seed, LARGE).await.unwrap();
        }
    });
}

#[test]
fn uploads_of_killed_processes_are_aborted_after_a_day() {
    let server = Server::start();
    // A loop that ends takes its tasks with it, as a killed process does: nothing is aborted.
    event_loop::run(async {
        let blobs = open(settings_of(&server));
        event_loop::spawn(async move {
            let content = Content::new(1, LARGE).ending(End::Never);
            let _ = blobs.put(&key("a"), content, PutOptions::default()).await;
        })
        .detach();
        wait_for_uploads(&server, 1).await;
    })
    .unwrap();
    assert_eq!(uploads(&server), 1);
    event_loop::run(async {
        open(settings_of(&server)).remove_expired().await.unwrap();
        assert_eq!(uploads(&server), 1, "it is new");
        let proxy = Proxy::start(server.port(), None);
        proxy.inject([Fault::Replace("<Initiated>2", "<Initiated>1")]);
        let mut settings = settings_of(&server);
        settings.endpoint = format!("http://localhost:{}", proxy.port);
        open(settings).remove_expired().await.unwrap();
        assert_eq!(uploads(&server), 0);
    })
    .unwrap();
}
