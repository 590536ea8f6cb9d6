//! Which file a path names.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it is, whatever path leads to it. A later file may get the identity of one that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// Identifies the file at `path`, following links; `None` if there is none, or it cannot be examined.
    pub fn of(path: &Path) -> Option<FileIdentity> {
        fs::metadata(path).ok().map(|found| FileIdentity::from(&found))
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(found: &Metadata) -> Self {
        FileIdentity { device: found.dev(), inode: found.ino() }
    }
}
