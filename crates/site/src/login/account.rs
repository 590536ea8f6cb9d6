//! The owner's account: sessions, the password, the second factor.
//!
//! Every change here asks for the password, so that a browser left open or a stolen cookie cannot change
//! anything.

use axum::extract::{Extension, Request};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::HOST;
use serde_json::{Value, json};
use tera::context;

use super::events::{self, Event, Origin, ago};
use super::pages::{Asked, begin_session, in_words, logged_out, no_randomness};
use super::session::{self, Session};
use super::throttle::{self, Seconds, Who};
use super::{PASSWORD_FACT, Password, SharedGate, Visitor, now, second_factor, set_fact};
use crate::http::error::HttpError;
use crate::pages::page::Page;
use crate::password::rules::SHORTEST;

/// The message for a wrong password.
const WRONG_PASSWORD: &str = "That is not the password.";

/// The sections of the page that show messages, by their `id`; the forms' URLs lead back to them.
const SESSIONS: &str = "end-sessions";
const SECOND_FACTOR: &str = "second-factor";
const PASSWORD: &str = "password";

/// A failure or success message, and the section of the page it belongs to.
#[derive(Clone, Copy)]
struct Said {
    at: &'static str,
    words: &'static str,
}

/// The message after a change, by the event that was recorded for it.
const DONE: [(&str, Said); 3] = [
    (events::ENDED, Said { at: SESSIONS, words: "That browser is logged out." }),
    (events::SECOND_FACTOR_OFF, Said { at: SECOND_FACTOR, words: "The second factor is off." }),
    (
        events::PASSWORD_CHANGED,
        Said { at: PASSWORD, words: "The password is changed. All other browsers are logged out." },
    ),
];

/// The query of the page that a change redirects to.
const AFTER_A_CHANGE: &str = "done";

/// How long after a change the page confirms it; seconds.
const SAID_FOR: Seconds = 60;

/// `GET /account`
pub(super) async fn page(
    Extension(gate): Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    if visitor.session().is_none() {
        return Ok(gate.ask_to_log_in(&request, page.base()));
    }
    let asked = Asked::without_body(gate, page, visitor, request);
    show(&asked, None).await
}

async fn show(asked: &Asked, trouble: Option<Said>) -> Result<Response, HttpError> {
    let (gate, now, own) = (&asked.gate, now(), session_of(asked)?.id());
    let (lifetime, proof) = (gate.settings.lifetime(), proof(asked).await?);
    let state = gate.store.read(|store| {
        Ok((
            session::list(store, &proof, now, lifetime)?,
            second_factor::is_on(store)?,
            second_factor::codes_left(store)?,
            events::list(store)?,
        ))
    });
    let (sessions, has_second_factor, codes_left, events) = state.await?;
    let with_origin = |mut value: Value, Origin { browser, address }: Origin| {
        value["browser"] = browser.into();
        value["address"] = address.into();
        value
    };
    let sessions = sessions.into_iter().map(|session| {
        let value = json!({
            "is_this": session.id == own,
            "begun": ago(session.begun, now),
            "seen": ago(session.seen, now),
            "id": session.id,
        });
        with_origin(value, session.origin)
    });
    let done = done(asked, events.first(), now).filter(|_| trouble.is_none());
    let events = events.into_iter().map(|event| {
        with_origin(json!({ "what": event.what, "at": ago(event.at, now) }), event.origin)
    });
    let is_ours = gate.configured_password(&asked.head.extensions).is_none();
    let status = match trouble {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    };
    let in_template =
        |said: Option<Said>| said.map(|Said { at, words }| json!({ "at": at, "words": words }));
    let mut response = asked.page.show(
        "account.html",
        context! {
            sessions => &sessions.collect::<Vec<_>>(),
            has_second_factor => &has_second_factor,
            codes_left => &codes_left,
            events => &events.collect::<Vec<_>>(),
            shortest => &is_ours.then_some(SHORTEST),
            trouble => &in_template(trouble),
            done => &in_template(done),
        },
    );
    *response.status_mut() = status;
    Ok(response)
}

/// The change that led here. The URL alone, which anybody can link to, proves nothing.
fn done(asked: &Asked, last: Option<&Event>, now: Seconds) -> Option<Said> {
    let last = last.filter(|last| {
        asked.head.uri.query() == Some(AFTER_A_CHANGE) && (0..SAID_FOR).contains(&(now - last.at))
    })?;
    DONE.iter().find(|(what, _)| *what == last.what).map(|(_, said)| *said)
}

