//! Starts and ends sessions, with the browser's cookies.

use axum::response::{IntoResponse, Redirect, Response};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;

use super::login_request::{LoginRequest, no_randomness};
use crate::http::error::HttpError;
use crate::login::client::Client;
use crate::login::clock::now;
use crate::login::session::{self, Session};
use crate::login::{cookies, throttle};
use crate::random::random;

/// How long a browser counts as known: a year, in seconds.
const KNOWN_SECONDS: i64 = 365 * 24 * 3600;

/// Starts a session under a new number, whatever number came with the request.
pub(super) async fn start_session(
    request: &LoginRequest,
    client: &Client,
    proof: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), HttpError> {
    let (gate, now) = (&request.gate, now());
    let secrets = gate.secrets().await?;
    let scope = request.scope()?;
    let number = session::new_number().map_err(no_randomness)?;
    let before = cookies::ours(&request.head.headers, cookies::SESSION, secrets);
    let (lifetime, origin) = (gate.settings.lifetime(), request.origin());
    let started = gate.store.write(async |store| {
        throttle::forgive(store, client).await?;
        for number in &before {
            session::end(store, number).await?;
        }
        Session::start(store, &number, proof, now, lifetime, &origin).await
    });
    started.await?;
    let seconds = lifetime.idle.min(lifetime.max);
    cookies::set(headers, cookies::SESSION, &number, seconds, &scope, secrets);
    let sent = &request.head.headers;
    for name in [cookies::SESSION, cookies::KNOWN] {
        cookies::replace(headers, sent, name, &scope);
    }
    cookies::remove(headers, sent, cookies::FORM, &scope);
    let browser = match client {
        Client::Known(number) => number.clone(),
        Client::Unknown(_) => BASE64URL_NOPAD.encode(&random::<12>().map_err(no_randomness)?),
    };
    let known = format!("{browser} {}", BASE64URL_NOPAD.encode(proof));
    cookies::set(headers, cookies::KNOWN, &known, KNOWN_SECONDS, &scope, secrets);
    Ok(())
}

/// Removes the cookie from a browser whose session has ended. If the request had no session, nothing is removed:
/// another site's form arrives without the cookie (`SameSite`), so nobody has checked whose it is.
pub(super) fn logged_out(request: &LoginRequest) -> Response {
    let mut response = Redirect::to(&request.base().link("/")).into_response();
    let scope = request.gate.scope(request.base(), request.is_https());
    if let (Some(_), Some(scope)) = (request.visitor.session(), scope) {
        cookies::remove(response.headers_mut(), &request.head.headers, cookies::SESSION, &scope);
    }
    response
}
