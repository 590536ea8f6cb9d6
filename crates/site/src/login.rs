//! The login: one owner, one password, on a host where many processes share nothing but a folder.
//!
//! `finish.rs` asks the [`Gate`] who a request comes from before the router sees it, and refuses what is
//! forged. What lives where:
//!
//! - `password.rs` the password and its hash, `password_rules.rs` which new one is taken, `hashing.rs` how one is checked, `queue.rs` who may when; `secrets.rs` the key that everything is derived from;
//! - `cookies.rs` and `session.rs` who is logged in; `throttle.rs` how often a password may be tried,
//!   `draw.rs` by whom under load;
//! - `forgery.rs` whether a form is ours; `next.rs` where to go after the login;
//! - `second_factor.rs` codes of an authenticator app, and recovery codes;
//! - `pages.rs` the pages: log in, log out; `account.rs` the owner's account, `events.rs` what happened to it;
//!   `set_up.rs` the first visit;
//! - `authorizer.rs` the login for folders that the web server serves itself;
//! - `visitor.rs` what the rest of the site knows of all this.
//!
//! Nothing here is opened or computed for a request without one of our cookies to a public page.

mod account;
pub mod authorizer;
mod cookies;
mod draw;
mod events;
mod forgery;
mod hashing;
mod next;
pub(crate) mod pages;
mod queue;
mod second_factor;
pub(crate) mod secrets;
mod session;
mod set_up;
#[cfg(test)]
mod tests;
mod throttle;
mod visitor;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::server::Server;
use crate::store::{Store, StoreError};

pub use crate::password::{BadHash, NoRandomness, Password, ROUNDS};
pub use cookies::CookiePath;
pub use visitor::Visitor;

use cookies::Scope;
use forgery::Sender;
use hashing::Hashing;
use secrets::{NewKey, Secrets};
use session::{Lifetime, Session};
use throttle::Seconds;

/// The name of the store's file in the folder `data`.
pub const STORE_FILE: &str = "toolshed.db";

/// The name of the secret key's file in the folder `data`.
pub const KEY_FILE: &str = "secret.key";

/// The name of the folder of the queue for password checks, in the folder `data`.
const QUEUE_FOLDER: &str = "login-queue";

/// The fact under which a password that was set by the set-up page is kept: its hash.
const PASSWORD_FACT: &str = "password_hash";

/// For how long a browser counts as known: a year, in seconds.
const KNOWN_SECONDS: i64 = 365 * 24 * 3600;

/// What the owner decides about the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// The folder of what the site remembers: [`STORE_FILE`] and [`KEY_FILE`]. Made when it is first
    /// needed, for this account alone.
    pub data: PathBuf,
    /// The password, where the program knows one. Without it the one that came with a request counts
    /// ([`ServerFacts::password`](crate::ServerFacts::password)), and then the one of the set-up page.
    pub password: Option<Password>,
    /// After how long without a request a session ends. Default 7 days.
    pub session_idle: Duration,
    /// After how long a session ends in any case. Default 30 days.
    pub session_longest: Duration,
    /// The path below which the cookies are sent. Default `None`: where the site is mounted. `/` where
    /// the login guards folders beside the site.
    pub cookie_path: Option<CookiePath>,
    /// The file whose content opens the set-up page, put there by the owner. `None`: there is no such
    /// page.
    pub set_up_file: Option<PathBuf>,
}

impl LoginSettings {
    /// A login that remembers its things in this folder, with defaults for the rest.
    pub fn in_folder(data: impl Into<PathBuf>) -> Self {
        const DAY: u64 = 24 * 3600;
        LoginSettings {
            data: data.into(),
            password: None,
            session_idle: Duration::from_secs(7 * DAY),
            session_longest: Duration::from_secs(30 * DAY),
            cookie_path: None,
            set_up_file: None,
        }
    }

    /// Returns the store of this login.
    pub fn store(&self) -> Store {
        Store::at(self.data.join(STORE_FILE))
    }

