//! The lock between those who give a file its name and those who remove an expired one: between looking at a file and
//! removing it, no other may take its place. Within a process nothing is awaited meanwhile; this is for several.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// A held lock. Dropping it releases it.
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

/// Waits until no expired file is being removed. `None` where locks are not supported, or if the lock cannot be had
/// within a second: then an expired blob that is replaced at this very moment may take its successor with it.
pub(super) async fn shared(folder: &Path) -> Option<Lock> {
    let file = open(folder).ok()?;
    for _ in 0..100 {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Some(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                event_loop::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => return None,
        }
    }
    None
}

/// Takes the lock for removing; `WouldBlock` if a file is just being given its name.
pub(super) fn exclusive(folder: &Path) -> io::Result<Option<Lock>> {
    let file = open(folder)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        // Not supported here.
        Err(_) => Ok(None),
    }
}

fn open(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))
}
