//! Removing what has expired, and what killed puts have left: a bounded number of files in each call.

use std::fs::{self, File};
use std::io;
use std::time::{Duration, SystemTime};

use super::walk::Walk;
use super::{DRAFT, Folder, PAUSE, footer, lock, parts};
use crate::blob::Swept;
use crate::key::Key;

/// How many blobs one call looks at. Each is opened: about 20 ms in all, with pauses.
const BLOBS_A_CALL: usize = 1000;

/// The age since the last write at which a file in `incoming` belongs to no put, and an upload is given up: a visitor who
/// sends nothing for that long is long gone.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at the blobs after those of the last call.
pub(super) async fn sweep(folder: &Folder) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let mut last = take_position(folder);
    if last.is_none() {
        remove_abandoned(folder).await?;
    }
    let mut walk = Walk::new(&folder.shared.stored, "", last.as_ref());
    for count in 1..=BLOBS_A_CALL {
        if count % PAUSE == 0 {
            event_loop::yield_now().await;
        }
        let Some(key) = walk.next().await? else { return Ok(swept) };
        match remove_if_expired(folder, &key) {
            Ok(true) => swept.removed += 1,
            Ok(false) => {}
            // Deleted meanwhile, or another process gives a file its name: the next sweep sees it again.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        last = Some(key);
    }
    swept.more = true;
    *position(folder) = last;
    Ok(swept)
}

fn remove_if_expired(folder: &Folder, key: &Key) -> io::Result<bool> {
    let path = folder.path_of(key);
    let is_expired = || {
        let footer = footer::read(&File::open(&path)?)?;
        // A damaged blob stays: its owner should see it.
        io::Result::Ok(footer.is_some_and(|footer| footer.details.is_expired()))
    };
    if !is_expired()? {
        return Ok(false);
    }
    let _lock = lock::exclusive(&folder.shared.folder)?;
    // It may have been replaced before the lock was taken.
    let is_expired = is_expired()?;
    if is_expired {
        folder.remove(&path)?;
    }
    Ok(is_expired)
}

/// Removes the files of puts whose process was killed, and uploads that nobody has finished.
async fn remove_abandoned(folder: &Folder) -> io::Result<()> {
    let start = format!(".{DRAFT}.");
    for (count, entry) in fs::read_dir(&folder.shared.incoming)?.take(BLOBS_A_CALL).enumerate() {
        if count % PAUSE == 0 {
            event_loop::yield_now().await;
        }
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // What cannot be examined has just been given its name.
        let Ok(modified) = entry.metadata().and_then(|found| found.modified()) else { continue };
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        if age <= ABANDONED {
            continue;
        }
        // Another process may have removed it.
        if name.starts_with(&start) {
            let _ = fs::remove_file(entry.path());
        } else if name.starts_with(parts::PREFIX) {
            let _ = parts::remove(&entry.path()).await;
        }
    }
    Ok(())
}

fn take_position(folder: &Folder) -> Option<Key> {
    position(folder).take()
}

fn position(folder: &Folder) -> std::sync::MutexGuard<'_, Option<Key>> {
    folder.shared.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