    /// Returns whether the set-up page has set a password in the past. Makes nothing that is not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_set_up(&self) -> Result<bool, StoreError> {
        let store = self.store();
        if !store.file().exists() {
            return Ok(false);
        }
        Ok(store.read(|store| fact(store, PASSWORD_FACT)).await?.is_some())
    }

    /// Like [`has_set_up`](Self::has_set_up), without changing anything, even in a store of another version.
    /// Only call it where no loop runs.
    ///
    /// # Errors
    /// If the store cannot be read; also if a process was killed in the middle of a change, until the next
    /// process that uses the store has rolled that back.
    pub fn look_for_set_up(&self) -> Result<bool, StoreError> {
        let found = self.store().look(|store| {
            let has_facts = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'facts')";
            let has_facts: bool = store.query_row(has_facts, [], |row| row.get(0))?;
            Ok(has_facts && fact(store, PASSWORD_FACT)?.is_some())
        });
        Ok(found?.unwrap_or(false))
    }

    /// Generates a password for a user of this very machine who has set none. It stays the same as long as
    /// the secret key does, so that a restart ends no session. Writes nothing: that is for [`MadeUp::keep`].
    ///
    /// # Errors
    /// If the secret key cannot be read.
    pub fn make_up_password(&self) -> Result<MadeUp, StoreError> {
        let (secrets, new_key) = Secrets::load_or_new(&self.data.join(KEY_FILE))?;
        let random = data_encoding::BASE32_NOPAD.encode(&secrets.mac("made-up password", b""));
        let groups = random.to_ascii_lowercase();
        let groups: Vec<&str> = (0..5).filter_map(|at| groups.get(at * 4..at * 4 + 4)).collect();
        Ok(MadeUp { password: groups.join("-"), new_key })
    }

    fn lifetime(&self) -> Lifetime {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2);
        Lifetime { idle: seconds(self.session_idle), longest: seconds(self.session_longest) }
    }
}

/// A password from [`LoginSettings::make_up_password`].
pub struct MadeUp {
    password: String,
    new_key: Option<NewKey>,
}

impl MadeUp {
    /// Returns the password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Keeps what it was made from, unless that is already there. Call it once the site is served: a failed
    /// start leaves nothing behind.
    ///
    /// # Errors
    /// If the secret key's file cannot be created.
    pub fn keep(&self) -> Result<(), StoreError> {
        self.new_key.as_ref().map_or(Ok(()), NewKey::keep)
    }
}

impl fmt::Debug for MadeUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MadeUp").finish_non_exhaustive()
    }
}

/// Knows the owner.
pub(crate) struct Gate {
    settings: LoginSettings,
    store: Store,
    secrets: OnceLock<Secrets>,
    hashing: Hashing,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(settings: LoginSettings) -> Self {
        let store = settings.store();
        let hashing = Hashing::new(settings.data.join(QUEUE_FOLDER));
        Gate { settings, store, secrets: OnceLock::new(), hashing }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Finds out who sends a request, and refuses one that another site has made the owner's browser send.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(crate) async fn admit(&self, request: &mut Request) -> Result<Visitor, HttpError> {
        let visitor = self.recognise(request.headers(), request.extensions()).await?;
        let Some(session) = visitor.session() else { return Ok(visitor) };
        // The login form has a token of its own, and whoever has logged in by another is only led on.
        let is_login = request.uri().path() == "/login";
        if forgery::changes(request.method()) && !is_login {
            let body = std::mem::replace(request.body_mut(), Body::empty());
            let (token, body) = forgery::token(request.headers(), body).await?;
            *request.body_mut() = body;
            let token = token.unwrap_or_default();
            self.refuse_forgery(request.headers(), &token, &session.token)?;
        }
        Ok(visitor)
    }