/// Redirects to the page after a change in this section.
fn changed(asked: &Asked, at: &str) -> Response {
    let page = asked.base().link("/account");
    Redirect::to(&format!("{page}?{AFTER_A_CHANGE}#{at}")).into_response()
}

fn session_of(asked: &Asked) -> Result<&Session, HttpError> {
    asked.visitor.session().ok_or_else(|| HttpError::new(StatusCode::UNAUTHORIZED))
}

async fn password(asked: &Asked) -> Result<Password, HttpError> {
    let password = asked.gate.password(&asked.head.extensions).await?;
    password.ok_or_else(|| HttpError::new(StatusCode::UNAUTHORIZED))
}

async fn proof(asked: &Asked) -> Result<Vec<u8>, HttpError> {
    Ok(password(asked).await?.proof(asked.gate.secrets()?))
}

/// Checks the password that comes with every change; returns whether it is right.
///
/// # Errors
/// Too many attempts: someone who finds an open session must not be able to guess at leisure.
async fn is_owner_present(asked: &Asked) -> Result<bool, HttpError> {
    let (who, password) = (who(asked)?, password(asked).await?);
    let tried = asked.try_password(&who, &password, asked.field("password")).await?;
    tried.map_err(|wait| {
        let seconds = wait.seconds();
        let words = format!("Too many tries. Please try again in {}.", in_words(seconds));
        HttpError::new(StatusCode::TOO_MANY_REQUESTS).message(words).retry_after(seconds)
    })
}

/// Whose attempts are counted here: the session's.
fn who(asked: &Asked) -> Result<Who, HttpError> {
    let number = session_of(asked)?.number().as_bytes();
    Ok(Who::Known(format!("session {}", asked.gate.secrets()?.code("throttle", number))))
}

/// `POST /account/sessions`
pub(super) async fn end_sessions(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked::read(gate.0, page, visitor, request).await?;
    let refused = async |words| show(&asked, Some(Said { at: SESSIONS, words })).await;
    if !is_owner_present(&asked).await? {
        return refused(WRONG_PASSWORD).await;
    }
    let (store, end, who, origin) =
        (&asked.gate.store, asked.field("end"), who(&asked)?, asked.origin());
    if end.is_empty() {
        return refused("Choose which browser to log out.").await;
    }
    if end == "everywhere" {
        let ended = store.write(|store| {
            throttle::forgive(store, &who)?;
            session::end_all(store)?;
            events::record(store, now(), events::ENDED_EVERYWHERE, &origin)
        });
        ended.await?;
        tracing::info!("The owner logged out everywhere.");
        return Ok(logged_out(&asked));
    }
    let ended = store.write(|store| {
        throttle::forgive(store, &who)?;
        let was_there = session::end_listed(store, end)?;
        if was_there {
            events::record(store, now(), events::ENDED, &origin)?;
        }
        Ok(was_there)
    });
    if !ended.await? {
        return refused("That session has ended already.").await;
    }
    tracing::info!("The owner ended a session of another browser.");
    Ok(changed(&asked, SESSIONS))
}

