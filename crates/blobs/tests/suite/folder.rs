//! What is special about a folder: its files, its permissions, its disk.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blobs::{BlobError, BlobSettings, Blobs, PutOptions};
use http_body_util::BodyExt;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::cases::{self, key, put_text};
use crate::content::{Content, text};

/// Runs a case in a new folder, and checks what it leaves.
pub(crate) fn run(case: impl AsyncFnOnce(Blobs)) {
    let (folder, blobs) = new();
    event_loop::run(case(blobs)).unwrap();
    assert!(files_below(&folder.path().join("blobs/incoming")).is_empty());
    for file in files_below(folder.path()) {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
}

fn new() -> (TempDir, Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).unwrap();
    (folder, blobs)
}

fn open(folder: &Path) -> Result<Blobs, BlobError> {
    Blobs::open(&BlobSettings::Folder(folder.join("blobs")))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn memory_is_bounded_however_large_a_blob_is() {
    cases::memory_is_bounded_however_large_a_blob_is(&new().1);
}

#[test]
fn there_are_no_addresses_of_files() {
    let address = event_loop::run(new().1.presigned_get(&key("a"), Duration::from_secs(1), None));
    assert_eq!(address.unwrap().unwrap(), None);
}

#[test]
fn empty_folders_are_removed_and_others_kept() {
    let (folder, blobs) = new();
    event_loop::run(async {
        put_text(&blobs, "a/b/c/d", "x").await;
        put_text(&blobs, "a/e", "x").await;
        blobs.delete(&key("a/b/c/d")).await.unwrap();
    })
    .unwrap();
    let stored = folder.path().join("blobs/stored");
    assert_eq!(fs::metadata(stored.join("a")).unwrap().mode() & 0o777, 0o700);
    assert!(!stored.join("a/b").exists());
    event_loop::run(blobs.delete(&key("a/e"))).unwrap().unwrap();
    assert_eq!(fs::read_dir(stored).unwrap().count(), 0);
}

#[test]
fn long_folders_are_listed_in_pages() {
    let (folder, blobs) = new();
    let stored = folder.path().join("blobs/stored/x");
    fs::create_dir(&stored).unwrap();
    let names: Vec<String> = (0..2500).map(|number| format!("{number:04}")).collect();
    for name in &names {
        fs::write(stored.join(format!("{name}=")), [b'x'; 512]).unwrap();
    }
    // Not ours.
    for name in ["README", "x", ".y", "lost+found=="] {
        fs::write(stored.join(name), "").unwrap();
    }
    event_loop::run(async {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let page = blobs.list("", last.as_ref(), 700).await.unwrap();
            found.extend(page.iter().map(|listed| listed.key.as_str()[2..].to_owned()));
            if page.len() < 700 {
                break;
            }
            last = page.into_iter().next_back().map(|listed| listed.key);
        }
        assert_eq!(found, names);
    })
    .unwrap();
}

/// Another process gives a file its name: it may be the one that has expired.
#[test]
fn what_has_expired_is_removed_only_under_the_lock() {
    let (folder, blobs) = new();
    let lock = || File::create(folder.path().join("blobs/lock")).unwrap();
    event_loop::run(async {
        let past = Some(SystemTime::now() - Duration::from_secs(1));
        let options = PutOptions { content_type: None, expires: past };
        blobs.put(&key("a"), Content::new(0, 1), options).await.unwrap();
        let other = lock();
        flock(&other, FlockOperation::LockShared).unwrap();
        assert_eq!(blobs.remove_expired().await.unwrap().removed, 0);
        put_text(&blobs, "b", "x").await;
        drop(other);
        assert_eq!(blobs.remove_expired().await.unwrap().removed, 1);

        let other = lock();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut put = Box::pin(put_text(&blobs, "c", "x"));
        let wait = event_loop::time::timeout(Duration::from_millis(100), &mut put);
        assert!(wait.await.is_err());
        drop(other);
        put.await;
    })
    .unwrap();
}

