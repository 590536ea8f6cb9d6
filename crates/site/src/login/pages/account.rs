//! The owner's account: sessions, the password, the second factor.
//!
//! Every change here asks for the password, so that a browser left open or a stolen cookie cannot change
//! anything.

use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tera::context;

use super::attempts::{hash_of, try_password};
use super::login_request::{LoginRequest, WithoutBody};
use super::new_session::{logged_out, start_session};
use super::waiting;
use crate::http::error::HttpError;
use crate::login::client::Client;
use crate::login::clock::{Seconds, now};
use crate::login::events::{self, Event, ago};
use crate::login::facts::{self, set_fact};
use crate::login::session::{self, Listed, Session, proof_of};
use crate::login::{second_factor, throttle};
use crate::password::Password;
use crate::password::rules::MIN_CHARACTERS;

/// The message for a wrong password.
const WRONG_PASSWORD: &str = "Wrong password.";

/// The sections of the page that show messages, by their `id`; the forms' URLs lead back to them.
const SESSIONS: &str = "end-sessions";
pub(super) const SECOND_FACTOR: &str = "second-factor";
const PASSWORD: &str = "password";

/// A failure or success message, and the section of the page that it belongs to.
#[derive(Clone, Copy, Serialize)]
struct Notice {
    at: &'static str,
    text: &'static str,
}

/// The message after a change, by the event that was recorded for it.
const DONE: [(&str, Notice); 3] = [
    (events::ENDED, Notice { at: SESSIONS, text: "That browser has been logged out." }),
    (events::SECOND_FACTOR_OFF, Notice { at: SECOND_FACTOR, text: "The second factor is off." }),
    (
        events::PASSWORD_CHANGED,
        Notice { at: PASSWORD, text: "Password changed. All other browsers have been logged out." },
    ),
];

/// The query of the page that a change redirects to.
const AFTER_A_CHANGE: &str = "done";

/// How long after a change the page confirms it, in seconds.
const CONFIRMED_FOR: Seconds = 60;

/// `GET /account`
pub(super) async fn page(WithoutBody(request): WithoutBody) -> Result<Response, HttpError> {
    if request.visitor.session().is_none() {
        return Ok(request.ask_to_log_in());
    }
    show(&request, None).await
}

