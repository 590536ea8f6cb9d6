//! Every system call of a put, an upload and a delete fails once; and an account without rights.

use std::fs;
use std::num::NonZeroU16;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use blobs::{BlobError, BlobSettings, Blobs, Key, PutOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

const FOLDER: &str = "TEST_BLOBS";

/// Set if the blob is to be uploaded in parts.
const UPLOAD: &str = "TEST_UPLOAD";

/// Larger than a few pieces.
const NEW_BYTES: usize = 300_000;

fn open(folder: &Path) -> Blobs {
    Blobs::open(&BlobSettings::Folder(folder.to_owned())).unwrap()
}

fn key() -> Key {
    "a/b/c".parse().unwrap()
}

async fn put(blobs: &Blobs, bytes: Vec<u8>) -> Result<(), BlobError> {
    blobs.put(&key(), Full::from(Bytes::from(bytes)), PutOptions::default()).await
}

async fn upload(blobs: &Blobs, bytes: Vec<u8>) -> Result<(), BlobError> {
    let (key, length) = (key(), bytes.len() as u64);
    let id = blobs.begin_upload(&key, PutOptions::default()).await?;
    let content = Full::from(Bytes::from(bytes));
    blobs.put_part(&key, &id, NonZeroU16::MIN, content).await?;
    blobs.finish_upload(&key, &id, length).await
}

async fn read(blobs: &Blobs) -> Option<Bytes> {
    let blob = blobs.get(&key(), ..).await.unwrap()?;
    Some(blob.body.collect().await.unwrap().to_bytes())
}

/// Deletes the blob and puts another one. Exits with 1 if the delete failed, with 2 if the put did, both with one line.
pub(crate) fn replacer() {
    let blobs = open(Path::new(&std::env::var_os(FOLDER).unwrap()));
    let code = event_loop::run(async {
        if let Err(error) = blobs.delete(&key()).await {
            eprintln!("{error}");
            return 1;
        }
        let bytes = vec![b'n'; NEW_BYTES];
        let stored = match std::env::var_os(UPLOAD) {
            None => put(&blobs, bytes).await,
            Some(_) => upload(&blobs, bytes).await,
        };
        match stored {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                2
            }
        }
    });
    std::process::exit(code.unwrap());
}

pub(crate) fn after_any_failed_call_nothing_is_half_there() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("blobs");
    let blobs = open(&folder);
    let itself = std::env::current_exe().unwrap();
    let (mut failed, mut disks) = (0, 0);
    for (call, errno, times) in [
        ("write", "ENOSPC", 8),
        ("write", "EIO", 4),
        ("fsync", "EIO", 8),
        ("fdatasync", "EDQUOT", 2),
        ("rename", "ENOSPC", 2),
        ("mkdir", "ENOSPC", 8),
        ("unlink", "EROFS", 2),
        ("unlinkat", "EIO", 2),
        ("fchmod", "EPERM", 2),
        ("getrandom", "EIO", 4),
    ] {
        // An upload makes three files.
        let rows =
            (1..=times).map(|nth| (nth, false)).chain((1..=3 * times).map(|nth| (nth, true)));
        for (nth, by_upload) in rows {
            let old = event_loop::run(async {
                put(&blobs, b"old".to_vec()).await.unwrap();
                read(&blobs).await
            });
            let mut strace = Command::new("strace");
            strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            strace.args(["-e", &format!("inject={call}:error={errno}:when={nth}")]).arg(&itself);
            strace.env(case_runner::CASE, "replacer").env(FOLDER, &folder);
            if by_upload {
                strace.env(UPLOAD, "1");
            }
            let output = strace.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let what = format!(
                "{errno} from {call} number {nth}, upload {by_upload}: {:?} {said}",
                output.status
            );
            let found = event_loop::run(read(&blobs)).unwrap();
            match output.status.code() {
                Some(0) => assert!(found.is_some_and(|it| *it == [b'n'; NEW_BYTES]), "{what}"),
                Some(1) => assert_eq!(found, old.unwrap(), "{what}"),
                Some(2) => assert_eq!(found, None, "{what}"),
                // Opening the store failed, or the program did not even start.
                _ => assert!(found == old.unwrap() || found.is_none(), "{what}"),
            }
            if let Some(1 | 2) = output.status.code() {
                assert_eq!(said.lines().count(), 1, "{what}");
                failed += 1;
                disks += usize::from(said.contains("quota is full; free some space"));
            }
            remove_uploads(&folder.join("incoming"), &what);
            let left = fs::read_dir(folder.join("incoming")).unwrap().count();
            assert_eq!(left, 0, "{what}");
        }
    }
    assert!(failed >= 10 && disks >= 4, "{failed} failed, {disks} of them for lack of space");
}

/// Uploads that have failed are left to be continued, but with whole files only.
fn remove_uploads(incoming: &Path, what: &str) {
    for upload in fs::read_dir(incoming).unwrap().map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(&upload).unwrap() {
            let name = file.unwrap().file_name();
            assert!(name == "blob" || name == "1", "{what}: {}", name.display());
        }
        fs::remove_dir_all(&upload).unwrap();
    }
}

pub(crate) fn what_another_account_owns_is_named() {
    // Only root can give folders away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = outer.path().join("blobs");
    let blobs = open(&folder);
    event_loop::run(put(&blobs, b"old".to_vec())).unwrap().unwrap();
    // As after a command that root has run: the site's account is another.
    chown(&folder, Some(4242), Some(4242)).unwrap();
    let (group, user) = (Gid::from_raw(4242), Uid::from_raw(4242));
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
    event_loop::run(async {
        let errors = [
            put(&blobs, b"new".to_vec()).await.unwrap_err(),
            blobs.head(&key()).await.unwrap_err(),
            blobs.delete(&key()).await.unwrap_err(),
            blobs.list("", None, 1).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, BlobError::Denied { owner: 0, .. }), "{error:?}");
            assert!(
                error.to_string().contains("make the account that the site runs as"),
                "{error}"
            );
        }
    })
    .unwrap();
}
