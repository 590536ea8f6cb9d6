//! Copies of one store in another.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use blobs::{BlobError, BlobSettings, Blobs, Copied, Listed, PutOptions};
use s3_fixture::Server;
use tempfile::TempDir;

use crate::cases::{key, put_text};
use crate::content::{Content, check, text};
use crate::proxy::{Fault, Proxy};
use crate::s3::{LARGE, open, settings_of};

fn in_folder(folder: &TempDir) -> Blobs {
    Blobs::open(&BlobSettings::Folder(folder.path().into())).unwrap()
}

async fn copy(from: &Blobs, to: &Blobs) -> Copied {
    from.copy_to(to, |_| {}).await.unwrap()
}

/// Waits until what is put is later than what was put before.
async fn next_second() {
    event_loop::time::sleep(Duration::from_millis(1100)).await;
}

async fn all(blobs: &Blobs) -> Vec<Listed> {
    blobs.list("", None, 1000).await.unwrap()
}

#[test]
fn everything_is_copied_from_a_folder_to_s3_and_back() {
    let folders = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [one, other] = folders.each_ref().map(in_folder);
    let server = Server::start();
    let bucket = open(settings_of(&server));
    event_loop::run(async {
        let expires = SystemTime::now() + Duration::from_secs(3600);
        let options = PutOptions { content_type: Some("text/css".into()), expires: Some(expires) };
        one.put(&key("tool/style"), Content::new(1, 300), options).await.unwrap();
        one.put(&key("large"), Content::new(2, LARGE), PutOptions::default()).await.unwrap();
        put_text(&one, "tool/empty", "").await;
        put_text(&one, "tool/A", "a capital letter").await;
        let past = PutOptions { content_type: None, expires: Some(SystemTime::UNIX_EPOCH) };
        one.put(&key("expired"), Content::new(3, 5), past).await.unwrap();
        next_second().await;
        for (from, to) in [(&one, &bucket), (&bucket, &other)] {
            let copied = copy(from, to).await;
            assert_eq!((copied.blobs, copied.present), (4, 0));
            assert_eq!(copied.bytes, LARGE + 300 + 16);
            for name in ["tool/style", "large", "tool/empty", "tool/A"] {
                let expected = one.head(&key(name)).await.unwrap().unwrap();
                let found = to.head(&key(name)).await.unwrap().unwrap();
                assert_eq!(found.content_type, expected.content_type);
                assert_eq!(found.expires, expected.expires, "{name}");
            }
            check(to.get(&key("large"), ..).await.unwrap().unwrap(), 2, LARGE).await.unwrap();
            next_second().await;
            let again = copy(from, to).await;
            assert_eq!((again.blobs, again.bytes, again.present), (0, 0, 4));
        }
        assert_eq!(all(&bucket).await, all(&other).await);
    })
    .unwrap();
}

#[test]
fn a_later_copy_takes_what_was_put_since_and_nothing_that_is_later_there() {
    let (one, server) = (tempfile::tempdir().unwrap(), Server::start());
    let (folder, bucket) = (in_folder(&one), open(settings_of(&server)));
    event_loop::run(async {
        for (from, to) in [(&folder, &bucket), (&bucket, &folder)] {
            for name in ["same", "replaced-here", "replaced-there", "deleted-there"] {
                put_text(from, name, "first").await;
            }
            next_second().await;
            assert_eq!(copy(from, to).await.blobs, 4);
            next_second().await;
            put_text(from, "replaced-here", "second").await;
            put_text(from, "new-here", "new").await;
            put_text(to, "replaced-there", "second").await;
            put_text(to, "new-there", "new").await;
            to.delete(&key("deleted-there")).await.unwrap();
            next_second().await;
            let copied = copy(from, to).await;
            assert_eq!((copied.blobs, copied.present), (3, 2));
            for (name, content) in [
                ("same", "first"),
                ("replaced-here", "second"),
                ("replaced-there", "second"),
                ("deleted-there", "first"),
                ("new-here", "new"),
                ("new-there", "new"),
            ] {
                assert_eq!(text(to.get(&key(name), ..).await.unwrap()).await, content, "{name}");
            }
            for listed in all(from).await.into_iter().chain(all(to).await) {
                from.delete(&listed.key).await.unwrap();
                to.delete(&listed.key).await.unwrap();
            }
        }
    })
    .unwrap();
}

