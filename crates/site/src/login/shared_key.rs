//! The secret key of a site on several machines: all have to have the same.
//!
//! It stays out of the store, a copy of which is not enough for a login. A store on a server keeps the key's
//! fingerprint: the first machine leaves it there, and the others compare. With a store in a file there is one machine,
//! and nothing to compare.

use std::fmt;
use std::path::{Path, PathBuf};

use http::StatusCode;
use storage::{Snapshot, Store, StoreError, Transaction, Trust, params};

use super::facts::fact;
use super::secrets::{NewKey, Secrets};
use crate::http::error::HttpError;

/// The name of the fingerprint among the facts.
const FINGERPRINT: &str = "key_fingerprint";

/// Reads the key, and creates it if no machine has one.
pub(super) async fn load(file: &Path, trust: Trust, store: &Store) -> Result<Secrets, KeyError> {
    let (secrets, new_key) = load_or_new(file, trust, store).await?;
    let secrets = match new_key {
        None => secrets,
        // Another process may be faster, or another machine.
        Some(_) => Secrets::load(file, trust)?,
    };
    if store.file().is_some() {
        return Ok(secrets);
    }
    let ours = fingerprint(&secrets);
    let known = store.write(async |store| leave(store, &ours).await).await?;
    compare(&known, &ours, file).map(|()| secrets)
}

/// Reads the key; if no machine has one, generates one that is not in a file yet.
pub(super) async fn load_or_new(
    file: &Path,
    trust: Trust,
    store: &Store,
) -> Result<(Secrets, Option<NewKey>), KeyError> {
    let known = match store.file() {
        Some(_) => None,
        None => store.read(known).await?,
    };
    let (secrets, new_key) = Secrets::load_or_new(file, trust)?;
    match (known, new_key) {
        (None, new_key) => Ok((secrets, new_key)),
        (Some(_), Some(_)) => Err(KeyError::Missing(file.to_owned())),
        (Some(known), None) => {
            compare(&known, &fingerprint(&secrets), file)?;
            Ok((secrets, None))
        }
    }
}

/// Looks whether [`load`] would succeed, without changing anything. Only call it where no loop runs.
pub(super) fn look(file: &Path, trust: Trust, store: &Store) -> Result<(), KeyError> {
    if store.file().is_some() {
        return Ok(());
    }
    let known =
        store.look(
            async |store| {
                if store.has_table("facts").await? { known(store).await } else { Ok(None) }
            },
        );
    let Some(known) = known?.flatten() else { return Ok(()) };
    match Secrets::load_or_new(file, trust)? {
        (_, Some(_)) => Err(KeyError::Missing(file.to_owned())),
        (secrets, None) => compare(&known, &fingerprint(&secrets), file),
    }
}

async fn known(store: &Snapshot<'_>) -> Result<Option<String>, StoreError> {
    fact(store, FINGERPRINT).await
}

/// Leaves a fingerprint in the store unless there is one. Returns the one that is there.
async fn leave(store: &Transaction<'_>, ours: &str) -> Result<String, StoreError> {
    store
        .execute(
            "INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            params![FINGERPRINT, ours],
        )
        .await?;
    store.query_one("SELECT value FROM facts WHERE name = $1", params![FINGERPRINT]).await
}

fn fingerprint(secrets: &Secrets) -> String {
    secrets.code("fingerprint", b"secret.key")
}

fn compare(known: &str, ours: &str, file: &Path) -> Result<(), KeyError> {
    if known == ours { Ok(()) } else { Err(KeyError::Differs(file.to_owned())) }
}

/// Why this machine has no secret key to use.
#[derive(Debug)]
pub enum KeyError {
    /// Other machines of the site have a key, this one has none: the file that is missing.
    Missing(PathBuf),
    /// Other machines of the site have another key: the file with this one's.
    Differs(PathBuf),
    /// The key cannot be read or compared.
    Store(StoreError),
}

