//! A file before it has its name: the temporary file, how it is named, and how it becomes the target.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempPath};

use crate::{Durability, sync_folder};

/// How many letters and digits at the end of the temporary name vary until there is no such file. They follow 64 bits
/// of the system's randomness.
const TRIED_CHARACTERS: usize = 6;

/// A longer file name is left out of the temporary name, which is limited to 255 bytes.
const MAX_NAME_BYTES: usize = 200;

/// A file that is still being written, under a temporary name and with mode 600. Dropping it removes it; a process that
/// is killed leaves it behind.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
}

impl Draft {
    /// Creates an empty one in `folder`. Its name is `.NAME.` with random letters and digits, without a NAME of more than
    /// 200 bytes.
    ///
    /// # Errors
    ///
    /// Any from the file system, or from the system's random source.
    pub fn create_in(folder: &Path, name: &OsStr) -> io::Result<Draft> {
        let mut prefix = OsString::from(".");
        prefix.push(if name.len() <= MAX_NAME_BYTES { name } else { OsStr::new("tmp") });
        prefix.push(format!(".{:016x}", getrandom::u64().map_err(system_error)?));
        let mut builder = Builder::new();
        builder.prefix(&prefix).rand_bytes(TRIED_CHARACTERS);
        Ok(Draft { file: builder.tempfile_in(folder)? })
    }

    /// Returns the file to write to, at its start at first.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the complete file its mode and its name, which may be in another folder of the same file system, and
    /// replaces what has that name.
    ///
    /// # Errors
    ///
    /// Any from the file system. The target is unchanged then, and the call may be repeated.
    pub fn replace(&mut self, path: &Path, mode: u32, durability: Durability) -> io::Result<()> {
        self.complete(mode, durability)?;
        fs::rename(self.file.path(), path)?;
        self.file.disable_cleanup(true);
        sync_folder(path, durability);
        Ok(())
    }

    pub(crate) fn complete(&mut self, mode: u32, durability: Durability) -> io::Result<()> {
        self.file().set_permissions(Permissions::from_mode(mode))?;
        match durability {
            Durability::Synced => self.file().sync_all(),
            Durability::Cached => Ok(()),
        }
    }

    pub(crate) fn close(self) -> TempPath {
        self.file.into_temp_path()
    }
}

/// Converts to an error with the system's message: `getrandom` only shows the number.
fn system_error(error: getrandom::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_draft_becomes_the_file_or_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let (drafts, files) = (outer.path().join("drafts"), outer.path().join("files"));
        fs::create_dir(&drafts).unwrap();

        let mut draft = Draft::create_in(&drafts, OsStr::new("name")).unwrap();
        draft.file().write_all(b"one, ").unwrap();
        assert_eq!(draft.file().metadata().unwrap().mode() & 0o7777, 0o600);
        let target = files.join("target");
        let missing = draft.replace(&target, 0o640, Durability::Synced).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        // It is still there, and can still be written to.
        draft.file().write_all(b"two").unwrap();
        fs::create_dir(&files).unwrap();
        draft.replace(&target, 0o640, Durability::Synced).unwrap();
        drop(draft);
        assert_eq!(fs::read(&target).unwrap(), b"one, two");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);

        let mut dropped = Draft::create_in(&drafts, OsStr::new("name")).unwrap();
        dropped.file().write_all(b"three").unwrap();
        drop(dropped);
        assert_eq!((count(&drafts), count(&files)), (0, 1));
    }
}
