//! The login's pages: log in, log out. The owner's account is in `account.rs`.

use std::collections::HashMap;
use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{Extension, Query, Request};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use data_encoding::BASE64URL_NOPAD;
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tera::context;

use super::cookies::Scope;
use super::events::{self, Origin};
use super::forgery::{self, Sender};
use super::hashing::{self, Busy, Process};
use super::secrets::{Secrets, random};
use super::session::{self, Session};
use super::throttle::{self, Wait, Who};
use super::{
    KNOWN_SECONDS, SharedGate, Visitor, account, cookies, draw, next, now, or_set_up,
    second_factor, set_up,
};
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::http::request_body::Chunks;
use crate::pages::page::Page;
use crate::password::Password;
use crate::server::Server;

/// How much a form of the login may bring: a password, a code and an address are below 4 KiB.
const FORM_BYTES: usize = 16 * 1024;

/// How long a login form may stay open, in seconds: a day.
const FORM_SECONDS: i64 = 24 * 3600;

/// The login's own pages.
pub(crate) fn routes(gate: SharedGate) -> Router {
    Router::new()
        .route("/login", get(form).post(log_in))
        .route("/logout", post(log_out))
        .route("/account", get(account::page))
        .route("/account/sessions", post(account::end_sessions))
        .route("/account/password", post(account::change_password))
        .route(
            "/account/second-factor",
            get(account::second_factor_page).post(account::change_second_factor),
        )
        .route("/set-up", get(set_up::form).post(set_up::set_password))
        .layer(middleware::from_fn(never_stored))
        .layer(Extension(gate))
}

