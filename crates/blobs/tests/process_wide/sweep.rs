//! A sweep of many files. Children of other tests that are just being started would hold copies of its lock.

use std::fs;
use std::time::{Duration, SystemTime};

use blobs::{BlobSettings, Blobs, PutOptions};
use bytes::Bytes;
use http_body_util::Full;

pub(crate) fn a_sweep_is_bounded_and_the_next_one_continues() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&BlobSettings::Folder(folder.path().join("blobs"))).unwrap();
    event_loop::run(async {
        let past = Some(SystemTime::now() - Duration::from_secs(1));
        let options = PutOptions { content_type: None, expires: past };
        let content = Full::from(Bytes::from("x"));
        blobs.put(&"0".parse().unwrap(), content, options).await.unwrap();
        let stored = folder.path().join("blobs/stored");
        for number in 1..1200 {
            fs::copy(stored.join("0="), stored.join(format!("{number}="))).unwrap();
        }
        let first = blobs.remove_expired().await.unwrap();
        assert_eq!((first.removed, first.more), (1000, true));
        let second = blobs.remove_expired().await.unwrap();
        assert_eq!((second.removed, second.more), (200, false));
    })
    .unwrap();
}
