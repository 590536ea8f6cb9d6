//! The site's own secret: `secret.key`, from which every key for cookies and tokens is derived.
//!
//! It is created when first needed, with mode 0600 and in one step, so that processes that start together all use the
//! same one. Removing it ends every session.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use atomic_file::{Durability, read_small};
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use storage::{StoreError, Trust, close_folder_of, private_folder_of};

use crate::random::random;

/// The file's length.
const KEY_BYTES: usize = 64;

/// Keys, each for one purpose.
pub(crate) struct Secrets {
    /// For cookies that only we can read and write.
    pub(crate) cookies: cookie::Key,
    macs: hmac::Key,
}

impl Secrets {
    /// Reads the key from this file, and creates it if it is missing.
    pub(crate) fn load(file: &Path, trust: Trust) -> Result<Secrets, StoreError> {
        private_folder_of(file, trust)?;
        match Secrets::load_or_new(file, trust)? {
            (secrets, None) => Ok(secrets),
            (_, Some(new)) => {
                new.keep()?;
                // Another process may have been faster.
                Ok(Secrets::load_or_new(file, trust)?.0)
            }
        }
    }

    /// Reads the key from this file; if it is missing, generates one that is not in a file yet.
    pub(crate) fn load_or_new(
        file: &Path,
        trust: Trust,
    ) -> Result<(Secrets, Option<NewKey>), StoreError> {
        let at_file = |error| StoreError::File { path: file.to_owned(), error };
        close_folder_of(file, trust)?;
        match read(file) {
            Ok(key) => Ok((Secrets::derive(&key), None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = random().map_err(|error| at_file(io::Error::other(error)))?;
                let new = NewKey { bytes, file: file.to_owned(), trust };
                Ok((Secrets::derive(&new.bytes), Some(new)))
            }
            Err(error) => Err(at_file(error)),
        }
    }

    /// The secrets of a key that a test chooses.
    #[cfg(test)]
    pub(crate) fn of_key(key: &[u8; KEY_BYTES]) -> Secrets {
        Secrets::derive(key)
    }

    fn derive(key: &[u8]) -> Secrets {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        let halves = [derive("cookies, signing"), derive("cookies, encryption")];
        Secrets {
            cookies: cookie::Key::from(&[halves[0].as_ref(), halves[1].as_ref()].concat()),
            macs: hmac::Key::new(hmac::HMAC_SHA256, derive("codes").as_ref()),
        }
    }

    /// Returns what only we can compute of these bytes, for this purpose and no other.
    pub(crate) fn mac(&self, purpose: &str, bytes: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.macs);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        context.sign().as_ref().to_vec()
    }

    /// Like [`Secrets::mac`], as text for a form or a URL.
    pub(crate) fn code(&self, purpose: &str, bytes: &[u8]) -> String {
        BASE64URL_NOPAD.encode(&self.mac(purpose, bytes))
    }

    /// Encrypts what the store keeps but a copy of it must not reveal (AES-256-GCM, like cookies), only for
    /// this purpose: a name that no cookie has.
    pub(crate) fn seal(&self, purpose: &'static str, text: &str) -> String {
        let mut jar = cookie::CookieJar::new();
        jar.private_mut(&self.cookies).add((purpose, text.to_owned()));
        jar.get(purpose).map_or(String::new(), |sealed| sealed.value().to_owned())
    }

    /// Returns what was sealed; `None` if it was sealed with another key or is not ours.
    pub(crate) fn open(&self, purpose: &'static str, sealed: &str) -> Option<String> {
        let sealed = cookie::Cookie::new(purpose, sealed.to_owned());
        let opened = cookie::CookieJar::new().private(&self.cookies).decrypt(sealed);
        opened.map(|opened| opened.value().to_owned())
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let wrong = || {
        let why = format!("expected {KEY_BYTES} bytes; remove it and a new key will be created");
        io::Error::other(why)
    };
    let (opened, key) = match read_small(file, KEY_BYTES as u64) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(wrong()),
        read => read?,
    };
    if key.len() != KEY_BYTES {
        return Err(wrong());
    }
    if opened.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "Secret key was readable by other accounts; permissions tightened.");
        opened.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(key)
}

/// A key that is not in its file yet.
pub(crate) struct NewKey {
    bytes: [u8; KEY_BYTES],
    file: PathBuf,
    trust: Trust,
}

impl NewKey {
    /// Creates the file, completely or not at all, and its folder. If another process was faster, its key stays.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        private_folder_of(&self.file, self.trust)?;
        let write = |file: &mut File| file.write_all(&self.bytes);
        match atomic_file::create(&self.file, 0o600, Durability::Synced, write) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::File { path: self.file.clone(), error })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_created_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/secret.key");
        let first = Secrets::load(&file, Trust::default()).unwrap();
        let again = Secrets::load(&file, Trust::default()).unwrap();
        assert_eq!(first.mac("a", b"x"), again.mac("a", b"x"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let parent = file.parent().unwrap();
        assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(parent).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_readable_by_others_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        fs::write(&file, [7; KEY_BYTES]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Secrets::load(&file, Trust::default()).is_ok());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_truncated_key_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        for length in [0, KEY_BYTES - 1, KEY_BYTES + 1] {
            fs::write(&file, vec![7; length]).unwrap();
            let error = Secrets::load(&file, Trust::default())
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(
                error.contains("secret.key") && error.contains("remove it"),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn processes_that_start_together_have_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        for _ in 0..20 {
            let _ = fs::remove_file(&file);
            let mut children: Vec<_> = (0..4)
                .map(|_| {
                    std::process::Command::new(std::env::current_exe().unwrap())
                        .args(["--exact", "login::secrets::tests::makes_a_key", "--nocapture"])
                        .env("TEST_KEY_FILE", &file)
                        .stdout(std::process::Stdio::piped())
                        .spawn()
                        .unwrap()
                })
                .collect();
            let outputs = children.drain(..).map(|child| {
                let output = child.wait_with_output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.lines()
                    .find_map(|line| line.split_once("derived=").map(|(_, key)| key.to_owned()))
            });
            let keys: std::collections::BTreeSet<_> = outputs.collect();
            assert_eq!(keys.len(), 1, "{keys:?}");
            assert!(keys.iter().all(Option::is_some));
        }
    }

    /// Run by the children of the test above; on its own it uses a key of its own.
    #[test]
    fn makes_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::env::var_os("TEST_KEY_FILE");
        let file = file.map_or_else(|| folder.path().join("secret.key"), Into::into);
        let secrets = Secrets::load(&file, Trust::default()).unwrap();
        println!("\nderived={}", secrets.code("test", b""));
    }
}
