//! A process that copies is killed again and again, and started again until it has done all.

use std::path::Path;
use std::time::Duration;

use blobs::{BlobSettings, Blobs, MAX_LISTED, PutOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};

const FROM: &str = "TEST_FROM";
const TO: &str = "TEST_TO";

const BLOBS: usize = 60;

fn open(folder: &Path) -> Blobs {
    Blobs::open(&BlobSettings::Folder(folder.to_owned())).unwrap()
}

fn content(number: usize) -> Bytes {
    vec![number as u8; number * 10_000].into()
}

/// Copies everything, once.
pub(crate) fn copier() {
    let place = |name| open(Path::new(&std::env::var_os(name).unwrap()));
    event_loop::run(async { place(FROM).copy_to(&place(TO), |_| {}).await.unwrap() }).unwrap();
}

pub(crate) fn a_killed_copy_is_run_again() {
    let outer = tempfile::tempdir().unwrap();
    let (from, to) = (outer.path().join("from"), outer.path().join("to"));
    let (source, target) = (open(&from), open(&to));
    event_loop::run(async {
        for number in 0..BLOBS {
            let key = format!("{}/{number}", number % 3).parse().unwrap();
            let content = Full::from(content(number));
            source.put(&key, content, PutOptions::default()).await.unwrap();
        }
    })
    .unwrap();
    // So that what was copied is later, and passed over.
    std::thread::sleep(Duration::from_millis(1100));
    let mut killed = 0;
    loop {
        let mut copier =
            case_runner::itself("copier").env(FROM, &from).env(TO, &to).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 2 * killed + getrandom::u64().unwrap() % 50));
        copier.kill().unwrap();
        if copier.wait().unwrap().success() {
            break;
        }
        killed += 1;
        // What there is, is whole.
        let present = check(&target);
        assert!(present < BLOBS || killed < 1000, "it does not end");
    }
    assert!(killed > 0, "it was never killed");
    assert_eq!(check(&target), BLOBS);
}

/// Returns how many blobs there are, each of which is as it should be.
fn check(target: &Blobs) -> usize {
    event_loop::run(async {
        let listed = target.list("", None, MAX_LISTED).await.unwrap();
        for listed in &listed {
            let number = listed.key.as_str().rsplit_once('/').unwrap().1.parse().unwrap();
            let blob = target.get(&listed.key, ..).await.unwrap().unwrap();
            let found = blob.body.collect().await.unwrap().to_bytes();
            assert!(found == content(number), "{}", listed.key);
        }
        listed.len()
    })
    .unwrap()
}
