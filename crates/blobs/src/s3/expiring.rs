//! Which objects expire when: an empty object for each, named by the time and the key, so that a list has them in order.
//!
//! It is made before the blob, so that no blob is forgotten. It may be for one that was replaced since, or never made:
//! what counts is the blob's own time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::client::Call;
use super::failure::{Failure, element};
use super::part::Part;
use super::{META_EXPIRES, S3, text_of, upload};
use crate::blob::Swept;

/// How many objects one call looks at, with up to three requests for each.
const OBJECTS_A_CALL: usize = 100;

/// How long after the time an object is removed. So a clock that is a little ahead removes nothing that others serve.
const GRACE: Duration = Duration::from_secs(60);

/// The age at which a multipart upload belongs to no put, and nobody will finish it.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

/// Notes that an object expires.
pub(super) async fn note(s3: &S3, key: &str, seconds: u64) -> Result<(), Failure> {
    let name = format!("{}{seconds:011}/{key}", s3.expiring());
    let action = s3.bucket().put_object(Some(s3.credentials()), &name);
    s3.send(&Call::new(action).body(Part::default())).await?.text().await?;
    Ok(())
}

/// Removes the objects that have expired, the first ones first; then what killed puts have left.
pub(super) async fn sweep(s3: &S3) -> Result<Swept, Failure> {
    let mut swept = Swept::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - GRACE;
    let (notes, _) = s3.list_objects(s3.expiring(), None, OBJECTS_A_CALL).await?;
    swept.more = notes.len() == OBJECTS_A_CALL;
    for note in notes {
        let parsed = note.key.strip_prefix(s3.expiring()).and_then(|rest| rest.split_once('/'));
        let Some((Ok(seconds), key)) = parsed.map(|(seconds, key)| (seconds.parse(), key)) else {
            continue;
        };
        if seconds > now.as_secs() {
            swept.more = false;
            break;
        }
        swept.removed += usize::from(remove_if_expired(s3, key, seconds).await?);
        s3.delete_object(&note.key, None).await?;
    }
    if !swept.more {
        abort_abandoned(s3).await?;
    }
    Ok(swept)
}

/// Removes the object of a key if it is the one that expires at that time.
async fn remove_if_expired(s3: &S3, key: &str, seconds: u64) -> Result<bool, Failure> {
    let object = s3.object(key);
    let Some(head) = s3.head_object(&object).await? else { return Ok(false) };
    if text_of(&head, META_EXPIRES) != Some(&seconds.to_string()) {
        return Ok(false);
    }
    // A put may just have replaced it.
    let etag = text_of(&head, "etag").map(str::to_owned);
    match s3.delete_object(&object, etag.as_deref()).await {
        Err(Failure::Refused(refusal)) if refusal.status == StatusCode::PRECONDITION_FAILED => {
            Ok(false)
        }
        // Not every store knows the condition.
        Err(Failure::Refused(refusal)) if refusal.status == StatusCode::NOT_IMPLEMENTED => {
            s3.delete_object(&object, None).await.map(|()| true)
        }
        done => done.map(|()| true),
    }
}

/// Aborts multipart uploads of killed processes.
async fn abort_abandoned(s3: &S3) -> Result<(), Failure> {
    // The object without a name is the bucket itself. rusty-s3 has no action for this list.
    let mut action = s3.bucket().get_object(Some(s3.credentials()), "");
    let query = rusty_s3::S3Action::query_mut(&mut action);
    query.insert("max-uploads", OBJECTS_A_CALL.to_string());
    query.insert("prefix", s3.object(""));
    query.insert("uploads", "");
    let list = s3.send(&Call::new(action)).await?.text().await?;
    let latest = Timestamp::now() - ABANDONED;
    for upload in list.split("<Upload>").skip(1) {
        let fields =
            (element(upload, "Key"), element(upload, "UploadId"), element(upload, "Initiated"));
        if let (Some(object), Some(id), Some(initiated)) = fields
            && initiated.parse::<Timestamp>().is_ok_and(|initiated| initiated < latest)
        {
            upload::try_to_abort(s3, object, id).await;
        }
    }
    Ok(())
}
