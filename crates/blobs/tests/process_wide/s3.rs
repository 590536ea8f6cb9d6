//! S3 in a process with one thread, as in production: no other is started, and a fork opens connections of its own.

use std::fs;

use blobs::{BlobSettings, Blobs, Key, PutOptions, S3Settings};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use process::{Limits, compute};
use s3_fixture::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn key() -> Key {
    "a".parse().unwrap()
}

async fn put(blobs: &Blobs, text: &'static str) {
    let content = Full::from(Bytes::from(text));
    blobs.put(&key(), content, PutOptions::default()).await.unwrap();
}

async fn read(blobs: &Blobs) -> Bytes {
    let blob = blobs.get(&key(), ..).await.unwrap().unwrap();
    blob.body.collect().await.unwrap().to_bytes()
}

pub(crate) fn a_fork_has_connections_of_its_own() {
    let server = Server::start();
    let settings = S3Settings::new(server.endpoint(), REGION, BUCKET, ACCESS_KEY, SECRET_KEY);
    let blobs = Blobs::open(&BlobSettings::S3(settings)).unwrap();
    event_loop::run(async {
        put(&blobs, "parent").await;
        let in_child = compute(Limits::DEFAULT, || {
            let work = async {
                let found = read(&blobs).await;
                put(&blobs, "child").await;
                found.to_vec()
            };
            event_loop::run(work).unwrap()
        });
        // At the same time, on the connection that the child has a copy of.
        for _ in 0..50 {
            assert!(matches!(&*read(&blobs).await, b"parent" | b"child"));
        }
        assert_eq!(in_child.await.unwrap(), b"parent");
        assert_eq!(read(&blobs).await, "child");
        assert_eq!(threads(), 1);
    })
    .unwrap();
}

pub(crate) fn names_are_looked_up_by_a_child() {
    let settings = S3Settings::new("http://nowhere.invalid", "eu", "bucket", "key", "secret");
    let nowhere = Blobs::open(&BlobSettings::S3(settings)).unwrap();
    event_loop::run(async {
        let error = nowhere.head(&key()).await.unwrap_err().to_string();
        assert!(error.starts_with("the S3 server nowhere.invalid:80 cannot be used: "), "{error}");
        assert_eq!(threads(), 1);
    })
    .unwrap();
}
