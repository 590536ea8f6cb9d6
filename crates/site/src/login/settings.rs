//! The settings of the login, and what commands and the start of the program need to know of its files.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use storage::{DatabaseUrl, Store, StoreError, Trust};

use super::cookies::CookiePath;
use super::facts::{PASSWORD, fact};
use super::schema::SCHEMA;
use super::secrets::NewKey;
use super::session::Lifetime;
use super::shared_key::{self, KeyError};
use crate::password::Password;

/// The name of our own store's file in the folder `data`.
pub const STORE_FILE: &str = "toolshed.db";

/// The name of the secret key's file in the folder `data`.
pub const KEY_FILE: &str = "secret.key";

/// What the owner decides about the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// The folder of what the site remembers: the store's file and [`KEY_FILE`]. Created when first needed, private to
    /// this account.
    pub data: PathBuf,
    /// The name of the store's file there. Default: [`STORE_FILE`].
    pub store_file: String,
    /// The database of the store, if it is not that file.
    pub database: Option<DatabaseUrl>,
    /// Whose folder that may be.
    pub trust: Trust,
    /// The password, if it is in the program's configuration. Otherwise the one that came with a request counts
    /// ([`ServerFacts::password`](crate::ServerFacts::password)), and then the one of the set-up page.
    pub password: Option<Password>,
    /// How long a session lasts without any request. Default: 7 days.
    pub session_idle: Duration,
    /// How long a session lasts in total. Default: 30 days.
    pub session_longest: Duration,
    /// The path below which the cookies are sent. Default: `None`, where the site is mounted. Use `/` if the login
    /// guards folders outside the site.
    pub cookie_path: Option<CookiePath>,
    /// The file by whose content the owner unlocks the set-up page. `None`: there is no such page.
    pub set_up_file: Option<PathBuf>,
}

impl LoginSettings {
    /// A login with its files in this folder, and defaults for the rest.
    pub fn in_folder(data: impl Into<PathBuf>) -> Self {
        const DAY: u64 = 24 * 3600;
        LoginSettings {
            data: data.into(),
            store_file: STORE_FILE.to_owned(),
            database: None,
            trust: Trust::default(),
            password: None,
            session_idle: Duration::from_secs(7 * DAY),
            session_longest: Duration::from_secs(30 * DAY),
            cookie_path: None,
            set_up_file: None,
        }
    }

    /// Returns the store of this login.
    pub fn store(&self) -> Store {
        match &self.database {
            Some(url) => Store::in_postgres(url, SCHEMA),
            None => Store::in_file(self.data.join(&self.store_file), self.trust, SCHEMA),
        }
    }

    /// Returns whether the set-up page has set a password in the past. Creates nothing.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn has_set_up(&self) -> Result<bool, StoreError> {
        let store = self.store();
        if !store.exists() {
            return Ok(false);
        }
        Ok(store.read(async |store| fact(store, PASSWORD).await).await?.is_some())
    }

    /// Like [`has_set_up`](Self::has_set_up), without changing anything, even in a store of another version.
    /// Only call it where no loop runs.
    ///
    /// # Errors
    ///
    /// If the store cannot be read; also if a process was killed in the middle of a change, until the next
    /// process that uses the store has rolled that back.
    pub fn look_for_set_up(&self) -> Result<bool, StoreError> {
        let found = self.store().look(async |store| {
            Ok(store.has_table("facts").await? && fact(store, PASSWORD).await?.is_some())
        });
        Ok(found?.unwrap_or(false))
    }

    /// Looks whether this machine has the secret key of the site's other machines, if there are any. Changes nothing. Only
    /// call it where no loop runs.
    ///
    /// # Errors
    ///
    /// If it has not, or that cannot be found out.
    pub fn look_at_key(&self) -> Result<(), KeyError> {
        shared_key::look(&self.key_file(), self.trust, &self.store())
    }

    /// Generates a password for a user of this machine who has not set one. It stays the same as long as
    /// the secret key does, so that a restart ends no session. Writes nothing: that is for [`GeneratedPassword::keep`].
    ///
    /// # Errors
    ///
    /// If the secret key cannot be read.
    pub async fn generate_password(&self) -> Result<GeneratedPassword, KeyError> {
        let (secrets, new_key) =
            shared_key::load_or_new(&self.key_file(), self.trust, &self.store()).await?;
        let random = data_encoding::BASE32_NOPAD.encode(&secrets.mac("made-up password", b""));
        let groups = random.to_ascii_lowercase();
        let groups: Vec<&str> = (0..5).filter_map(|at| groups.get(at * 4..at * 4 + 4)).collect();
        Ok(GeneratedPassword { password: groups.join("-"), new_key })
    }

    /// Returns the path of the secret key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.data.join(KEY_FILE)
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2);
        Lifetime { idle: seconds(self.session_idle), max: seconds(self.session_longest) }
    }
}

/// A password from [`LoginSettings::generate_password`].
pub struct GeneratedPassword {
    password: String,
    new_key: Option<NewKey>,
}

impl GeneratedPassword {
    /// Returns the password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Keeps what it was made from, unless that is already there. Call it once the site is served: a failed
    /// start leaves nothing behind.
    ///
    /// # Errors
    ///
    /// If the secret key's file cannot be created.
    pub fn keep(&self) -> Result<(), StoreError> {
        self.new_key.as_ref().map_or(Ok(()), NewKey::keep)
    }
}

impl fmt::Debug for GeneratedPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GeneratedPassword").finish_non_exhaustive()
    }
}
