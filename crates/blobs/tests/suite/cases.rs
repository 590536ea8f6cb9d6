//! What every engine does.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use blobs::{Blobs, CHUNK_BYTES, DEFAULT_CONTENT_TYPE, Key, Listed, PutOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::content::{Content, End, check, text};

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn full(text: &str) -> Full<Bytes> {
    Full::from(Bytes::from(text.to_owned()))
}

pub(crate) async fn put_text(blobs: &Blobs, name: &str, content: &str) {
    blobs.put(&key(name), full(content), PutOptions::default()).await.unwrap();
}

async fn keys(blobs: &Blobs, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(key);
    let listed = blobs.list(prefix, after.as_ref(), limit).await.unwrap();
    listed.into_iter().map(|listed| listed.key.to_string()).collect()
}

pub(crate) async fn what_is_put_can_be_read(blobs: Blobs) {
    let name = key("uploads/2026-11/Report_1.txt");
    assert!(blobs.get(&name, ..).await.unwrap().is_none());
    assert!(blobs.head(&name).await.unwrap().is_none());
    let options =
        PutOptions { content_type: Some("text/plain; charset=utf-8".into()), expires: None };
    blobs.put(&name, full("Hello"), options).await.unwrap();
    let details = blobs.head(&name).await.unwrap().unwrap();
    assert_eq!((details.length, details.expires), (5, None));
    assert_eq!(details.content_type, "text/plain; charset=utf-8");
    let blob = blobs.get(&name, ..).await.unwrap().unwrap();
    assert_eq!((&blob.details, blob.range.clone()), (&details, 0..5));
    assert_eq!(text(Some(blob)).await, "Hello");

    put_text(&blobs, "other", "x").await;
    let other = blobs.head(&key("other")).await.unwrap().unwrap();
    assert_eq!(other.content_type, DEFAULT_CONTENT_TYPE);
    let refused = PutOptions { content_type: Some("a\nb".into()), expires: None };
    assert!(blobs.put(&key("third"), full("x"), refused).await.is_err());
    assert!(blobs.head(&key("third")).await.unwrap().is_none());
}

pub(crate) async fn a_handle_with_a_prefix_reaches_no_other_blob(blobs: Blobs) {
    let (one, ones) = (blobs.with_prefix(&key("one")), blobs.with_prefix(&key("ones")));
    put_text(&blobs, "a", "nobody's").await;
    put_text(&one, "a", "one's").await;
    put_text(&ones, "a", "the other's").await;
    assert_eq!(text(one.get(&key("a"), ..).await.unwrap()).await, "one's");
    assert_eq!(text(blobs.get(&key("ones/a"), ..).await.unwrap()).await, "the other's");
    assert_eq!(keys(&one, "", None, 9).await, ["a"]);
    put_text(&one, "b/c", "x").await;
    assert_eq!(keys(&one, "", Some("a"), 9).await, ["b/c"]);
    assert_eq!(keys(&one, "b/", None, 9).await, ["b/c"]);
    assert_eq!(keys(&one, "../ones", None, 9).await, [""; 0]);
    assert_eq!(keys(&blobs, "", None, 9).await, ["a", "one/a", "one/b/c", "ones/a"]);
    one.delete(&key("a")).await.unwrap();
    assert!(ones.head(&key("a")).await.unwrap().is_some());
    // The longest keys are for every handle.
    let long = ["x".repeat(100), "/y".repeat(206)].concat();
    let deeper = one.with_prefix(&key(&"z".repeat(120)));
    put_text(&deeper, &long, "x").await;
    assert_eq!(keys(&deeper, "", None, 9).await, [long]);
}

pub(crate) async fn tags_tell_contents_apart(blobs: Blobs) {
    let tag = async |content| {
        put_text(&blobs, "a", content).await;
        let tag = blobs.head(&key("a")).await.unwrap().unwrap().tag.unwrap();
        let blob = blobs.get(&key("a"), 1..2).await.unwrap().unwrap();
        assert_eq!(blob.details.tag.as_ref(), Some(&tag));
        tag
    };
    let (one, other) = (tag("one").await, tag("other").await);
    assert_ne!(one, other);
    assert!(one.len() < 100, "{one}");
}

