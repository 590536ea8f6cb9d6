//! The folder and the files that the login and the store trust: only if no other account can have created them, and
//! opened without ever blocking.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use atomic_file::{Access, close_to_others, folder_of, lets_others_replace};

use crate::error::StoreError;

/// Refuses anything that exists but is not a regular file, without opening it: for files that SQLite opens.
pub(crate) fn refuse_odd(file: &Path) -> Result<(), StoreError> {
    let found = match fs::metadata(file) {
        Ok(found) => is_regular(found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    found.map_err(|error| StoreError::file(file, error))
}

fn is_regular(is_file: bool) -> io::Result<()> {
    let odd = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; remove it");
    is_file.then_some(()).ok_or_else(odd)
}

/// Whose folder is used: its owner can choose the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// That of this account or of root, for a process that serves visitors.
    #[default]
    OwnAccount,
    /// Anybody's, for a command that root runs on behalf of the owner.
    FolderOwner,
}

impl Trust {
    /// For a command: as root on behalf of the owner, otherwise for this account.
    pub fn of_command() -> Trust {
        match rustix::process::geteuid().is_root() {
            true => Trust::FolderOwner,
            false => Trust::OwnAccount,
        }
    }
}

/// Makes sure that the folder of a file exists and that no other account can create files in it: creates it (0700), or
/// tightens its permissions. An account that can create files there can replace the store or the key.
///
/// # Errors
///
/// If it cannot be created, or is open to others and cannot be tightened ([`StoreError::Exposed`]); if folder or file
/// belong to another account ([`StoreError::ForeignFolder`], [`StoreError::Foreign`]).
pub fn private_folder_of(file: &Path, trust: Trust) -> Result<(), StoreError> {
    let folder = folder_of(file);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| StoreError::file(folder, error))?;
    close_folder_of(file, trust)
}

/// Like [`private_folder_of`], for a folder that may be missing and is not created.
///
/// # Errors
///
/// As for [`private_folder_of`].
pub fn close_folder_of(file: &Path, trust: Trust) -> Result<(), StoreError> {
    let folder = folder_of(file);
    match close_to_others(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::file(folder, error)),
        Ok(Access::Private) => {}
        Ok(Access::Foreign(_)) if trust == Trust::FolderOwner => {}
        Ok(Access::Foreign(account)) => {
            return Err(StoreError::ForeignFolder { folder: folder.to_owned(), account });
        }
        Ok(Access::Tightened) => tracing::warn!(
            folder = %folder.display(),
            "Folder was writable by other accounts; permissions tightened. If you don't trust them, do not restore a \
             backup from it, delete a secret.key in it, and set the password again."
        ),
        Ok(Access::Open(mode)) => {
            return Err(StoreError::Exposed { folder: folder.to_owned(), mode });
        }
    }
    refuse_foreign(file)
}

