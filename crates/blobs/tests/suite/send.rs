//! Every future is `Send`, so that handlers that await it are, as axum requires. The compiler checks this file.

use std::num::NonZeroU16;
use std::time::Duration;

use blobs::{Blob, BlobError, Blobs, Key, PutOptions, UploadId};
use bytes::Bytes;
use http_body_util::Full;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn value_is_send(_: impl Send) {}

#[test]
fn handles_and_their_futures_are_send() {
    is_send::<Blobs>();
    is_sync::<Blobs>();
    is_send::<Blob>();
    is_send::<BlobError>();
    is_sync::<BlobError>();
    fn futures(blobs: &Blobs, key: &Key, upload: &UploadId) {
        let content = Full::from(Bytes::new());
        value_is_send(blobs.put(key, content.clone(), PutOptions::default()));
        value_is_send(blobs.get(key, ..));
        value_is_send(blobs.head(key));
        value_is_send(blobs.delete(key));
        value_is_send(blobs.list("", Some(key), 1));
        value_is_send(blobs.remove_expired());
        value_is_send(blobs.presigned_get(key, Duration::ZERO, None));
        value_is_send(blobs.begin_upload(key, PutOptions::default()));
        value_is_send(blobs.put_part(key, upload, NonZeroU16::MIN, content));
        value_is_send(blobs.finish_upload(key, upload, 0));
        value_is_send(blobs.cancel_upload(key, upload));
    }
    let _ = futures;
}