async fn show(request: &LoginRequest, failure: Option<Notice>) -> Result<Response, HttpError> {
    let (gate, now, own) = (&request.gate, now(), session_of(request)?.id());
    let (lifetime, proof) = (gate.settings.lifetime(), proof(request).await?);
    let state = gate.store.read(async |store| {
        Ok((
            session::list(store, &proof, now, lifetime).await?,
            second_factor::is_on(store).await?,
            second_factor::codes_left(store).await?,
            events::list(store).await?,
        ))
    });
    let (sessions, has_second_factor, codes_left, events) = state.await?;
    let done = done(request, events.first(), now, &DONE).filter(|_| failure.is_none());
    let sessions = sessions.into_iter().map(|session| session_row(session, &own, now));
    let events = events.into_iter().map(|event| event_row(event, now));
    let is_ours = gate.configured_password(&request.head.extensions).is_none();
    let mut response = request.page.show(
        "account.html",
        context! {
            sessions => &sessions.collect::<Vec<_>>(),
            has_second_factor => &has_second_factor,
            codes_left => &codes_left,
            events => &events.collect::<Vec<_>>(),
            shortest => &is_ours.then_some(MIN_CHARACTERS),
            failure => &failure,
            done => &done,
        },
    );
    if failure.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// A session as the template shows it.
fn session_row(session: Listed, own: &str, now: Seconds) -> Value {
    json!({
        "is_this": session.id == own,
        "started": ago(session.started, now),
        "seen": ago(session.seen, now),
        "id": session.id,
        "browser": session.origin.browser,
        "address": session.origin.address,
    })
}

/// An event as the template shows it.
fn event_row(Event { at, what, origin }: Event, now: Seconds) -> Value {
    json!({
        "what": what,
        "at": ago(at, now),
        "browser": origin.browser,
        "address": origin.address,
    })
}

/// Returns the message for the change that led here. The URL, which anyone can link to, proves nothing.
pub(super) fn done<M: Copy>(
    request: &LoginRequest,
    last: Option<&Event>,
    now: Seconds,
    messages: &[(&str, M)],
) -> Option<M> {
    let last = last.filter(|last| {
        request.head.uri.query() == Some(AFTER_A_CHANGE)
            && (0..CONFIRMED_FOR).contains(&(now - last.at))
    })?;
    messages.iter().find(|(what, _)| *what == last.what).map(|(_, message)| *message)
}

/// Redirects to the page after a change in this section.
pub(super) fn changed(request: &LoginRequest, at: &str) -> Response {
    changed_on(request, "/account", at)
}

/// Redirects to another page of the account after a change in this section.
pub(super) fn changed_on(request: &LoginRequest, page: &str, at: &str) -> Response {
    let page = request.base().link(page);
    Redirect::to(&format!("{page}?{AFTER_A_CHANGE}#{at}")).into_response()
}

pub(super) fn session_of(request: &LoginRequest) -> Result<&Session, HttpError> {
    request.visitor.session().ok_or_else(|| HttpError::new(StatusCode::UNAUTHORIZED))
}

async fn password(request: &LoginRequest) -> Result<Password, HttpError> {
    let password = request.gate.password(&request.head.extensions).await?;
    password.ok_or_else(|| HttpError::new(StatusCode::UNAUTHORIZED))
}

pub(super) async fn proof(request: &LoginRequest) -> Result<Vec<u8>, HttpError> {
    Ok(proof_of(&password(request).await?, request.gate.secrets().await?))
}

/// Checks the password that comes with every change; returns whether it is right.
///
/// # Errors
///
/// Too many attempts: someone who finds an open session must not be able to guess at leisure.
pub(super) async fn is_owner_present(request: &LoginRequest) -> Result<bool, HttpError> {
    let (client, password) = (client_of(request).await?, password(request).await?);
    let tried = try_password(request, &client, &password, request.field("password")).await?;
    tried.map_err(waiting::error)
}

/// Returns whose attempts are counted here: the session's.
pub(super) async fn client_of(request: &LoginRequest) -> Result<Client, HttpError> {
    let number = session_of(request)?.number().as_bytes();
    Ok(Client::Known(format!("session {}", request.gate.secrets().await?.code("throttle", number))))
}

/// `POST /account/sessions`
pub(super) async fn end_sessions(request: LoginRequest) -> Result<Response, HttpError> {
    let refused = async |text| show(&request, Some(Notice { at: SESSIONS, text })).await;
    if !is_owner_present(&request).await? {
        return refused(WRONG_PASSWORD).await;
    }
    let (store, end, client, origin) =
        (&request.gate.store, request.field("end"), client_of(&request).await?, request.origin());
    if end.is_empty() {
        return refused("Choose which browser to log out.").await;
    }
    if end == "everywhere" {
        let ended = store.write(async |store| {
            throttle::forgive(store, &client).await?;
            session::end_all(store).await?;
            events::record(store, now(), events::ENDED_EVERYWHERE, &origin).await
        });
        ended.await?;
        tracing::info!("The owner logged out everywhere.");
        return Ok(logged_out(&request));
    }
    let ended = store.write(async |store| {
        throttle::forgive(store, &client).await?;
        let was_there = session::end_listed(store, end).await?;
        if was_there {
            events::record(store, now(), events::ENDED, &origin).await?;
        }
        Ok(was_there)
    });
    if !ended.await? {
        return refused("That session has already ended.").await;
    }
    tracing::info!("The owner ended the session of another browser.");
    Ok(changed(&request, SESSIONS))
}

/// `POST /account/password`. Only if the password is the store's own: the site cannot change it anywhere else.
pub(super) async fn change_password(request: LoginRequest) -> Result<Response, HttpError> {
    let gate = &request.gate;
    if gate.configured_password(&request.head.extensions).is_some() {
        return Err(HttpError::new(StatusCode::CONFLICT).message(
            "The password is set in the program's configuration or in .htaccess. Change it there.",
        ));
    }
    let refused = async |text| show(&request, Some(Notice { at: PASSWORD, text })).await;
    if !is_owner_present(&request).await? {
        return refused(WRONG_PASSWORD).await;
    }
    let new = request.field("new");
    if let Some(words) = Password::weakness(new) {
        return refused(words).await;
    }
    if new != request.field("again") {
        return refused("The two new passwords don't match.").await;
    }
    let (secrets, in_session, origin) =
        (gate.secrets().await?, client_of(&request).await?, request.origin());
    let browser = request.client(secrets, &proof(&request).await?);
    let hash = hash_of(&request, &in_session, new).await?;
    let Ok(password) = Password::from_hash(&hash) else {
        return Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let written = gate.store.write(async |store| {
        throttle::forgive(store, &in_session).await?;
        set_fact(store, facts::PASSWORD, Some(&hash)).await?;
        session::end_all(store).await?;
        events::record(store, now(), events::PASSWORD_CHANGED, &origin).await
    });
    written.await?;
    tracing::info!("The owner changed the password.");
    let mut response = changed(&request, PASSWORD);
    start_session(&request, &browser, &proof_of(&password, secrets), response.headers_mut())
        .await?;
    Ok(response)
}