/// Changes a byte in the middle of a blob's file.
fn damage(folder: &TempDir, file: &str) {
    let path = folder.path().join("stored").join(file);
    File::options().write(true).open(path).unwrap().write_at(b"X", 2).unwrap();
}

#[test]
fn a_damaged_blob_does_not_keep_others_from_being_copied() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (in_folder(&one), in_folder(&other));
    event_loop::run(async {
        for name in ["a", "b", "c"] {
            put_text(&from, name, "content").await;
        }
        damage(&one, "a=");
        // Nothing is left of what it says about itself.
        fs::write(one.path().join("stored/b="), "rubbish").unwrap();
        let copied = copy(&from, &to).await;
        assert_eq!(copied.blobs, 1);
        let mut named: Vec<_> = copied.unreadable.iter().map(ToString::to_string).collect();
        named.sort_unstable();
        assert_eq!(named.len(), 2);
        assert!(named[0].starts_with("the blob a is damaged"), "{named:?}");
        assert!(named[1].starts_with("the blob b is damaged"), "{named:?}");
        assert_eq!(all(&to).await.len(), 1);
        assert_eq!(files_below(&other.path().join("incoming")), 0);
    })
    .unwrap();
}

#[test]
fn a_damaged_copy_is_replaced() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (in_folder(&one), in_folder(&other));
    event_loop::run(async {
        put_text(&from, "a", "content").await;
        next_second().await;
        assert_eq!(copy(&from, &to).await.blobs, 1);
        fs::write(other.path().join("stored/a="), "rubbish").unwrap();
        assert_eq!(copy(&from, &to).await.blobs, 1);
        assert_eq!(text(to.get(&key("a"), ..).await.unwrap()).await, "content");
    })
    .unwrap();
}

/// Of a blob in parts, S3 has no checksum with which it could be compared.
#[test]
fn what_comes_back_as_something_else_is_named() {
    let (one, server) = (tempfile::tempdir().unwrap(), Server::start());
    let from = in_folder(&one);
    event_loop::run(async {
        for length in [300_000, LARGE] {
            from.put(&key("a"), Content::new(1, length), PutOptions::default()).await.unwrap();
            let proxy = Proxy::start(server.port(), None);
            // All requests share a connection.
            proxy.inject([Fault::DamageResponse(200_000)]);
            let mut settings = settings_of(&server);
            settings.endpoint = format!("http://localhost:{}", proxy.port);
            let to = open(settings);
            let error = from.copy_to(&to, |_| {}).await.unwrap_err();
            assert!(matches!(error, BlobError::Altered(_)), "{error:?}");
            to.delete(&key("a")).await.unwrap();
            assert_eq!(copy(&from, &to).await.blobs, 1);
            to.delete(&key("a")).await.unwrap();
        }
    })
    .unwrap();
}

#[test]
fn a_store_that_fails_ends_the_copy_and_the_next_one_goes_on() {
    let (one, server) = (tempfile::tempdir().unwrap(), Server::start());
    let from = in_folder(&one);
    let mut wrong = settings_of(&server);
    wrong.bucket = "no-such-bucket".into();
    event_loop::run(async {
        for name in ["a", "b"] {
            put_text(&from, name, "content").await;
        }
        let error = from.copy_to(&open(wrong), |_| {}).await.unwrap_err();
        assert!(matches!(error, BlobError::Refused { status: 404, .. }), "{error:?}");
        let mut seen = Vec::new();
        let to = open(settings_of(&server));
        from.copy_to(&to, |copied| seen.push(copied.blobs)).await.unwrap();
        assert_eq!(seen, [1, 2]);
    })
    .unwrap();
}

fn files_below(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
