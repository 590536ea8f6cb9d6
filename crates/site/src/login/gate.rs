//! Finds out who sends a request, and refuses what another site has made the owner's browser send.
//!
//! `middleware.rs` asks it before the router sees a request, the login's own pages for everything they need. Nothing
//! here is opened or computed for a request without one of our cookies to a public page.

use std::fmt;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use subtle::ConstantTimeEq;

use super::clock::now;
use super::cookies::{self, CookiePath, Scope};
use super::facts::or_set_up;
use super::forgery::{self, Sender};
use super::hashing::Hashing;
use super::secrets::Secrets;
use super::session::{Session, proof_of};
use super::settings::{KEY_FILE, LoginSettings};
use super::visitor::Visitor;
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::password::Password;
use crate::server::Server;
use crate::store::{Store, StoreError};

/// The name of the folder of the queue for password checks, in the folder `data`.
pub(super) const QUEUE_FOLDER: &str = "login-queue";

/// Knows the owner.
pub(crate) struct Gate {
    pub(super) settings: LoginSettings,
    pub(super) store: Store,
    secrets: OnceLock<Secrets>,
    pub(super) hashing: Hashing,
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
    pub(super) async fn recognise(
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
            let proof = proof_of(&password, secrets);
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
    pub(crate) fn ask_to_log_in(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        base: &BasePath,
    ) -> Response {
        let is_page = [Method::GET, Method::HEAD].contains(method);
        if is_page && Format::wanted(headers, Format::Text) == Format::Html {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
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
    pub(super) fn refuse_forgery(
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
        if !bool::from(token.as_bytes().ct_eq(expected.as_bytes())) {
            return Err(page.title("This page is too old").message(
                "The page is from before you logged in, or from a session that is over, so nothing was done. \
                 Please go back, load it again and repeat what you did.",
            ));
        }
        Ok(())
    }

    pub(super) fn secrets(&self) -> Result<&Secrets, StoreError> {
        if let Some(secrets) = self.secrets.get() {
            return Ok(secrets);
        }
        let loaded = Secrets::load(&self.settings.data.join(KEY_FILE))?;
        Ok(self.secrets.get_or_init(|| loaded))
    }

    /// The password that is set in the program's configuration or came with the request.
    pub(super) fn configured_password(&self, extensions: &Extensions) -> Option<Password> {
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
    pub(super) async fn password(
        &self,
        extensions: &Extensions,
    ) -> Result<Option<Password>, StoreError> {
        match self.configured_password(extensions) {
            Some(password) => Ok(Some(password)),
            None => self.store.read(|store| or_set_up(store, None)).await,
        }
    }

    /// Where cookies are valid; `None` if the site is mounted at a path that a cookie cannot contain. Then
    /// there are no cookies: with a wider path they would be sent to neighbours.
    pub(super) fn scope(&self, base: &BasePath, is_https: bool) -> Option<Scope> {
        let mounted = || match base.as_str() {
            "" => CookiePath::new("/"),
            base => CookiePath::new(base),
        };
        let path = self.settings.cookie_path.clone().or_else(mounted)?;
        Some(Scope { path, secure: is_https })
    }
}

/// The gate as the login's own handlers find it.
pub(crate) type SharedGate = Arc<Gate>;