/// No answer of the login is kept by a browser or on the way.
async fn never_stored(request: Request, next: middleware::Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a handler here needs of a request; its body apart.
pub(super) struct Asked {
    pub(super) gate: SharedGate,
    pub(super) page: Page,
    pub(super) visitor: Visitor,
    pub(super) head: Parts,
    pub(super) fields: HashMap<String, String>,
}

impl Asked {
    /// Reads a whole request.
    pub(super) async fn read(
        gate: SharedGate,
        page: Page,
        visitor: Visitor,
        request: Request,
    ) -> Result<Self, HttpError> {
        let (head, body) = request.into_parts();
        let fields = fields(body).await?;
        Ok(Asked { gate, page, visitor, head, fields })
    }

    /// A request whose body is not needed.
    pub(super) fn without_body(
        gate: SharedGate,
        page: Page,
        visitor: Visitor,
        request: Request,
    ) -> Self {
        let (head, _) = request.into_parts();
        Asked { gate, page, visitor, head, fields: HashMap::new() }
    }

    pub(super) fn base(&self) -> &BasePath {
        self.page.base()
    }

    pub(super) fn is_https(&self) -> bool {
        (Server::of(&self.head.extensions).0.is_https)(&self.head.extensions)
    }

    /// Where cookies are valid, for code that cannot continue without one.
    fn scope(&self) -> Result<Scope, HttpError> {
        self.gate.scope(self.base(), self.is_https()).ok_or_else(no_cookie_path)
    }

    fn address(&self) -> Option<IpAddr> {
        (Server::of(&self.head.extensions).0.address)(&self.head.extensions)
    }

    /// Where it comes from, for its owner.
    pub(super) fn origin(&self) -> Origin {
        let address = self.address().map_or(String::new(), |address| address.to_string());
        Origin { browser: events::browser(&self.head.headers), address }
    }

    /// Whether others wait while this process computes.
    fn process(&self) -> Process {
        let is_alone = (Server::of(&self.head.extensions).0.is_alone)(&self.head.extensions);
        if is_alone || !event_loop::is_running() { Process::OfThisRequest } else { Process::Shared }
    }

    /// Counts a try and then tells whether this is the password, or how long to wait.
    ///
    /// Whoever has to wait hears it before the queue, where he would take a place. The try is counted when its
    /// turn has come, before the password is looked at, and taken back when nobody could look.
    pub(super) async fn try_password(
        &self,
        who: &Who,
        password: &Password,
        typed: &str,
    ) -> Result<Result<bool, Wait>, HttpError> {
        if let Turn::Wait(wait) = turn(self, who).await? {
            return Ok(Err(wait));
        }
        let permit = self.gate.hashing.permit(password).await?;
        let secrets = self.gate.secrets()?;
        let counted = self.gate.store.write(|store| throttle::count(store, who, now(), secrets));
        if let Err(wait) = counted.await? {
            return Ok(Err(wait));
        }
        if typed.len() > Password::MAX_BYTES {
            return Ok(Ok(false));
        }
        let checked = hashing::is(password, typed, permit, self.process()).await;
        Ok(Ok(self.or_take_back(who, checked).await?))
    }

    /// Makes the hash of a new password. The try that was counted for it is taken back when that does not come
    /// about.
    pub(super) async fn hash_of(&self, who: &Who, password: &str) -> Result<String, HttpError> {
        let hashed = self.gate.hashing.hash_of(password, self.process()).await;
        self.or_take_back(who, hashed).await
    }

    async fn or_take_back<T>(&self, who: &Who, done: Result<T, Busy>) -> Result<T, HttpError> {
        if done.is_err() {
            self.gate.store.write(|store| throttle::take_back(store, who)).await?;
        }
        Ok(done?)
    }

    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Who is counted: a browser that is known, or an address.
    pub(super) fn who(&self, secrets: &Secrets, proof: &[u8]) -> Who {
        let expected = BASE64URL_NOPAD.encode(proof);
        for known in cookies::ours(&self.head.headers, cookies::KNOWN, secrets) {
            if let Some((number, kept)) = known.split_once(' ')
                && secrets.same(kept.as_bytes(), expected.as_bytes())
            {
                return Who::Known(number.to_owned());
            }
        }
        Who::Unknown(self.address())
    }

    /// Refuses a form that this browser has not got from us: it has to bring its cookie and its token.
    pub(super) fn refuse_forgery(&self) -> Result<(), HttpError> {
        let secrets = self.gate.secrets()?;
        let kept = cookies::ours(&self.head.headers, cookies::FORM, secrets);
        let token = self.field(forgery::FIELD);
        let expected = kept.iter().map(|kept| form_token(secrets, kept));
        let expected = expected
            .into_iter()
            .find(|expected| secrets.same(token.as_bytes(), expected.as_bytes()));
        let headers = &self.head.headers;
        if kept.is_empty() && !token.is_empty() && forgery::sender(headers) == Sender::Own {
            return Err(HttpError::new(StatusCode::FORBIDDEN).title("No cookie came").message(
                "Logging in needs a cookie, and your browser sent none. Please allow cookies for this site, go \
                 back and load the page again.",
            ));
        }
        self.gate.refuse_forgery(headers, token, expected.as_deref().unwrap_or("\0"))
    }
}

/// Reads a form.
async fn fields(body: Body) -> Result<HashMap<String, String>, HttpError> {
    let body = Chunks::new(body).collect(FORM_BYTES).await?;
    Ok(form_urlencoded::parse(&body).into_owned().collect())
}

/// Where to go on, as the address or the form says it.
fn onward(base: &BasePath, secrets: &Secrets, fields: &HashMap<String, String>) -> String {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    next::safe_or_signed(base, field("next"), field("signed"), secrets)
}

/// `GET /login`
async fn form(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    Query(fields): Query<HashMap<String, String>>,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked { fields, ..Asked::without_body(gate.0, page, visitor, request) };
    if asked.visitor.is_owner() {
        let to = onward(asked.base(), asked.gate.secrets()?, &asked.fields);
        return Ok(Redirect::to(&to).into_response());
    }
    let Some(password) = asked.gate.password(&asked.head.extensions).await? else {
        return show_form(&asked, StatusCode::OK, None).await;
    };
    let secrets = asked.gate.secrets()?;
    let turn = turn(&asked, &asked.who(secrets, &password.proof(secrets))).await?;
    match turn {
        Turn::Wait(wait @ Wait::Crowd(_)) => too_many_tries(&asked, wait, LOGIN).await,
        _ => show_form_with(&asked, StatusCode::OK, None, turn.words().as_deref()).await,
    }
}

/// The form, with what went wrong; or how to set a password where there is none.
async fn show_form(
    asked: &Asked,
    status: StatusCode,
    trouble: Option<&str>,
) -> Result<Response, HttpError> {
    show_form_with(asked, status, trouble, None).await
}

/// The form, with failure and success messages.
async fn show_form_with(
    asked: &Asked,
    status: StatusCode,
    trouble: Option<&str>,
    good: Option<&str>,
) -> Result<Response, HttpError> {
    let gate = &asked.gate;
    let configured = gate.configured_password(&asked.head.extensions);
    let state = gate
        .store
        .read(|store| Ok((or_set_up(store, configured)?.is_some(), second_factor::is_on(store)?)));
    let (has_password, asks_for_code) = state.await?;
    if !has_password {
        let context = context! { can_set_up => &set_up::is_possible(gate) };
        return Ok(asked.page.show("no-password.html", context));
    }
    if let (Some(trouble), true) = (trouble, wants_words(&asked.head.headers)) {
        return Err(HttpError::new(status).message(trouble));
    }
    let (token, cookie) = new_form(asked)?;
    let mut response = asked.page.show(
        "login.html",
        context! {
            trouble => &trouble,
            good => &good,
            form_token => &token,
            next => asked.field("next"),
            signed => asked.field("signed"),
            asks_for_code => &asks_for_code,
        },
    );
    *response.status_mut() = status;
    response.headers_mut().extend(cookie);
    Ok(response)
}

/// Whether a program asks, which has no use for a form.
fn wants_words(headers: &HeaderMap) -> bool {
    Format::wanted(headers, Format::Html) != Format::Html
}

/// The token of a form for somebody who is not logged in, and the cookie that goes with it.
pub(super) fn new_form(asked: &Asked) -> Result<(String, HeaderMap), HttpError> {
    let (secrets, scope) = (asked.gate.secrets()?, asked.scope()?);
    let mut headers = HeaderMap::new();
    // Several forms may be open in one browser.
    let kept = cookies::ours(&asked.head.headers, cookies::FORM, secrets).into_iter().next();
    let number = match kept {
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

fn form_token(secrets: &Secrets, number: &str) -> String {
    secrets.code("login form", number.as_bytes())
}

/// `POST /login`
async fn log_in(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked::read(gate.0, page, visitor, request).await?;
    if asked.visitor.is_owner() {
        let to = onward(asked.base(), asked.gate.secrets()?, &asked.fields);
        return Ok(Redirect::to(&to).into_response());
    }
    asked.refuse_forgery()?;
    asked.scope()?;
    let gate = &asked.gate;
    let Some(password) = gate.password(&asked.head.extensions).await? else {
        return show_form(&asked, StatusCode::OK, None).await;
    };
    let secrets = gate.secrets()?;
    let proof = password.proof(secrets);
    let who = asked.who(secrets, &proof);

    let is_password = match asked.try_password(&who, &password, asked.field("password")).await? {
        Ok(is_password) => is_password,
        Err(wait) => return too_many_tries(&asked, wait, LOGIN).await,
    };
    let now = now();
    let code = asked.field("code");
    let take =
        gate.store.write(|store| second_factor::take(store, code, now, secrets, is_password));
    let is_it = take.await?;
    let from =
        asked.address().map_or("an unknown address".to_owned(), |address| address.to_string());
    if !is_it {
        tracing::warn!("Somebody at {from} tried to log in and did not know the password.");
        let asks_for_code = gate.store.read(second_factor::is_on).await?;
        let trouble = match asks_for_code {
            true => "The password or the code is not right.",
            false => "That is not the password.",
        };
        return show_form(&asked, StatusCode::UNAUTHORIZED, Some(trouble)).await;
    }
    tracing::info!("The owner logged in from {from}.");
    if matches!(who, Who::Unknown(_)) {
        let origin = asked.origin();
        gate.store.write(|store| events::record(store, now, events::NEW_BROWSER, &origin)).await?;
    }
    let mut response = Redirect::to(&onward(asked.base(), secrets, &asked.fields)).into_response();
    begin_session(&asked, &who, &proof, response.headers_mut()).await?;
    Ok(response)
}

/// Begins a session under a new number, whatever number came with the request.
pub(super) async fn begin_session(
    asked: &Asked,
    who: &Who,
    proof: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), HttpError> {
    let (gate, now) = (&asked.gate, now());
    let secrets = gate.secrets()?;
    let scope = asked.scope()?;
    let number = session::new_number().map_err(no_randomness)?;
    let before = cookies::ours(&asked.head.headers, cookies::SESSION, secrets);
    let (lifetime, origin) = (gate.settings.lifetime(), asked.origin());
    let begun = gate.store.write(|store| {
        throttle::forgive(store, who)?;
        for number in &before {
            session::end(store, number)?;
        }
        Session::begin(store, &number, proof, now, lifetime, &origin)
    });
    begun.await?;
    let seconds = lifetime.idle.min(lifetime.longest);
    cookies::set(headers, cookies::SESSION, &number, seconds, &scope, secrets);
    let sent = &asked.head.headers;
    for name in [cookies::SESSION, cookies::KNOWN] {
        cookies::replace(headers, sent, name, &scope);
    }
    cookies::remove(headers, sent, cookies::FORM, &scope);
    let browser = match who {
        Who::Known(number) => number.clone(),
        Who::Unknown(_) => BASE64URL_NOPAD.encode(&random::<12>().map_err(no_randomness)?),
    };
    let known = format!("{browser} {}", BASE64URL_NOPAD.encode(proof));
    cookies::set(headers, cookies::KNOWN, &known, KNOWN_SECONDS, &scope, secrets);
    Ok(())
}

/// The login page, below BASE.
const LOGIN: &str = "/login";

/// 429, with the time to wait. Under load, the page asks again by itself: this one (`path`, below BASE).
pub(super) async fn too_many_tries(
    asked: &Asked,
    wait: Wait,
    path: &str,
) -> Result<Response, HttpError> {
    let (status, seconds) = (StatusCode::TOO_MANY_REQUESTS, wait.seconds());
    let words = match wait {
        Wait::Own(_) => format!("Too many tries. Please try again in {}.", in_words(seconds)),
        Wait::Crowd(_) => format!(
            "Too many login attempts from many addresses. Try again in {}; a waiting visitor is picked at random \
             every {} seconds.",
            in_words(seconds),
            draw::ROUND_SECONDS
        ),
    };
    if wants_words(&asked.head.headers) {
        return Err(HttpError::new(status).message(words).retry_after(seconds));
    }
    let mut response = match wait {
        Wait::Own(_) if path == LOGIN => show_form(asked, status, Some(&words)).await?,
        Wait::Own(_) => set_up::show(asked, status, Some(&words))?,
        Wait::Crowd(_) => show_crowd(asked, path),
    };
    *response.status_mut() = status;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    Ok(response)
}

/// The waiting page. It keeps reloading the form, which asks for a turn; it has nothing on it that reloading
/// could lose.
fn show_crowd(asked: &Asked, path: &str) -> Response {
    let mut again = asked.base().link(path);
    let fields = ["next", "signed"].map(|name| (name, asked.field(name)));
    if fields.iter().any(|(_, value)| !value.is_empty()) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        again += &format!("?{query}");
    }
    let round = draw::ROUND_SECONDS;
    asked.page.show(
        "crowd.html",
        // Twice a round, so that none is missed.
        context! { again => &again, seconds => &(round / 2), round => &round },
    )
}

/// Whether a password may be tried now: an unknown browser may have to wait, for others try, too. Counts nothing.
pub(super) async fn turn(asked: &Asked, who: &Who) -> Result<Turn, HttpError> {
    let (store, now) = (&asked.gate.store, now());
    let state = store.read(|store| {
        Ok((throttle::own_wait(store, who, now)?, throttle::is_crowded(store, now)?))
    });
    let (wait, is_crowded) = state.await?;
    if let Some(wait) = wait {
        return Ok(Turn::Wait(wait));
    }
    if !is_crowded || matches!(who, Who::Known(_)) {
        return Ok(Turn::Free);
    }
    let secrets = asked.gate.secrets()?;
    let asked = store.write(|store| throttle::ask_for_turn(store, who, now, secrets)).await?;
    Ok(match asked {
        Ok(()) => Turn::Drawn,
        Err(wait) => Turn::Wait(wait),
    })
}

/// The result of [`turn`].
pub(super) enum Turn {
    /// Nobody has to wait.
    Free,
    /// This one may try now, once.
    Drawn,
    Wait(Wait),
}

impl Turn {
    /// The message beside the form.
    pub(super) fn words(&self) -> Option<String> {
        let minutes = draw::PASS_SECONDS / 60;
        let words = || {
            format!(
                "It is your turn: one attempt within {minutes} minutes, from this network address."
            )
        };
        matches!(self, Turn::Drawn).then(words)
    }
}

pub(super) fn in_words(seconds: u32) -> String {
    if seconds == 1 { "1 second".to_owned() } else { format!("{seconds} seconds") }
}

/// `POST /logout`. The form was found to be ours when it came in.
async fn log_out(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked::read(gate.0, page, visitor, request).await?;
    if let Some(session) = asked.visitor.session() {
        asked.gate.store.write(|store| session.end(store)).await?;
    }
    Ok(logged_out(&asked))
}

/// Removes the cookie from a browser whose session has ended. If the request had no session, nothing is
/// removed: another site's form comes without the cookie (`SameSite`), so it has not been checked whose it is.
pub(super) fn logged_out(asked: &Asked) -> Response {
    let mut response = Redirect::to(&asked.base().link("/")).into_response();
    let scope = asked.gate.scope(asked.base(), asked.is_https());
    if let (Some(_), Some(scope)) = (asked.visitor.session(), scope) {
        cookies::remove(response.headers_mut(), &asked.head.headers, cookies::SESSION, &scope);
    }
    response
}

/// The response if the site is mounted at a path that no cookie can contain.
fn no_cookie_path() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND).title("No login at this address").message(
        "The path to this site has a character that a cookie cannot contain (only letters, digits and - . _ ~ % \
         are allowed), so nobody can log in here. If the site is yours, rename its folder or set cookie_path.",
    )
}

pub(super) fn no_randomness(error: super::NoRandomness) -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR).cause(error)
}
