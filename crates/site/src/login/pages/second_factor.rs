//! `/account/second-factor`: turn it on and off, make new recovery codes.

use axum::response::Response;
use http::StatusCode;
use http::header::HOST;
use serde_json::{Value, json};
use storage::{StoreError, Transaction};
use tera::context;

use super::account::{SECOND_FACTOR, changed, client_of, is_owner_present, session_of};
use super::login_request::{LoginRequest, WithoutBody, no_randomness};
use crate::http::error::HttpError;
use crate::login::clock::{Seconds, now};
use crate::login::secrets::Secrets;
use crate::login::session::Session;
use crate::login::{events, second_factor, throttle};

/// `GET /account/second-factor`
pub(super) async fn page(WithoutBody(request): WithoutBody) -> Result<Response, HttpError> {
    if request.visitor.session().is_none() {
        return Ok(request.ask_to_log_in());
    }
    show(&request, StatusCode::OK, None, &[]).await
}

async fn show(
    request: &LoginRequest,
    status: StatusCode,
    failure: Option<&str>,
    recovery_codes: &[String],
) -> Result<Response, HttpError> {
    let session = session_of(request)?;
    let store = &request.gate.store;
    let (is_on, pending) = store
        .read(async |store| Ok((second_factor::is_on(store).await?, session.pending(store).await?)))
        .await?;
    let mut values = context! {
        failure => &failure,
        is_on => &is_on,
        recovery_codes => &recovery_codes,
        key => &None::<String>,
        picture => &None::<Value>,
    };
    if !is_on {
        let key = key_to_show(request, session, pending).await?;
        let host = request.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let site = request.server().name().title;
        let uri = second_factor::address(&key, site, host.unwrap_or("site"));
        let picture = second_factor::picture(&uri);
        let picture = picture.map(|(size, path)| json!({ "size": size, "path": path }));
        values.insert("picture", &picture);
        values.insert("key", &in_groups(&key));
    }
    let mut response = request.page.show("second-factor.html", values);
    *response.status_mut() = status;
    Ok(response)
}

/// Returns the key that the session was shown before, or a new one, so that reloading the page does not change it.
async fn key_to_show(
    request: &LoginRequest,
    session: &Session,
    pending: Option<String>,
) -> Result<String, HttpError> {
    let secrets = request.gate.secrets().await?;
    if let Some(key) = pending.and_then(|pending| second_factor::unsealed(&pending, secrets)) {
        return Ok(key);
    }
    let key = second_factor::new_key().map_err(no_randomness)?;
    let sealed = second_factor::seal(&key, secrets);
    request.gate.store.write(async |store| session.set_pending(store, Some(&sealed)).await).await?;
    Ok(key)
}

fn in_groups(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// `POST /account/second-factor`
pub(super) async fn change(request: LoginRequest) -> Result<Response, HttpError> {
    let change = Change::requested_by(&request)?;
    let is_password = is_owner_present(&request).await?;
    let (session, client, origin) =
        (session_of(&request)?, client_of(&request).await?, request.origin());
    let (gate, now) = (&request.gate, now());
    let codes = second_factor::new_recovery_codes().map_err(no_randomness)?;
    let proof =
        Proof { is_password, code: request.field("code"), now, secrets: gate.secrets().await? };
    let written = gate.store.write(async |store| {
        let Some(event) = change.make(store, session, &proof, &codes).await? else {
            return Ok(false);
        };
        throttle::forgive(store, &client).await?;
        events::record(store, now, event, &origin).await?;
        Ok(true)
    });
    if !written.await? {
        let failure = "Wrong password or code. Codes change every 30 seconds and depend on the phone's clock.";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&request, status, Some(failure), &[]).await;
    }
    tracing::info!(?change, "The owner changed the second factor.");
    match change {
        Change::On | Change::NewCodes => show(&request, StatusCode::OK, None, &codes).await,
        Change::Off => Ok(changed(&request, SECOND_FACTOR)),
    }
}

/// What a form of the second factor requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    On,
    Off,
    NewCodes,
}

/// What shows that the owner requests a change.
struct Proof<'a> {
    /// Whether the password was right.
    is_password: bool,
    /// The code that was typed.
    code: &'a str,
    now: Seconds,
    secrets: &'a Secrets,
}

impl Change {
    fn requested_by(request: &LoginRequest) -> Result<Change, HttpError> {
        match request.field("action") {
            "on" => Ok(Change::On),
            "off" => Ok(Change::Off),
            "codes" => Ok(Change::NewCodes),
            _ => Err(HttpError::new(StatusCode::BAD_REQUEST)),
        }
    }

    /// Makes the change and returns its event; `None` if the proof is wrong.
    async fn make(
        self,
        store: &Transaction<'_>,
        session: &Session,
        proof: &Proof<'_>,
        codes: &[String],
    ) -> Result<Option<&'static str>, StoreError> {
        let Proof { is_password, code, now, secrets } = *proof;
        if self == Change::On {
            let is_on = is_password && turn_on(store, session, proof, codes).await?;
            return Ok(is_on.then_some(events::SECOND_FACTOR_ON));
        }
        let is_proven = second_factor::is_on(store).await?
            && second_factor::take(store, code, now, secrets, is_password).await?;
        if !is_proven {
            return Ok(None);
        }
        if self == Change::Off {
            second_factor::turn_off(store).await?;
            return Ok(Some(events::SECOND_FACTOR_OFF));
        }
        second_factor::replace_recovery_codes(store, codes).await?;
        Ok(Some(events::NEW_RECOVERY_CODES))
    }
}

/// Turns the second factor on with the key that the session was shown, and ends all other sessions.
async fn turn_on(
    store: &Transaction<'_>,
    session: &Session,
    proof: &Proof<'_>,
    codes: &[String],
) -> Result<bool, StoreError> {
    let pending = session.pending(store).await?;
    let key = pending.and_then(|pending| second_factor::unsealed(&pending, proof.secrets));
    let Some(key) = key else { return Ok(false) };
    if second_factor::is_on(store).await?
        || !second_factor::turn_on(store, &key, proof.code, proof.now, proof.secrets, codes).await?
    {
        return Ok(false);
    }
    session.set_pending(store, None).await?;
    session.end_others(store).await?;
    Ok(true)
}
