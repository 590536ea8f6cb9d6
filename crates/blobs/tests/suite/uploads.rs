//! What every engine does with uploads in parts.

use std::num::NonZeroU16;
use std::time::{Duration, SystemTime};

use blobs::{BlobError, Blobs, Key, PART_BYTES, PutOptions, UploadId};

use crate::cases::{key, put_text};
use crate::content::{Content, End, check, text};

/// Two whole parts, and the beginning of a third.
const LENGTH: u64 = 2 * PART_BYTES + 12_345;

/// The parts of such an upload.
const PARTS: [u16; 3] = [1, 2, 3];

async fn begin(blobs: &Blobs, key: &Key) -> UploadId {
    blobs.begin_upload(key, PutOptions::default()).await.unwrap()
}

/// Puts a part of a content of [`LENGTH`].
async fn put(
    blobs: &Blobs,
    key: &Key,
    upload: &UploadId,
    seed: u8,
    number: u16,
) -> Result<(), BlobError> {
    let from = u64::from(number - 1) * PART_BYTES;
    let content = Content::new(seed, PART_BYTES.min(LENGTH - from)).from(from);
    blobs.put_part(key, upload, NonZeroU16::new(number).unwrap(), content).await
}

pub(crate) async fn parts_come_in_any_order_and_several_at_a_time(blobs: Blobs) {
    let blobs = blobs.with_prefix(&key("tool"));
    let name = key("uploads/film.mp4");
    let expires = Some(SystemTime::now() + Duration::from_secs(3600));
    let options = PutOptions { content_type: Some("video/mp4".into()), expires };
    let upload = blobs.begin_upload(&name, options).await.unwrap();
    // What is kept in a row or sent to a client is read again.
    let upload: UploadId = upload.to_string().parse().unwrap();
    put(&blobs, &name, &upload, 1, 2).await.unwrap();
    let puts = [3, 2, 1].map(|number| {
        let (blobs, name, upload) = (blobs.clone(), name.clone(), upload.clone());
        event_loop::spawn(async move { put(&blobs, &name, &upload, 5, number).await })
    });
    for put in puts {
        put.await.unwrap();
    }
    assert!(blobs.head(&name).await.unwrap().is_none());
    assert!(blobs.list("", None, 9).await.unwrap().is_empty());
    blobs.finish_upload(&name, &upload, LENGTH).await.unwrap();
    let blob = blobs.get(&name, ..).await.unwrap().unwrap();
    assert_eq!(blob.details.content_type, "video/mp4");
    assert!(blob.details.expires.is_some());
    check(blob, 5, LENGTH).await.unwrap();
    let over_a_border = PART_BYTES - 10..PART_BYTES + 10;
    check(blobs.get(&name, over_a_border).await.unwrap().unwrap(), 5, LENGTH).await.unwrap();
}

pub(crate) async fn a_finished_upload_may_be_finished_again(blobs: Blobs) {
    let name = key("a");
    put_text(&blobs, "a", "old").await;
    let upload = begin(&blobs, &name).await;
    for number in PARTS {
        put(&blobs, &name, &upload, 1, number).await.unwrap();
    }
    assert_eq!(text(blobs.get(&name, ..).await.unwrap()).await, "old");
    for _ in 0..2 {
        blobs.finish_upload(&name, &upload, LENGTH).await.unwrap();
        check(blobs.get(&name, ..).await.unwrap().unwrap(), 1, LENGTH).await.unwrap();
    }
    assert_no_upload(put(&blobs, &name, &upload, 1, 1).await, "a");
    // Not over a later one.
    put_text(&blobs, "a", "new").await;
    assert_no_upload(blobs.finish_upload(&name, &upload, LENGTH).await, "a");
    blobs.cancel_upload(&name, &upload).await.unwrap();
    assert_eq!(text(blobs.get(&name, ..).await.unwrap()).await, "new");
}

fn assert_no_upload(done: Result<(), BlobError>, name: &str) {
    let error = done.unwrap_err();
    assert!(
        matches!(&error, BlobError::NoUpload(key) if key.as_str().ends_with(name)),
        "{error:?}"
    );
}