pub(crate) async fn parts_can_be_read(blobs: Blobs) {
    put_text(&blobs, "a", "0123456789").await;
    let a = key("a");
    assert_eq!(text(blobs.get(&a, 3..5).await.unwrap()).await, "34");
    assert_eq!(text(blobs.get(&a, 8..).await.unwrap()).await, "89");
    assert_eq!(text(blobs.get(&a, ..=1).await.unwrap()).await, "01");
    assert_eq!(text(blobs.get(&a, 8..100).await.unwrap()).await, "89");
    for (range, expected) in [(4..4, 4..4), (10..20, 10..10), (50..60, 10..10)] {
        let blob = blobs.get(&a, range).await.unwrap().unwrap();
        assert_eq!((blob.range.clone(), blob.details.length), (expected, 10));
        assert_eq!(text(Some(blob)).await, "");
    }
    assert!(blobs.get(&key("b"), 1..2).await.unwrap().is_none());

    let length = 10 * CHUNK_BYTES as u64 + 7;
    blobs.put(&a, Content::new(1, length), PutOptions::default()).await.unwrap();
    for range in [1..length, 0..CHUNK_BYTES as u64, 200_000..900_001, length - 1..length] {
        let blob = blobs.get(&a, range.clone()).await.unwrap().unwrap();
        assert_eq!(blob.range, range);
        check(blob, 1, length).await.unwrap();
    }
}

pub(crate) async fn a_put_replaces(blobs: Blobs) {
    let expires = Some(SystemTime::now() + Duration::from_secs(3600));
    let options = PutOptions { content_type: Some("text/css".into()), expires };
    blobs.put(&key("a"), Content::new(1, 300_000), options).await.unwrap();
    assert!(blobs.head(&key("a")).await.unwrap().unwrap().expires.is_some());
    put_text(&blobs, "a", "short").await;
    let details = blobs.head(&key("a")).await.unwrap().unwrap();
    assert_eq!((details.length, details.expires), (5, None));
    assert_eq!(details.content_type, DEFAULT_CONTENT_TYPE);
    assert_eq!(text(blobs.get(&key("a"), ..).await.unwrap()).await, "short");
}

pub(crate) async fn a_deleted_blob_is_gone(blobs: Blobs) {
    for name in ["a", "a/b", "a/c"] {
        put_text(&blobs, name, name).await;
    }
    blobs.delete(&key("a/b")).await.unwrap();
    blobs.delete(&key("a/b")).await.unwrap();
    blobs.delete(&key("never")).await.unwrap();
    assert!(blobs.get(&key("a/b"), ..).await.unwrap().is_none());
    assert!(blobs.head(&key("a/b")).await.unwrap().is_none());
    assert_eq!(keys(&blobs, "", None, 10).await, ["a", "a/c"]);
    blobs.delete(&key("a/c")).await.unwrap();
    assert_eq!(text(blobs.get(&key("a"), ..).await.unwrap()).await, "a");
    put_text(&blobs, "a/c", "new").await;
    assert_eq!(text(blobs.get(&key("a/c"), ..).await.unwrap()).await, "new");
}

pub(crate) async fn lists_are_in_order_and_have_pages(blobs: Blobs) {
    let mut names = [
        "a", "A", "a-b", "a.b", "a/b", "a/B", "a/b/c", "a/b.c", "a0", "ab/c/d/e", "b", "b/x",
        "B/x", ".x/y", "x./y", "_", "b-/1", "b/-",
    ];
    for name in names {
        put_text(&blobs, name, name).await;
    }
    names.sort_unstable();
    assert_eq!(keys(&blobs, "", None, 100).await, names);
    for prefix in ["a", "a/", "a/b", "a/b/", "A", "b/x", "nothing", "ab/c/d/e", "/", "=a"] {
        let expected: Vec<_> = names.into_iter().filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(keys(&blobs, prefix, None, 100).await, expected, "{prefix}");
    }
    for (at, after) in names.iter().enumerate() {
        assert_eq!(keys(&blobs, "", Some(after), 100).await, names[at + 1..], "{after}");
        assert_eq!(keys(&blobs, "", Some(after), 2).await, names[at + 1..names.len().min(at + 3)]);
    }
    assert_eq!(keys(&blobs, "a/", Some("a/b"), 100).await, ["a/b.c", "a/b/c"]);
    assert_eq!(keys(&blobs, "", Some("a/bb"), 1).await, ["a0"]);
    assert_eq!(keys(&blobs, "", None, 0).await, [""; 0]);
    let listed = blobs.list("ab/", None, 1).await.unwrap();
    assert_eq!(listed, [Listed { key: key("ab/c/d/e"), length: 8 }]);
}

