//! Identifies the visitor of each request, and refuses cross-site requests in the owner's name.
//!
//! `middleware.rs` asks it before the router sees a request; the login's own pages get everything else from it. A
//! request to a public page without any of our cookies costs nothing here.

use std::fmt;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use storage::{Schema, Store, StoreError};
use subtle::ConstantTimeEq;

use super::clock::now;
use super::cookies::{self, CookiePath, Scope};
use super::facts::{or_set_up, set_up_password};
use super::forgery::{self, Sender};
use super::hashing::Hashing;
use super::readiness::{Found, Readiness};
use super::secrets::Secrets;
use super::session::{Session, proof_of};
use super::settings::LoginSettings;
use super::shared_key::{self, KeyError};
use super::visitor::Visitor;
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::password::Password;
use crate::server::Server;

/// The name of the folder of the queue for password checks, in the folder `data`.
pub const QUEUE_FOLDER: &str = "login-queue";

/// Identifies the owner.
pub(crate) struct Gate {
    pub(super) settings: LoginSettings,
    pub(super) store: Store,
    secrets: OnceLock<Secrets>,
    pub(super) hashing: Hashing,
    readiness: Readiness,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(settings: LoginSettings) -> Self {
        let store = settings.store();
        let hashing = Hashing::new(settings.data.join(QUEUE_FOLDER), settings.trust);
        let readiness = Readiness::default();
        Gate { settings, store, secrets: OnceLock::new(), hashing, readiness }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Identifies the visitor, and refuses a request that another site has made the owner's browser send: by what the
    /// browser says and, if `needs_token`, by the token of the form.
    ///
    /// # Errors
    ///
    /// The response to send instead.
    pub(crate) async fn admit(
        &self,
        request: &mut Request,
        needs_token: bool,
    ) -> Result<Visitor, HttpError> {
        let visitor = self.recognize(request.headers(), request.extensions()).await?;
        let Some(session) = visitor.session() else { return Ok(visitor) };
        // The login form has a token of its own, and a visitor who has logged in meanwhile is only redirected.
        let is_login = request.uri().path() == "/login";
        if !forgery::changes(request.method()) || is_login {
            return Ok(visitor);
        }
        if needs_token {
            let body = std::mem::replace(request.body_mut(), Body::empty());
            let (token, body) = forgery::token(request.headers(), body).await?;
            *request.body_mut() = body;
            let token = token.unwrap_or_default();
            self.refuse_forgery(request.headers(), &token, &session.token)?;
        } else {
            refuse_foreign_sender(request.headers())?;
        }
        Ok(visitor)
    }

    /// Finds the session of a request.
    pub(super) async fn recognize(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Visitor, KeyError> {
        if !cookies::is_there(headers, cookies::SESSION) {
            return Ok(Visitor::unknown());
        }
        let secrets = match self.secrets().await {
            // Its owner is nobody here.
            Err(error) if error.is_foreign() => {
                tracing::error!("A session was ignored: {error}.");
                return Ok(Visitor::unknown());
            }
            secrets => secrets?,
        };
        let numbers = cookies::ours(headers, cookies::SESSION, secrets);
        if numbers.is_empty() {
            return Ok(Visitor::unknown());
        }
        let (now, lifetime) = (now(), self.settings.lifetime());
        let configured = self.configured_password(extensions);
        let found = self.store.read(async |store| {
            let Some(password) = or_set_up(store, configured.as_ref()).await? else {
                return Ok(None);
            };
            let proof = proof_of(&password, secrets);
            for number in &numbers {
                let found = Session::find(store, number, &proof, now, lifetime, secrets).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        });
        let Some(session) = found.await? else { return Ok(Visitor::unknown()) };
        let mut is_due = session.is_due(now);
        if is_due
            && let Err(error) =
                self.store.write(async |store| session.record_use(store, now).await).await
        {
            // The next request tries again.
            tracing::warn!("Cannot extend a session: {error}.");
            is_due = false;
        }
        Ok(Visitor::owner(session, is_due))
    }

    /// Sends the owner's cookie again, if it is time to.
    pub(crate) fn renew_cookie(
        &self,
        visitor: &Visitor,
        base: &BasePath,
        is_https: bool,
        headers: &mut HeaderMap,
    ) {
        let Some(session) = visitor.session() else { return };
        let has_another = cookies::is_set(headers, cookies::SESSION);
        if let (true, false, Some(secrets), Some(scope)) =
            (visitor.is_due(), has_another, self.secrets.get(), self.scope(base, is_https))
        {
            let seconds = session.seconds_left(now(), self.settings.lifetime());
            cookies::set(headers, cookies::SESSION, session.number(), seconds, &scope, secrets);
        }
    }

    /// Asks a visitor without a session to log in: redirects a browser that wants a page to the form, answers everybody
    /// else with 401.
    pub(crate) fn ask_to_log_in(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Response {
        let base = extensions.get::<BasePath>().cloned().unwrap_or_default();
        let is_page = [Method::GET, Method::HEAD].contains(method);
        if is_page && Format::wanted(headers, Format::Text) == Format::Html {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let next = base.link(path);
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            let to = format!("{}?next={next}", base.link("/login"));
            return ([(CACHE_CONTROL, "no-store")], Redirect::to(&to)).into_response();
        }
        let page = HttpError::new(StatusCode::UNAUTHORIZED)
            .message("This page is private.")
            .line(base.link("/login"))
            .default_format(Format::Text);
        let mut response = page.into_response();
        // RFC 9110 §15.5.2 requires a scheme; none is registered for cookies.
        let (site, form) = (Server::of(extensions).name().title, base.link("/login"));
        let challenge = format!("Cookie realm=\"{site}\", form-action=\"{form}\"");
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Refuses a form that is not ours, by what the browser says about its origin and by its token.
    pub(super) fn refuse_forgery(
        &self,
        headers: &HeaderMap,
        token: &str,
        expected: &str,
    ) -> Result<(), HttpError> {
        refuse_foreign_sender(headers)?;
        if !bool::from(token.as_bytes().ct_eq(expected.as_bytes())) {
            let page = HttpError::new(StatusCode::FORBIDDEN).title("This page has expired");
            return Err(page.message(
                "It was loaded before you logged in, or in a session that has ended, so nothing was done. Please go \
                 back, reload the page and try again.",
            ));
        }
        Ok(())
    }

    /// Returns the keys. Once they are there, they stay as long as this process.
    pub(super) async fn secrets(&self) -> Result<&Secrets, KeyError> {
        if let Some(secrets) = self.secrets.get() {
            return Ok(secrets);
        }
        let (file, trust) = (self.settings.key_file(), self.settings.trust);
        let loaded = shared_key::load(&file, trust, &self.store).await?;
        Ok(self.secrets.get_or_init(|| loaded))
    }

    /// Returns whether this machine can use what the site keeps, with the tables that its program has (`known`). With a
    /// store in a file it is not asked.
    pub(crate) async fn is_ready(&self, known: &[Schema]) -> bool {
        if self.store.file().is_some() {
            return true;
        }
        let look = async {
            let looked = match self.secrets().await {
                Ok(_) => self.look(known).await.map_err(KeyError::from),
                Err(error) => Err(error),
            };
            let Err(error) = looked else { return Found::Works };
            tracing::warn!("The store cannot be used: {error}.");
            let is_unusable = match &error {
                KeyError::Store(error) => error.is_of_other_programs(),
                KeyError::Missing(_) | KeyError::Differs(_) => true,
            };
            if is_unusable { Found::Unusable } else { Found::Unreachable }
        };
        self.readiness.ask(look).await
    }

    async fn look(&self, known: &[Schema]) -> Result<(), StoreError> {
        self.store.read(set_up_password).await?;
        self.store.check_versions(known).await
    }

    /// Returns the password that is set in the program's configuration or came with the request.
    pub(super) fn configured_password(&self, extensions: &Extensions) -> Option<Password> {
        self.settings.password.clone().or_else(|| {
            match (Server::of(extensions).0.password)(extensions)? {
                Ok(password) => Some(password),
                Err(error) => {
                    tracing::error!("APP_PASSWORD_HASH is not a password hash: {error}.");
                    None
                }
            }
        })
    }

    /// Returns the password, wherever it is set.
    pub(super) async fn password(
        &self,
        extensions: &Extensions,
    ) -> Result<Option<Password>, StoreError> {
        match self.configured_password(extensions) {
            Some(password) => Ok(Some(password)),
            None => self.store.read(set_up_password).await,
        }
    }

    /// Returns where cookies are valid; `None` if the site is mounted at a path that a cookie cannot contain. Then
    /// there are no cookies: with a wider path they would be sent to neighboring sites.
    pub(super) fn scope(&self, base: &BasePath, is_https: bool) -> Option<Scope> {
        let mounted = || match base.as_str() {
            "" => CookiePath::new("/"),
            base => CookiePath::new(base),
        };
        let path = self.settings.cookie_path.clone().or_else(mounted)?;
        Some(Scope { path, secure: is_https })
    }
}

/// Refuses a request that another site has made the browser send, by what the browser says.
fn refuse_foreign_sender(headers: &HeaderMap) -> Result<(), HttpError> {
    if forgery::sender(headers) == Sender::Own {
        return Ok(());
    }
    tracing::warn!("Cross-site request blocked.");
    let page = HttpError::new(StatusCode::FORBIDDEN).title("Cross-site request blocked");
    Err(page.message(
        "Another site sent this request in your name, so nothing was done. If it was you, go back, reload the page \
         and try again.",
    ))
}

/// The gate, as an extension of the requests to the login's own pages.
pub(crate) type SharedGate = Arc<Gate>;