pub(crate) async fn what_is_not_complete_is_not_there(blobs: Blobs) {
    let name = key("a");
    let upload = begin(&blobs, &name).await;
    let missing = async |length, expected| {
        match blobs.finish_upload(&name, &upload, length).await {
            Err(BlobError::Incomplete { part, .. }) => assert_eq!(part, expected, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
        assert!(blobs.head(&name).await.unwrap().is_none());
    };
    missing(LENGTH, 1).await;
    missing(0, 1).await;
    put(&blobs, &name, &upload, 1, 1).await.unwrap();
    put(&blobs, &name, &upload, 1, 3).await.unwrap();
    missing(LENGTH, 2).await;
    missing(PART_BYTES - 1, 1).await;
    put(&blobs, &name, &upload, 1, 2).await.unwrap();
    missing(LENGTH - 1, 3).await;
    missing(LENGTH + 1, 3).await;
    missing(3 * PART_BYTES + 1, 3).await;
    let longest = 10_000 * PART_BYTES;
    let error = blobs.finish_upload(&name, &upload, longest + 1).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge(max) if max == longest), "{error:?}");
    blobs.finish_upload(&name, &upload, LENGTH).await.unwrap();
    check(blobs.get(&name, ..).await.unwrap().unwrap(), 1, LENGTH).await.unwrap();
}

pub(crate) async fn a_part_that_fails_or_is_too_long_changes_nothing(blobs: Blobs) {
    let name = key("a");
    let upload = begin(&blobs, &name).await;
    for number in PARTS {
        put(&blobs, &name, &upload, 1, number).await.unwrap();
    }
    let put = async |number: u16, content| {
        let number = NonZeroU16::new(number).unwrap();
        blobs.put_part(&name, &upload, number, content).await.unwrap_err()
    };
    let error = put(1, Content::new(2, 100_000).ending(End::Error)).await;
    assert!(matches!(error, BlobError::Source(_)), "{error:?}");
    let error = put(2, Content::new(2, PART_BYTES + 1)).await;
    assert!(matches!(error, BlobError::TooLarge(PART_BYTES)), "{error:?}");
    let error = put(3, Content::new(2, 0)).await;
    assert!(matches!(error, BlobError::Incomplete { part: 3, .. }), "{error:?}");
    let error = put(10_001, Content::new(2, 1)).await;
    assert!(matches!(error, BlobError::TooLarge(_)), "{error:?}");
    blobs.finish_upload(&name, &upload, LENGTH).await.unwrap();
    check(blobs.get(&name, ..).await.unwrap().unwrap(), 1, LENGTH).await.unwrap();
}

pub(crate) async fn an_upload_belongs_to_one_blob(blobs: Blobs) {
    let (name, other) = (key("a"), key("ab"));
    let upload = begin(&blobs, &name).await;
    for number in PARTS {
        put(&blobs, &name, &upload, 1, number).await.unwrap();
    }
    let refused = PutOptions { content_type: Some("a\nb".into()), expires: None };
    let error = blobs.begin_upload(&name, refused).await.unwrap_err();
    assert!(matches!(error, BlobError::ContentType(_)), "{error:?}");
    let unknown: UploadId = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let others = begin(&blobs.with_prefix(&key("x")), &name).await;
    for (key, id) in [(&other, &upload), (&name, &unknown), (&name, &others)] {
        assert_no_upload(put(&blobs, key, id, 1, 1).await, key.as_str());
        assert_no_upload(blobs.finish_upload(key, id, LENGTH).await, key.as_str());
        blobs.cancel_upload(key, id).await.unwrap();
    }
    blobs.with_prefix(&key("x")).cancel_upload(&name, &others).await.unwrap();
    blobs.cancel_upload(&name, &upload).await.unwrap();
    assert_no_upload(blobs.finish_upload(&name, &upload, LENGTH).await, "a");
    assert!(blobs.list("", None, 9).await.unwrap().is_empty());
}
