//! `/account/second-factor`: turn it on and off, make new recovery codes.

use axum::response::Response;
use http::StatusCode;
use http::header::HOST;
use serde_json::{Value, json};
use tera::context;

use super::account::{SECOND_FACTOR, changed, client_of, is_owner_present, session_of};
use super::login_request::{LoginRequest, WithoutBody, no_randomness};
use crate::http::error::HttpError;
use crate::login::clock::now;
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
    trouble: Option<&str>,
    recovery_codes: &[String],
) -> Result<Response, HttpError> {
    let session = session_of(request)?;
    let store = &request.gate.store;
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
        let secrets = request.gate.secrets()?;
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
            request.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("site");
        let picture = second_factor::picture(&second_factor::address(&key, host));
        let picture = picture.map(|(size, path)| json!({ "size": size, "path": path }));
        values.insert("picture", &picture);
        values.insert("key", &in_groups(&key));
    }
    let mut response = request.page.show("second-factor.html", values);
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
pub(super) async fn change(request: LoginRequest) -> Result<Response, HttpError> {
    let change = match request.field("action") {
        "on" => Change::On,
        "off" => Change::Off,
        "codes" => Change::NewCodes,
        _ => return Err(HttpError::new(StatusCode::BAD_REQUEST)),
    };
    let is_password = is_owner_present(&request).await?;
    let (session, client, origin) = (session_of(&request)?, client_of(&request)?, request.origin());
    let (gate, now, typed) = (&request.gate, now(), request.field("code"));
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
        throttle::forgive(store, &client)?;
        events::record(store, now, what, &origin)?;
        Ok(true)
    });
    if !written.await? {
        let trouble = "Wrong password or code. Codes change every 30 seconds and depend on the phone's clock.";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&request, status, Some(trouble), &[]).await;
    }
    tracing::info!("The owner changed the second factor: {change:?}.");
    match change {
        Change::On | Change::NewCodes => show(&request, StatusCode::OK, None, &codes).await,
        Change::Off => Ok(changed(&request, SECOND_FACTOR)),
    }
}