#[test]
fn what_killed_puts_have_left_is_removed_after_a_day() {
    let (folder, blobs) = new();
    let incoming = folder.path().join("blobs/incoming");
    let make = |name: &str, hours: u64| {
        let file = File::create(incoming.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    make(".blob.0123456789abcdefxxxxxx", 25);
    make(".blob.1123456789abcdefxxxxxx", 23);
    make("not-ours", 25);
    let begin = |hours: u64| {
        let id = event_loop::run(blobs.begin_upload(&key("a"), PutOptions::default()));
        let folder = incoming.join(format!("upload.{}", id.unwrap().unwrap()));
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        File::open(&folder).unwrap().set_modified(then).unwrap();
        folder
    };
    let (old, young) = (begin(25), begin(23));
    event_loop::run(blobs.remove_expired()).unwrap().unwrap();
    assert!(!old.exists());
    fs::remove_dir_all(young).unwrap();
    let mut left = files_below(&incoming);
    left.sort_unstable();
    let expected = [".blob.1123456789abcdefxxxxxx", "not-ours"].map(|name| incoming.join(name));
    assert_eq!(left, expected);
}

#[test]
fn damaged_blobs_are_not_served_as_if_they_were_whole() {
    let (folder, blobs) = new();
    let file = folder.path().join("blobs/stored/a=");
    event_loop::run(async {
        let put = async || {
            blobs.put(&key("a"), Content::new(0, 300_000), PutOptions::default()).await.unwrap();
            File::options().write(true).open(&file).unwrap()
        };
        // One byte: found before the last piece is out.
        put().await.write_all_at(b"?", 5).unwrap();
        let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
        let error = blob.body.collect().await.unwrap_err();
        assert!(matches!(error, BlobError::Damaged(_)), "{error}");
        // Cut while it is read.
        let length = put().await.metadata().unwrap().len();
        let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
        File::options().write(true).open(&file).unwrap().set_len(200_000).unwrap();
        assert!(matches!(blob.body.collect().await.unwrap_err(), BlobError::Damaged(_)));
        // Cut, or something else.
        for length in [length - 1, length - 512, 100, 0] {
            put().await.set_len(length).unwrap();
            let error = blobs.head(&key("a")).await.unwrap_err();
            assert!(matches!(error, BlobError::Damaged(_)), "{error}");
            assert!(error.to_string().contains("the blob a is damaged"), "{error}");
        }
        // It can be listed, deleted and replaced.
        assert_eq!(blobs.list("", None, 10).await.unwrap().len(), 1);
        blobs.remove_expired().await.unwrap();
        put_text(&blobs, "a", "new").await;
        assert_eq!(text(blobs.get(&key("a"), ..).await.unwrap()).await, "new");
    })
    .unwrap();
}

#[test]
fn a_vanished_folder_is_not_created_again() {
    let (folder, blobs) = new();
    let path = folder.path().join("blobs");
    event_loop::run(async {
        put_text(&blobs, "a", "x").await;
        fs::remove_dir_all(&path).unwrap();
        let error = blobs.put(&key("b/c"), Content::new(0, 5), PutOptions::default()).await;
        let errors = [
            error.unwrap_err(),
            blobs.get(&key("a"), ..).await.unwrap_err(),
            blobs.head(&key("a")).await.unwrap_err(),
            blobs.delete(&key("a")).await.unwrap_err(),
            blobs.list("", None, 5).await.unwrap_err(),
            blobs.remove_expired().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, BlobError::Gone(_)), "{error:?}");
            assert!(error.to_string().contains("is gone; restore it"), "{error}");
        }
        assert!(!path.exists());
    })
    .unwrap();
}

#[test]
fn folders_that_others_can_write_to_are_refused_or_made_private() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let set_mode = |mode| fs::set_permissions(&blobs, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&blobs).unwrap();
    set_mode(0o777);
    open(folder.path()).unwrap();
    assert_eq!(fs::metadata(&blobs).unwrap().mode() & 0o777, 0o755);
    set_mode(0o1777);
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("other accounts can put files into"), "{error}");
    set_mode(0o700);
    // Only root can give folders away.
    if rustix::process::geteuid().is_root() {
        chown(&blobs, Some(4242), None).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("another account (uid 4242)"), "{error}");
    }
    fs::remove_dir_all(&blobs).unwrap();
    fs::write(&blobs, "").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, BlobError::File { .. }), "{error:?}");
}