/// Refuses a file that belongs neither to this account nor to the folder's.
///
/// # Errors
///
/// [`StoreError::Foreign`]; if the folder cannot be examined.
pub(crate) fn refuse_foreign(file: &Path) -> Result<(), StoreError> {
    let folder = folder_of(file);
    let own = rustix::process::geteuid().as_raw();
    let folders = fs::metadata(folder).map_err(|error| StoreError::file(folder, error))?.uid();
    match fs::symlink_metadata(file) {
        Ok(found) if ![folders, own].contains(&found.uid()) => {
            Err(StoreError::Foreign(file.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses to write a file into a folder that is missing or closed to this account.
///
/// # Errors
///
/// [`StoreError::Target`].
pub(crate) fn refuse_unwritable(file: &Path) -> Result<(), StoreError> {
    let folder = folder_of(file);
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let refused = |error: io::Error| StoreError::Target { folder: folder.to_owned(), error };
    let is_folder = fs::metadata(folder).map_err(refused)?.is_dir();
    if !is_folder {
        return Err(refused(io::ErrorKind::NotADirectory.into()));
    }
    rustix::fs::access(folder, needed).map_err(|error| refused(error.into()))
}

/// Refuses to write a file where another account could replace it.
///
/// # Errors
///
/// [`StoreError::Replaceable`].
pub(crate) fn refuse_replaceable(file: &Path) -> Result<(), StoreError> {
    let folder = folder_of(file);
    match lets_others_replace(folder) {
        Some(mode) => {
            // "." would not name it.
            let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            Err(StoreError::Replaceable { folder, mode })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::Store;
    use crate::testing::{block_on, store_at};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(store: &Store) -> Result<i64, StoreError> {
        let count = "SELECT count(*) FROM facts";
        block_on(store.read(async |store| store.query_one(count, &[]).await))
    }

    /// Opening a pipe for reading blocks until there is a writer. A test that hangs explains nothing, so this one
    /// waits in a thread.
    fn within_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || done.send(work()));
        result.recv_timeout(Duration::from_secs(20)).expect("it waits for the pipe")
    }

    #[test]
    fn a_pipe_instead_of_a_file_is_refused_without_blocking() {
        for name in ["toolshed.db", "toolshed.db-journal"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            if name.ends_with("-journal") {
                names(&store_at(folder.path().join("toolshed.db"))).unwrap();
                // SQLite leaves an empty one.
                let _ = fs::remove_file(&file);
            }
            mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let store = store_at(folder.path().join("toolshed.db"));
            let said = within_time(move || names(&store));
            let said = said.unwrap_err().to_string();
            assert!(
                said.contains(name) && said.ends_with("not a regular file; remove it"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_folder_writable_by_others_is_made_private() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("data");
        for open in [0o777, 0o770, 0o757] {
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(open)).unwrap();
            names(&store_at(folder.join("toolshed.db"))).unwrap();
            assert_eq!(mode(&folder), open & 0o7755, "{open:o}");
            fs::set_permissions(&folder, fs::Permissions::from_mode(open)).unwrap();
            private_folder_of(&folder.join("secret.key"), Trust::default()).unwrap();
            assert_eq!(mode(&folder), open & 0o7755, "{open:o}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        names(&store_at(folder.join("toolshed.db"))).unwrap();
        assert_eq!(mode(&folder), 0o755, "reading it does no harm");
    }

    #[test]
    fn a_folder_that_cannot_be_made_private_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let everybodys = folder.path().join("tmp");
        fs::create_dir(&everybodys).unwrap();
        fs::set_permissions(&everybodys, fs::Permissions::from_mode(0o1777)).unwrap();
        let store = store_at(everybodys.join("toolshed.db"));
        let key = private_folder_of(&everybodys.join("secret.key"), Trust::default());
        for said in [names(&store).map(drop), key] {
            let said = said.unwrap_err().to_string();
            assert!(said.contains("mode 1777") && said.contains("set data to"), "{said}");
            // A neighbor may have created one there already.
            let inside = format!("{}/", everybodys.display());
            assert!(!said.contains(&inside), "{said}");
            assert_eq!(mode(&everybodys), 0o1777, "it is not ours to close");
        }
        // A folder that another account has filled.
        if rustix::process::geteuid().is_root() {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("toolshed.db");
            names(&store_at(&file)).unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            for path in [folder.path(), &file] {
                chown(path, Some(4242), None).unwrap();
            }
            let key = private_folder_of(&folder.path().join("secret.key"), Trust::default());
            for said in [names(&store_at(&file)).map(drop), key] {
                let said = said.unwrap_err().to_string();
                assert!(said.contains("uid 4242") && said.contains("set data to"), "{said}");
            }
        }
        // A file of another account in our folder.
        if rustix::process::geteuid().is_root() {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("secret.key");
            fs::write(&file, [7; 64]).unwrap();
            chown(&file, Some(4242), None).unwrap();
            let said = private_folder_of(&file, Trust::default()).unwrap_err();
            assert!(matches!(said, StoreError::Foreign(_)), "{said}");
            assert!(said.to_string().contains("remove it"), "{said}");
        }
    }

    #[test]
    fn only_files_of_this_account_or_of_the_folders_are_used() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        use Trust::{FolderOwner, OwnAccount};
        let own = rustix::process::geteuid().as_raw();
        let target = tempfile::NamedTempFile::new().unwrap();
        for (folders, files, trust, is_taken) in [
            (own, own, OwnAccount, true),
            (own, 4242, OwnAccount, false),
            (own, 4242, FolderOwner, false),
            // Root serves from a folder that another account has created.
            (4242, 4242, OwnAccount, false),
            (4242, own, OwnAccount, false),
            // Root in the shell, for the site's account.
            (4242, 4242, FolderOwner, true),
            (4242, own, FolderOwner, true),
            (4242, 4243, FolderOwner, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (file, link) = (folder.path().join("a"), folder.path().join("b"));
            fs::write(&file, "").unwrap();
            // The owner of a link chooses what is read.
            symlink(target.path(), &link).unwrap();
            chown(folder.path(), Some(folders), None).unwrap();
            for path in [file, link] {
                lchown(&path, Some(files), None).unwrap();
                let taken = close_folder_of(&path, trust);
                assert_eq!(
                    taken.is_ok(),
                    is_taken,
                    "{} {folders} {files} {trust:?}: {taken:?}",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn a_journal_of_another_account_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for name in ["toolshed.db", "toolshed.db-journal", "toolshed.db-wal", "toolshed.db-shm"] {
            let folder = tempfile::tempdir().unwrap();
            let store = store_at(folder.path().join("toolshed.db"));
            names(&store).unwrap();
            drop(store);
            let file = folder.path().join(name);
            fs::OpenOptions::new().append(true).create(true).open(&file).unwrap();
            chown(&file, Some(4242), None).unwrap();
            let said = names(&store_at(folder.path().join("toolshed.db"))).unwrap_err();
            assert!(matches!(said, StoreError::Foreign(_)), "{name}: {said}");
            assert!(said.to_string().contains(name), "{said}");
        }
    }
}