    /// Finds the session of a request.
    async fn recognise(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Visitor, StoreError> {
        if !cookies::is_there(headers, cookies::SESSION) {
            return Ok(Visitor::unknown());
        }
        let secrets = self.secrets()?;
        let numbers = cookies::ours(headers, cookies::SESSION, secrets);
        if numbers.is_empty() {
            return Ok(Visitor::unknown());
        }
        let (now, lifetime) = (now(), self.settings.lifetime());
        let configured = self.configured_password(extensions);
        let found = self.store.read(|store| {
            let Some(password) = or_set_up(store, configured)? else { return Ok(None) };
            let proof = password.proof(secrets);
            for number in &numbers {
                let found = Session::find(store, number, &proof, now, lifetime, secrets)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        });
        let Some(session) = found.await? else { return Ok(Visitor::unknown()) };
        let mut is_due = session.is_due(now);
        if is_due && let Err(error) = self.store.write(|store| session.see(store, now)).await {
            // The next request tries again.
            tracing::warn!("A session cannot be prolonged: {error}.");
            is_due = false;
        }
        Ok(Visitor::owner(session, is_due))
    }

    /// Puts into the owner's answer what keeps it private and the session going.
    pub(crate) fn see_out(
        &self,
        visitor: &Visitor,
        base: &BasePath,
        is_https: bool,
        headers: &mut HeaderMap,
    ) {
        let Some(session) = visitor.session() else { return };
        let has_another = cookies::is_set(headers, cookies::SESSION);
        if let (true, false, Ok(secrets), Some(scope)) =
            (visitor.is_due(), has_another, self.secrets(), self.scope(base, is_https))
        {
            let seconds = session.seconds_left(now(), self.settings.lifetime());
            cookies::set(headers, cookies::SESSION, session.number(), seconds, &scope, secrets);
        }
    }

    /// Tells a visitor without a session to log in: a browser that wants a page by leading it to the form,
    /// everybody else in words.
    pub(crate) fn ask_to_log_in(&self, request: &Request, base: &BasePath) -> Response {
        let is_page = [Method::GET, Method::HEAD].contains(request.method());
        if is_page && Format::wanted(request.headers(), Format::Text) == Format::Html {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let next = base.link(path);
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            let to = format!("{}?next={next}", base.link("/login"));
            return ([(CACHE_CONTROL, "no-store")], Redirect::to(&to)).into_response();
        }
        let page = HttpError::new(StatusCode::UNAUTHORIZED)
            .message("This is for the owner of the site alone, or needs a login.")
            .line(base.link("/login"))
            .default_format(Format::Text);
        let mut response = page.into_response();
        // RFC 9110 §15.5.2 asks for a scheme; there is none registered for cookies.
        let form = base.link("/login");
        let challenge = format!("Cookie realm=\"Toolshed\", form-action=\"{form}\"");
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Tells whether a form is one of ours, by the browser's word and by its token.
    fn refuse_forgery(
        &self,
        headers: &HeaderMap,
        token: &str,
        expected: &str,
    ) -> Result<(), HttpError> {
        let page = HttpError::new(StatusCode::FORBIDDEN).title("This did not come from here");
        if forgery::sender(headers) == Sender::Other {
            tracing::warn!("A form that another site sent was refused.");
            return Err(page.message(
                "Another site sent this in your name, so nothing was done. If you did it yourself: go back, \
                 load the page again and repeat it.",
            ));
        }
        if !self.secrets()?.same(token.as_bytes(), expected.as_bytes()) {
            return Err(page.title("This page is too old").message(
                "The page is from before you logged in, or from a session that is over, so nothing was done. \
                 Please go back, load it again and repeat what you did.",
            ));
        }
        Ok(())
    }

    fn secrets(&self) -> Result<&Secrets, StoreError> {
        if let Some(secrets) = self.secrets.get() {
            return Ok(secrets);
        }
        let loaded = Secrets::load(&self.settings.data.join(KEY_FILE))?;
        Ok(self.secrets.get_or_init(|| loaded))
    }

    /// The password that is set in the program's configuration or came with the request.
    fn configured_password(&self, extensions: &Extensions) -> Option<Password> {
        self.settings.password.clone().or_else(|| {
            match (Server::of(extensions).0.password)(extensions)? {
                Ok(password) => Some(password),
                Err(error) => {
                    tracing::error!("APP_PASSWORD_HASH is no password hash: {error}.");
                    None
                }
            }
        })
    }

    /// The password, wherever it is set.
    async fn password(&self, extensions: &Extensions) -> Result<Option<Password>, StoreError> {
        match self.configured_password(extensions) {
            Some(password) => Ok(Some(password)),
            None => self.store.read(|store| or_set_up(store, None)).await,
        }
    }

    /// Where cookies are valid; `None` if the site is mounted at a path that a cookie cannot contain. Then
    /// there are no cookies: with a wider path they would be sent to neighbours.
    fn scope(&self, base: &BasePath, is_https: bool) -> Option<Scope> {
        let mounted = || match base.as_str() {
            "" => CookiePath::new("/"),
            base => CookiePath::new(base),
        };
        let path = self.settings.cookie_path.clone().or_else(mounted)?;
        Some(Scope { path, secure: is_https })
    }
}

/// The configured password, else the one of the set-up page.
fn or_set_up(
    store: &Connection,
    configured: Option<Password>,
) -> rusqlite::Result<Option<Password>> {
    match configured {
        Some(password) => Ok(Some(password)),
        None => Ok(fact(store, PASSWORD_FACT)?.and_then(|hash| Password::from_hash(&hash).ok())),
    }
}

/// A single value that the login remembers.
fn fact(store: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    store.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Remembers a single value, or forgets it.
fn set_fact(store: &Transaction<'_>, name: &str, value: Option<&str>) -> rusqlite::Result<()> {
    match value {
        Some(value) => store.execute(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)",
            params![name, value],
        ),
        None => store.execute("DELETE FROM facts WHERE name = ?1", [name]),
    }
    .map(drop)
}

/// Seconds since 1970.
fn now() -> Seconds {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX / 2)
}

/// The gate as the login's own handlers find it.
pub(crate) type SharedGate = Arc<Gate>;