impl KeyError {
    /// Returns whether the key is not that of the other machines.
    pub(crate) fn is_foreign(&self) -> bool {
        !matches!(self, KeyError::Store(_))
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Missing(file) => write!(
                formatter,
                "{} is missing, and the other machines of this site have a secret key already; copy that file from \
                 one of them (docs/several-machines.md)",
                file.display()
            ),
            KeyError::Differs(file) => write!(
                formatter,
                "{} is not the secret key of the other machines of this site; copy that file from one of them \
                 (docs/several-machines.md)",
                file.display()
            ),
            KeyError::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        KeyError::Store(error)
    }
}

/// A page without details for the visitor; cause and cure for the log.
impl From<KeyError> for HttpError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            error => HttpError::new(StatusCode::SERVICE_UNAVAILABLE)
                .message("Nobody can log in at the moment. The site's owner can find the cause in the log.")
                .fault("login")
                .cause(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use event_loop::run;
    use futures_util::future::join;
    use postgres_fixture::Server;

    use super::super::settings::LoginSettings;
    use super::*;

    /// A machine with a data folder of its own.
    struct Machine {
        _folder: tempfile::TempDir,
        login: LoginSettings,
    }

    impl Machine {
        fn new(server: &Server) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let login = LoginSettings {
                database: Some(server.url().parse().unwrap()),
                ..LoginSettings::in_folder(folder.path().join("data"))
            };
            Machine { _folder: folder, login }
        }

        fn load(&self) -> Result<String, KeyError> {
            let loaded =
                run(async { load(&self.file(), Trust::default(), &self.login.store()).await })
                    .unwrap();
            loaded.map(|secrets| fingerprint(&secrets))
        }

        fn file(&self) -> PathBuf {
            self.login.key_file()
        }

        fn copy_key_from(&self, other: &Machine) {
            fs::create_dir_all(self.login.data.clone()).unwrap();
            fs::copy(other.file(), self.file()).unwrap();
        }
    }

    #[test]
    fn a_machine_without_the_key_of_the_others_makes_none_and_says_what_to_do() {
        let server = Server::start();
        let [first, second] = [(); 2].map(|()| Machine::new(&server));
        first.login.look_at_key().unwrap();
        assert!(!first.file().exists(), "looking creates nothing");
        let key = first.load().unwrap();
        assert_eq!(first.load().unwrap(), key);
        assert!(!server.psql("SELECT * FROM facts").contains(&hex_of(&first.file())));
        for _ in 0..2 {
            let error = second.load().unwrap_err().to_string();
            assert!(error.contains("is missing") && error.contains("copy that file"), "{error}");
            assert_eq!(second.login.look_at_key().unwrap_err().to_string(), error);
            assert!(run(second.login.generate_password()).unwrap().is_err());
            assert!(!second.file().exists());
        }
        fs::create_dir_all(second.login.data.clone()).unwrap();
        fs::write(second.file(), [7; 64]).unwrap();
        let error = second.load().unwrap_err().to_string();
        assert!(error.contains("is not the secret key of the other machines"), "{error}");
        assert_eq!(second.login.look_at_key().unwrap_err().to_string(), error);
        second.copy_key_from(&first);
        assert_eq!(second.load().unwrap(), key);
        second.login.look_at_key().unwrap();
    }

    fn hex_of(file: &Path) -> String {
        data_encoding::HEXLOWER.encode(&fs::read(file).unwrap())
    }

    #[test]
    fn of_two_machines_that_start_together_one_refuses() {
        let server = Server::start();
        for _ in 0..5 {
            let [one, other] = [(); 2].map(|()| Machine::new(&server));
            let loaded = run(async {
                let stores = [one.login.store(), other.login.store()];
                let files = [one.file(), other.file()];
                let load = |at: usize| load(&files[at], Trust::default(), &stores[at]);
                join(load(0), load(1)).await
            });
            let (first, second) = loaded.unwrap();
            let (winner, loser) = if first.is_ok() { (&one, &other) } else { (&other, &one) };
            assert!(first.is_ok() != second.is_ok(), "one key");
            assert!(winner.load().is_ok());
            assert!(loser.load().unwrap_err().is_foreign());
            loser.copy_key_from(winner);
            assert_eq!(loser.load().unwrap(), winner.load().unwrap());
            server.psql("DELETE FROM facts");
        }
    }
}