pub(crate) async fn lists_of_any_keys_are_in_order(blobs: Blobs) {
    // The same numbers each time.
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut some_key = || -> String {
        let length = 1 + random(6);
        (0..length).map(|_| char::from(b"aAb.-_0/"[random(8) as usize])).collect()
    };
    let mut names: Vec<String> = Vec::new();
    while names.len() < 60 {
        let name = some_key();
        if name.parse::<Key>().is_ok() && !names.contains(&name) {
            put_text(&blobs, &name, "").await;
            names.push(name);
        }
    }
    names.sort_unstable();
    for _ in 0..40 {
        let (prefix, after) = (some_key(), some_key());
        let prefix = &prefix[..prefix.len() / 3];
        let Ok(after) = after.parse::<Key>() else { continue };
        let is_expected =
            |name: &&String| name.starts_with(prefix) && name.as_str() > after.as_str();
        let expected: Vec<_> = names.iter().filter(is_expected).take(7).collect();
        let found = keys(&blobs, prefix, Some(after.as_str()), 7).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix:?} after {after}");
    }
}

pub(crate) async fn an_expired_blob_is_not_served(blobs: Blobs) {
    let put = async |name: &str, expires| {
        let options = PutOptions { content_type: None, expires: Some(expires) };
        blobs.put(&key(name), full(name), options).await.unwrap();
    };
    let now = SystemTime::now();
    put("past/1", now - Duration::from_secs(300)).await;
    put("past/2", now - Duration::from_secs(300)).await;
    put("later", now + Duration::from_secs(3600)).await;
    put("kept", now - Duration::from_secs(300)).await;
    put("soon", now + Duration::from_millis(1500)).await;
    put_text(&blobs, "kept", "kept").await;
    put_text(&blobs, "forever", "x").await;
    for name in ["past/1", "past/2"] {
        assert!(blobs.get(&key(name), ..).await.unwrap().is_none());
        assert!(blobs.get(&key(name), 1..2).await.unwrap().is_none());
        assert!(blobs.head(&key(name)).await.unwrap().is_none());
    }
    let expires = blobs.head(&key("later")).await.unwrap().unwrap().expires.unwrap();
    assert!((now..now + Duration::from_secs(3602)).contains(&expires));
    assert_eq!(text(blobs.get(&key("kept"), ..).await.unwrap()).await, "kept");

    assert!(blobs.head(&key("soon")).await.unwrap().is_some());
    event_loop::time::sleep(Duration::from_millis(2600)).await;
    assert!(blobs.head(&key("soon")).await.unwrap().is_none());
    blobs.delete(&key("soon")).await.unwrap();

    let mut removed = 0;
    loop {
        let swept = blobs.remove_expired().await.unwrap();
        removed += swept.removed;
        if !swept.more {
            break;
        }
    }
    assert_eq!(removed, 2);
    assert_eq!(keys(&blobs, "", None, 10).await, ["forever", "kept", "later"]);
    assert_eq!(blobs.remove_expired().await.unwrap().removed, 0);
}

/// As by several machines that share a store.
pub(crate) async fn two_sweeps_at_once_are_harmless(blobs: Blobs) {
    let past = Some(SystemTime::now() - Duration::from_secs(300));
    for name in ["a", "b/c", "b/d", "kept"] {
        let options = PutOptions { content_type: None, expires: past };
        blobs.put(&key(name), full(name), options).await.unwrap();
    }
    put_text(&blobs, "kept", "kept").await;
    let sweeps: Vec<_> = (0..4)
        .map(|_| {
            let blobs = blobs.clone();
            event_loop::spawn(async move { blobs.remove_expired().await.unwrap().removed })
        })
        .collect();
    let mut removed = 0;
    for sweep in sweeps {
        removed += sweep.await;
    }
    assert!(removed >= 3, "{removed}");
    assert_eq!(keys(&blobs, "", None, 9).await, ["kept"]);
    assert_eq!(text(blobs.get(&key("kept"), ..).await.unwrap()).await, "kept");
}

pub(crate) async fn a_blob_may_be_empty(blobs: Blobs) {
    put_text(&blobs, "empty", "").await;
    assert_eq!(blobs.head(&key("empty")).await.unwrap().unwrap().length, 0);
    let blob = blobs.get(&key("empty"), ..).await.unwrap().unwrap();
    assert_eq!(blob.range, 0..0);
    assert_eq!(text(Some(blob)).await, "");
    assert_eq!(text(blobs.get(&key("empty"), 5..).await.unwrap()).await, "");
}