/// `POST /account/password`. Only if the password is the store's own: the site cannot change it anywhere else.
pub(super) async fn change_password(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked::read(gate.0, page, visitor, request).await?;
    let gate = &asked.gate;
    if gate.configured_password(&asked.head.extensions).is_some() {
        return Err(HttpError::new(StatusCode::CONFLICT).message(
            "The password is set in the program's configuration or in .htaccess. Change it there.",
        ));
    }
    let refused = async |words| show(&asked, Some(Said { at: PASSWORD, words })).await;
    if !is_owner_present(&asked).await? {
        return refused(WRONG_PASSWORD).await;
    }
    let new = asked.field("new");
    if let Some(words) = Password::weakness(new) {
        return refused(words).await;
    }
    if new != asked.field("again") {
        return refused("The two new passwords are not the same.").await;
    }
    let (secrets, in_session, origin) = (gate.secrets()?, who(&asked)?, asked.origin());
    let browser = asked.who(secrets, &proof(&asked).await?);
    let hash = asked.hash_of(&in_session, new).await?;
    let Ok(password) = Password::from_hash(&hash) else {
        return Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let written = gate.store.write(|store| {
        throttle::forgive(store, &in_session)?;
        set_fact(store, PASSWORD_FACT, Some(&hash))?;
        session::end_all(store)?;
        events::record(store, now(), events::PASSWORD_CHANGED, &origin)
    });
    written.await?;
    tracing::info!("The owner changed the password.");
    let mut response = changed(&asked, PASSWORD);
    begin_session(&asked, &browser, &password.proof(secrets), response.headers_mut()).await?;
    Ok(response)
}

/// `GET /account/second-factor`
pub(super) async fn second_factor_page(
    Extension(gate): Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    if visitor.session().is_none() {
        return Ok(gate.ask_to_log_in(&request, page.base()));
    }
    let asked = Asked::without_body(gate, page, visitor, request);
    show_second_factor(&asked, StatusCode::OK, None, &[]).await
}

async fn show_second_factor(
    asked: &Asked,
    status: StatusCode,
    trouble: Option<&str>,
    recovery_codes: &[String],
) -> Result<Response, HttpError> {
    let session = session_of(asked)?;
    let store = &asked.gate.store;
    let (is_on, kept) =
        store.read(|store| Ok((second_factor::is_on(store)?, session.kept(store)?))).await?;
    let mut values = context! {
        trouble => &trouble,
        is_on => &is_on,
        recovery_codes => &recovery_codes,
        key => &None::<String>,
        picture => &None::<Value>,
    };
    if !is_on {
        let secrets = asked.gate.secrets()?;
        let key = match kept.and_then(|kept| second_factor::unsealed(&kept, secrets)) {
            Some(key) => key,
            None => {
                let key = second_factor::new_key().map_err(no_randomness)?;
                let sealed = second_factor::seal(&key, secrets);
                store.write(|store| session.keep(store, Some(&sealed))).await?;
                key
            }
        };
        let host =
            asked.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("site");
        let picture = second_factor::picture(&second_factor::address(&key, host));
        let picture = picture.map(|(size, path)| json!({ "size": size, "path": path }));
        values.insert("picture", &picture);
        values.insert("key", &in_groups(&key));
    }
    let mut response = asked.page.show("second-factor.html", values);
    *response.status_mut() = status;
    Ok(response)
}

fn in_groups(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// What a form of the second factor requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    On,
    Off,
    NewCodes,
}

/// `POST /account/second-factor`
pub(super) async fn change_second_factor(
    gate: Extension<SharedGate>,
    page: Page,
    visitor: Visitor,
    request: Request,
) -> Result<Response, HttpError> {
    let asked = Asked::read(gate.0, page, visitor, request).await?;
    let change = match asked.field("action") {
        "on" => Change::On,
        "off" => Change::Off,
        "codes" => Change::NewCodes,
        _ => return Err(HttpError::new(StatusCode::BAD_REQUEST)),
    };
    let is_password = is_owner_present(&asked).await?;
    let (session, who, origin) = (session_of(&asked)?, who(&asked)?, asked.origin());
    let (gate, now, typed) = (&asked.gate, now(), asked.field("code"));
    let secrets = gate.secrets()?;
    let codes = second_factor::new_recovery_codes().map_err(no_randomness)?;
    let written = gate.store.write(|store| {
        let is_done = match change {
            Change::On => {
                let key = session.kept(store)?;
                let key = key.and_then(|kept| second_factor::unsealed(&kept, secrets));
                match key {
                    Some(key) if is_password && !second_factor::is_on(store)? => {
                        second_factor::turn_on(store, &key, typed, now, secrets, &codes)?
                    }
                    _ => false,
                }
            }
            Change::Off | Change::NewCodes => {
                second_factor::is_on(store)?
                    && second_factor::take(store, typed, now, secrets, is_password)?
            }
        };
        if !is_done {
            return Ok(false);
        }
        let what = match change {
            Change::On => {
                session.keep(store, None)?;
                session.end_others(store)?;
                events::SECOND_FACTOR_ON
            }
            Change::Off => {
                second_factor::turn_off(store)?;
                events::SECOND_FACTOR_OFF
            }
            Change::NewCodes => {
                second_factor::replace_recovery_codes(store, &codes)?;
                events::NEW_RECOVERY_CODES
            }
        };
        throttle::forgive(store, &who)?;
        events::record(store, now, what, &origin)?;
        Ok(true)
    });
    if !written.await? {
        let trouble = "The password or the code is not right. Codes change every 30 seconds, and the clock of the \
                       phone counts.";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show_second_factor(&asked, status, Some(trouble), &[]).await;
    }
    tracing::info!("The owner changed the second factor: {change:?}.");
    match change {
        Change::On | Change::NewCodes => {
            show_second_factor(&asked, StatusCode::OK, None, &codes).await
        }
        Change::Off => Ok(changed(&asked, SECOND_FACTOR)),
    }
}
