//! What is watched: the identity of files, and a snapshot of all of them.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files to watch.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) launcher: Option<PathBuf>,
    pub(crate) program: PathBuf,
    /// The configuration, for example. Part of a version; each may be missing.
    pub(crate) others: Vec<PathBuf>,
}

/// One of the two versions on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one at the program's path.
    Installed,
    /// The one that has arrived beside it.
    Arriving,
}

/// What follows the program's name in that of a version that has arrived beside it.
pub const ARRIVING_SUFFIX: &str = ".new";

/// What follows the program's name in that of the version before.
pub const PREVIOUS_SUFFIX: &str = ".previous";

impl Paths {
    pub(crate) fn of(&self, version: Version) -> PathBuf {
        match version {
            Version::Installed => self.program.clone(),
            Version::Arriving => with_suffix(&self.program, ARRIVING_SUFFIX),
        }
    }

    /// Where the previous version is kept.
    pub(crate) fn previous(&self) -> PathBuf {
        with_suffix(&self.program, PREVIOUS_SUFFIX)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    changed: (i64, i64),
    modified: (i64, i64),
}

/// Gaining or losing a hard link changes only the ctime: that is not a change of the file.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.device, it.inode, it.size, it.mode, it.modified);
        of(self) == of(other)
    }
}

impl Eq for Identity {}

impl Identity {
    pub(crate) fn of(path: &Path) -> Option<Identity> {
        fs::metadata(path).ok().map(|metadata| Identity::from(&metadata))
    }

    /// Returns the length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Identifies the file regardless of its contents.
    pub(crate) fn file(&self) -> String {
        format!("{}-{}", self.device, self.inode)
    }

    /// An identity that no real file has: file `inode`, last modified at `modified`.
    #[cfg(test)]
    pub(crate) fn fake(inode: u64, modified: i64) -> Identity {
        let time = (modified, 0);
        Identity { device: 1, inode, size: 9, mode: 0o755, changed: time, modified: time }
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// All watched files at one moment; `None` for a missing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) launcher: Option<Identity>,
    pub(crate) program: Option<Identity>,
    pub(crate) arriving: Option<Identity>,
    pub(crate) others: Vec<Option<Identity>>,
}

impl Snapshot {
    pub(crate) fn take(paths: &Paths) -> Snapshot {
        Snapshot {
            launcher: paths.launcher.as_deref().and_then(Identity::of),
            program: Identity::of(&paths.program),
            arriving: Identity::of(&paths.of(Version::Arriving)),
            others: paths.others.iter().map(|path| Identity::of(path)).collect(),
        }
    }

    /// Names a version together with the other files in their current state; the file name of its
    /// verdict. `None` if there is no such version.
    pub(crate) fn key(&self, version: Version) -> Option<String> {
        let program = match version {
            Version::Installed => self.program,
            Version::Arriving => self.arriving,
        };
        program?;
        let mut key = String::new();
        for part in [program].iter().chain(&self.others) {
            match part {
                Some(it) => {
                    let _ = write!(
                        key,
                        "{:x}-{:x}-{:x}.{:x}-{:x}.{:x}_",
                        it.inode, it.size, it.modified.0, it.modified.1, it.changed.0, it.changed.1
                    );
                }
                None => key.push_str("none_"),
            }
        }
        key.pop();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        fs::write(folder.join("program"), "one").unwrap();
        Paths {
            launcher: Some(folder.join("launcher")),
            program: folder.join("program"),
            others: vec![folder.join("configuration")],
        }
    }

    #[test]
    fn a_key_covers_all_files_that_were_checked() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let key = || Snapshot::take(&paths).key(Version::Installed).unwrap();
        let first = key();
        assert!(first.ends_with("_none"), "{first}");
        assert_eq!(key(), first);
        // The launcher is not part of a version.
        fs::write(folder.path().join("launcher"), "").unwrap();
        assert_eq!(key(), first);
        fs::write(folder.path().join("configuration"), "a = 1").unwrap();
        let second = key();
        assert_ne!(second, first);
        fs::write(folder.path().join("another"), "one").unwrap();
        fs::rename(folder.path().join("another"), folder.path().join("program")).unwrap();
        assert_ne!(key(), second, "same size, different file");
        assert_eq!(Snapshot::take(&paths).key(Version::Arriving), None);
        assert!(key().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
    }

    #[test]
    fn a_hard_link_is_not_a_change_but_a_mode_is() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let before = Snapshot::take(&paths);
        fs::hard_link(folder.path().join("program"), folder.path().join("same")).unwrap();
        assert_eq!(Snapshot::take(&paths), before);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path().join("program"), mode).unwrap();
        assert_ne!(Snapshot::take(&paths), before);
    }
}