pub(crate) async fn lengths_around_the_sizes_of_pieces_and_parts(blobs: Blobs) {
    let name = key("a");
    for size in [CHUNK_BYTES as u64, 8 << 20, 16 << 20] {
        for length in [size - 1, size, size + 1] {
            blobs.put(&name, Content::new(2, length), PutOptions::default()).await.unwrap();
            check(blobs.get(&name, ..).await.unwrap().unwrap(), 2, length).await.unwrap();
        }
    }
}

pub(crate) async fn one_of_several_concurrent_puts_remains_whole(blobs: Blobs) {
    const LENGTH: u64 = 3_000_000;
    blobs.put(&key("a"), Content::new(0, LENGTH), PutOptions::default()).await.unwrap();
    let puts: Vec<_> = (1..=6)
        .map(|seed| {
            let blobs = blobs.clone();
            event_loop::spawn(async move {
                let content = Content::new(seed, LENGTH + u64::from(seed));
                blobs.put(&key("a"), content, PutOptions::default()).await.unwrap();
            })
        })
        .collect();
    let check_now = async || {
        let blob = blobs.get(&key("a"), ..).await.unwrap().unwrap();
        let length = blob.details.length;
        let seed = u8::try_from(length - LENGTH).unwrap();
        check(blob, seed, length).await.unwrap();
        seed
    };
    while !puts.iter().all(event_loop::Task::is_finished) {
        check_now().await;
    }
    assert!(check_now().await > 0);
}

pub(crate) async fn a_put_that_fails_or_is_cancelled_changes_nothing(blobs: Blobs) {
    put_text(&blobs, "old", "old").await;
    // Less than a part of a multipart upload, and more than one.
    for length in [0, 100_000, 9 << 20] {
        for name in ["old", "new"] {
            let content = Content::new(1, length).ending(End::Error);
            let error = blobs.put(&key(name), content, PutOptions::default()).await.unwrap_err();
            assert!(error.to_string().contains("the visitor left"), "{error}");

            // Polled until it waits for more content, which never comes.
            let content = Content::new(1, length).ending(End::Never);
            let name = key(name);
            let mut put = pin!(blobs.put(&name, content, PutOptions::default()));
            let patience = Duration::from_millis(if length > 1 << 20 { 1500 } else { 100 });
            assert!(event_loop::time::timeout(patience, &mut put).await.is_err());
        }
        assert_eq!(keys(&blobs, "", None, 10).await, ["old"]);
        assert_eq!(text(blobs.get(&key("old"), ..).await.unwrap()).await, "old");
    }
    // Dropped after its first poll.
    let name = key("new");
    let mut put = Box::pin(blobs.put(&name, Content::new(1, 1 << 20), PutOptions::default()));
    let polled = poll_fn(|context| Poll::Ready(put.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    drop(put);
    assert!(blobs.head(&name).await.unwrap().is_none());
}

pub(crate) async fn a_blob_replaced_or_deleted_meanwhile_is_read_to_its_end(blobs: Blobs) {
    const LENGTH: u64 = 5_000_000;
    for is_replaced in [true, false] {
        let name = key("a");
        blobs.put(&name, Content::new(1, LENGTH), PutOptions::default()).await.unwrap();
        let mut blob = blobs.get(&name, ..).await.unwrap().unwrap();
        let first = blob.body.frame().await.unwrap().unwrap().into_data().unwrap();
        blob.range.start += first.len() as u64;
        if is_replaced {
            put_text(&blobs, "a", "new").await;
        } else {
            blobs.delete(&name).await.unwrap();
        }
        check(blob, 1, LENGTH).await.unwrap();
    }
}

/// How much memory a put or get may need: a part of a multipart upload, and some pieces on their way.
const MEMORY: u64 = 12 << 20;

/// Not async, because it measures the loop's whole run.
pub(crate) fn memory_is_bounded_however_large_a_blob_is(blobs: &Blobs) {
    let is_long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some();
    let length = if is_long { 1 << 30 } else { 64 << 20 } + 12_345;
    let name = key("large");
    let measured = |what: &str, work: &mut dyn FnMut()| {
        let peak = allocation_counter::measure(work).bytes_max;
        println!("{what} of {length} bytes: {} KiB at most", peak >> 10);
        assert!(peak < MEMORY, "{what}: {peak} bytes");
    };
    measured("put", &mut || {
        let put = blobs.put(&name, Content::new(3, length), PutOptions::default());
        event_loop::run(put).unwrap().unwrap();
    });
    measured("get", &mut || {
        event_loop::run(async {
            let blob = blobs.get(&name, ..).await.unwrap().unwrap();
            check(blob, 3, length).await.unwrap();
        })
        .unwrap();
    });
    event_loop::run(blobs.delete(&name)).unwrap().unwrap();
}
