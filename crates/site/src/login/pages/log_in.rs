//! `/login` and `/logout`.

use std::collections::HashMap;

use axum::extract::Query;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use tera::context;

use super::attempts::{Admission, admission, try_password};
use super::login_request::{LoginRequest, WithoutBody};
use super::new_session::{logged_out, start_session};
use super::{set_up, waiting};
use crate::http::error::HttpError;
use crate::login::client::Client;
use crate::login::clock::now;
use crate::login::facts::or_set_up;
use crate::login::session::proof_of;
use crate::login::throttle::Wait;
use crate::login::{events, next, second_factor};

/// The login page, below BASE.
const LOGIN: &str = "/login";

/// `GET /login`
pub(super) async fn form(
    Query(fields): Query<HashMap<String, String>>,
    WithoutBody(request): WithoutBody,
) -> Result<Response, HttpError> {
    let request = LoginRequest { fields, ..request };
    if request.visitor.is_owner() {
        return Ok(onward(&request).await?.into_response());
    }
    let Some(password) = request.gate.password(&request.head.extensions).await? else {
        return show_form(&request, StatusCode::OK, None).await;
    };
    let secrets = request.gate.secrets().await?;
    let client = request.client(secrets, &proof_of(&password, secrets));
    let admission = admission(&request, &client).await?;
    match admission {
        Admission::Wait(wait @ Wait::Crowd(_)) => too_many_attempts(&request, wait).await,
        _ => show_form_with(&request, StatusCode::OK, None, admission.words().as_deref()).await,
    }
}

/// Shows the form, with what went wrong; or how to set a password if there is none.
async fn show_form(
    request: &LoginRequest,
    status: StatusCode,
    failure: Option<&str>,
) -> Result<Response, HttpError> {
    show_form_with(request, status, failure, None).await
}

/// Shows the form, with failure and success messages.
async fn show_form_with(
    request: &LoginRequest,
    status: StatusCode,
    failure: Option<&str>,
    notice: Option<&str>,
) -> Result<Response, HttpError> {
    let gate = &request.gate;
    let configured = gate.configured_password(&request.head.extensions);
    let state = gate.store.read(async |store| {
        Ok((
            or_set_up(store, configured.as_ref()).await?.is_some(),
            second_factor::is_on(store).await?,
        ))
    });
    let (has_password, asks_for_code) = state.await?;
    if !has_password {
        let context = context! { can_set_up => &set_up::is_possible(gate) };
        return Ok(request.page.show("no-password.html", context));
    }
    if let (Some(failure), true) = (failure, request.is_program()) {
        return Err(HttpError::new(status).message(failure));
    }
    let (token, cookie) = request.new_form().await?;
    let mut response = request.page.show(
        "login.html",
        context! {
            failure => &failure,
            notice => &notice,
            form_token => &token,
            next => request.field("next"),
            signed => request.field("signed"),
            asks_for_code => &asks_for_code,
        },
    );
    *response.status_mut() = status;
    response.headers_mut().extend(cookie);
    Ok(response)
}

/// `POST /login`
pub(super) async fn log_in(request: LoginRequest) -> Result<Response, HttpError> {
    if request.visitor.is_owner() {
        return Ok(onward(&request).await?.into_response());
    }
    request.refuse_forgery().await?;
    request.scope()?;
    let gate = &request.gate;
    let Some(password) = gate.password(&request.head.extensions).await? else {
        return show_form(&request, StatusCode::OK, None).await;
    };
    let secrets = gate.secrets().await?;
    let proof = proof_of(&password, secrets);
    let client = request.client(secrets, &proof);

    let is_password =
        match try_password(&request, &client, &password, request.field("password")).await? {
            Ok(is_password) => is_password,
            Err(wait) => return too_many_attempts(&request, wait).await,
        };
    let now = now();
    let code = request.field("code");
    let take = gate
        .store
        .write(async |store| second_factor::take(store, code, now, secrets, is_password).await);
    let is_owner = take.await?;
    let address = request.address().map(tracing::field::display);
    if !is_owner {
        tracing::warn!(address, "Login failed.");
        let asks_for_code = gate.store.read(second_factor::is_on).await?;
        let failure = match asks_for_code {
            true => "Wrong password or code.",
            false => "Wrong password.",
        };
        return show_form(&request, StatusCode::UNAUTHORIZED, Some(failure)).await;
    }
    tracing::info!(address, "The owner logged in.");
    if matches!(client, Client::Unknown(_)) {
        let origin = request.origin();
        gate.store
            .write(async |store| events::record(store, now, events::NEW_BROWSER, &origin).await)
            .await?;
    }
    let mut response = onward(&request).await?.into_response();
    start_session(&request, &client, &proof, response.headers_mut()).await?;
    Ok(response)
}

/// Asks a visitor to wait: in the form, or under load with the page that reloads it.
async fn too_many_attempts(request: &LoginRequest, wait: Wait) -> Result<Response, HttpError> {
    waiting::refuse_program(request, wait)?;
    let page = match wait {
        Wait::Own(_) => {
            let words = waiting::words(wait);
            show_form(request, StatusCode::TOO_MANY_REQUESTS, Some(&words)).await?
        }
        Wait::Crowd(_) => waiting::page(request, LOGIN),
    };
    Ok(waiting::refusing(page, wait))
}

/// `POST /logout`. The gate has checked that the form is ours.
pub(super) async fn log_out(request: LoginRequest) -> Result<Response, HttpError> {
    if let Some(session) = request.visitor.session() {
        request.gate.store.write(async |store| session.end(store).await).await?;
    }
    Ok(logged_out(&request))
}

/// Redirects to where the query or the form says.
async fn onward(request: &LoginRequest) -> Result<Redirect, HttpError> {
    let (next, signature) = (request.field("next"), request.field("signed"));
    let to = next::safe_or_signed(request.base(), next, signature, request.gate.secrets().await?);
    Ok(Redirect::to(&to))
}
