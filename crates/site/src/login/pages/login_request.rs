//! What the login's handlers know of a request: who sends it, from where, and the form it brings.

use std::collections::HashMap;
use std::net::IpAddr;

use axum::extract::{FromRequest, Request};
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq;

use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::http::request_body::Chunks;
use crate::login::client::Client;
use crate::login::cookies::{self, Scope};
use crate::login::events::{self, Origin};
use crate::login::forgery::{self, Sender};
use crate::login::gate::SharedGate;
use crate::login::hashing::Process;
use crate::login::secrets::Secrets;
use crate::login::visitor::Visitor;
use crate::pages::page::Page;
use crate::random::{NoRandomness, random};
use crate::server::Server;

/// The limit of a login form: a password, a code and a path are less than 4 KiB.
const FORM_BYTES: usize = 16 * 1024;

/// How long a login form may stay open, in seconds: a day.
const FORM_SECONDS: i64 = 24 * 3600;

/// What a handler here needs of a request. An extractor that reads a form.
pub(super) struct LoginRequest {
    pub(super) gate: SharedGate,
    pub(super) page: Page,
    pub(super) visitor: Visitor,
    pub(super) head: Parts,
    pub(super) fields: HashMap<String, String>,
}

/// A request whose body is not needed. An extractor.
pub(super) struct WithoutBody(pub(super) LoginRequest);

impl<S: Sync> FromRequest<S> for LoginRequest {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpError> {
        let (head, body) = request.into_parts();
        let body = Chunks::new(body).collect(FORM_BYTES).await?;
        let fields = form_urlencoded::parse(&body).into_owned().collect();
        LoginRequest::new(head, fields)
    }
}

impl<S: Sync> FromRequest<S> for WithoutBody {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpError> {
        let (head, _) = request.into_parts();
        LoginRequest::new(head, HashMap::new()).map(WithoutBody)
    }
}

impl LoginRequest {
    fn new(head: Parts, fields: HashMap<String, String>) -> Result<Self, HttpError> {
        let gate = head.extensions.get::<SharedGate>().cloned().ok_or_else(|| {
            let error = HttpError::new(StatusCode::INTERNAL_SERVER_ERROR);
            error.cause("the login's routes are served without the login")
        })?;
        let (page, visitor) = (Page::of(&head.extensions), Visitor::of(&head.extensions));
        Ok(LoginRequest { gate, page, visitor, head, fields })
    }

    /// Asks a visitor without a session to log in.
    pub(super) fn ask_to_log_in(&self) -> Response {
        let head = &self.head;
        self.gate.ask_to_log_in(&head.method, &head.uri, &head.headers, &head.extensions)
    }

    pub(super) fn base(&self) -> &BasePath {
        self.page.base()
    }

    pub(super) fn server(&self) -> Server {
        Server::of(&self.head.extensions)
    }

    pub(super) fn is_https(&self) -> bool {
        (self.server().0.is_https)(&self.head.extensions)
    }

    /// Returns where cookies are valid, for code that cannot continue without one.
    pub(super) fn scope(&self) -> Result<Scope, HttpError> {
        self.gate.scope(self.base(), self.is_https()).ok_or_else(no_cookie_path)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        (self.server().0.address)(&self.head.extensions)
    }

    /// Returns where it comes from, in words for the owner.
    pub(super) fn origin(&self) -> Origin {
        let address = self.address().map_or(String::new(), |address| address.to_string());
        Origin { browser: events::browser(&self.head.headers), address }
    }

    /// Returns whether other visitors wait while this process computes.
    pub(super) fn process(&self) -> Process {
        let serves_one_request = (self.server().0.serves_one_request)(&self.head.extensions);
        if serves_one_request || !event_loop::is_running() {
            Process::OfThisRequest
        } else {
            Process::Shared
        }
    }

    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Returns whose attempts these are: a known browser's, or an address's.
    pub(super) fn client(&self, secrets: &Secrets, proof: &[u8]) -> Client {
        let expected = BASE64URL_NOPAD.encode(proof);
        for known in cookies::ours(&self.head.headers, cookies::KNOWN, secrets) {
            if let Some((number, proof_in_cookie)) = known.split_once(' ')
                && bool::from(proof_in_cookie.as_bytes().ct_eq(expected.as_bytes()))
            {
                return Client::Known(number.to_owned());
            }
        }
        Client::Unknown(self.address())
    }

    /// Refuses a form that this browser did not get from us: it has to send its cookie and its token.
    pub(super) async fn refuse_forgery(&self) -> Result<(), HttpError> {
        let secrets = self.gate.secrets().await?;
        let cookies = cookies::ours(&self.head.headers, cookies::FORM, secrets);
        let token = self.field(forgery::FIELD);
        let expected = cookies.iter().map(|number| form_token(secrets, number));
        let expected = expected
            .into_iter()
            .find(|expected| token.as_bytes().ct_eq(expected.as_bytes()).into());
        let headers = &self.head.headers;
        if cookies.is_empty() && !token.is_empty() && forgery::sender(headers) == Sender::Own {
            return Err(HttpError::new(StatusCode::FORBIDDEN).title("Cookies are blocked").message(
                "Logging in needs a cookie, and your browser sent none. Please allow cookies for this site, go back \
                 and reload the page.",
            ));
        }
        self.gate.refuse_forgery(headers, token, expected.as_deref().unwrap_or("\0"))
    }

    /// Makes the token of a form for a visitor who is not logged in, and the cookie that belongs to it.
    pub(super) async fn new_form(&self) -> Result<(String, HeaderMap), HttpError> {
        let (secrets, scope) = (self.gate.secrets().await?, self.scope()?);
        let mut headers = HeaderMap::new();
        // Several forms may be open in one browser.
        let sent = cookies::ours(&self.head.headers, cookies::FORM, secrets).into_iter().next();
        let number = match sent {
            Some(number) => number,
            None => {
                let number = random::<16>().map_err(no_randomness)?;
                let number = BASE64URL_NOPAD.encode(&number);
                cookies::set(&mut headers, cookies::FORM, &number, FORM_SECONDS, &scope, secrets);
                number
            }
        };
        Ok((form_token(secrets, &number), headers))
    }

    /// Returns whether the client is a program, which has no use for a form.
    pub(super) fn is_program(&self) -> bool {
        Format::wanted(&self.head.headers, Format::Html) != Format::Html
    }
}

fn form_token(secrets: &Secrets, number: &str) -> String {
    secrets.code("login form", number.as_bytes())
}

/// Returns the error for a site that is mounted at a path that no cookie can contain.
fn no_cookie_path() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND).title("No login at this address").message(
        "The path of this site contains a character that is not allowed in a cookie (only letters, digits and \
         - . _ ~ % are), so nobody can log in here. If this is your site, rename its folder or set cookie_path.",
    )
}

/// Returns the error for a system that provides no random bytes.
pub(super) fn no_randomness(error: NoRandomness) -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR).cause(error)
}
